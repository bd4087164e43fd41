"""The heap of a process with threads, kept small: a login's 8 MiB go back to the system when it is over.

glibc keeps a heap (arena) for each thread, and once 8 MiB were freed it takes the next ones from there: after a few logins each of
waitress's threads held them (68 MiB instead of 36). mallopt(3) bounds both, whatever starts this process. musl has no mallopt: it
has one heap, and returns large blocks at once.
"""

from __future__ import annotations

# malloc.h: parameters of mallopt(3). One arena; blocks from 128 KiB on have a mapping of their own, as they have before the
# first one is freed (M_MMAP_THRESHOLD, which adjusts itself unless it is set).
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
THRESHOLD_BYTES, ARENAS = 128 * 1024, 1


def bound() -> bool:
    """Bound the heap of this process; called before its first thread. Return False where the C library does not offer it."""
    try:
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
    except (ImportError, OSError, AttributeError, MemoryError):  # the last: a system that forbids libffi its memory
        return False
    return bool(mallopt(M_ARENA_MAX, ARENAS) and mallopt(M_MMAP_THRESHOLD, THRESHOLD_BYTES))

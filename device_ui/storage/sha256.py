"""SHA-256 from Python itself: hashlib loads OpenSSL, 3.5 MiB, which a mail hook without mail does not need."""

from __future__ import annotations

# As Python's own random.py does. CPython 3.12 has renamed it; a Python that was built without has hashlib.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:
        from _sha2 import sha256
    except ImportError:
        try:
            from _sha256 import sha256
        except ImportError:
            from hashlib import sha256

__all__ = ["sha256"]

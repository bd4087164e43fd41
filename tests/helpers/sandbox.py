"""Run a program under the system call filters and the capabilities of a unit, without systemd as PID 1.

``python -m tests.helpers.sandbox UNIT PROGRAM …``. Applied are `SystemCallFilter=`, `RestrictAddressFamilies=`, `ProtectClock=` and
`CapabilityBoundingSet=` as systemd.exec(5) describes them; mounts, users and cgroups are not: these need a booted system.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

# seccomp.h
ALLOW, ERRNO, EQUAL = 0x7FFF0000, 0x00050000, 4
# sys/prctl.h
PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 23, 24, 38
# linux/capability.h
CAPABILITIES = {"CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_DAC_READ_SEARCH": 2, "CAP_FOWNER": 3, "CAP_FSETID": 4}
# sys/socket.h: AF_MAX
FAMILIES = 46


class Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`: one argument of a system call against one value."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


@functools.cache
def library() -> ctypes.CDLL:
    """libseccomp, which systemd brings."""
    found = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    found.seccomp_init.restype = ctypes.c_void_p
    found.seccomp_load.argtypes = [ctypes.c_void_p]
    found.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Comparison)
    ]  # fmt: skip
    return found


@functools.cache
def sets() -> dict[str, list[str]]:
    """Return the members of each set of system calls; some are sets themselves."""
    # All in one run: it takes as long as a run for one set, and a unit names a dozen with those in them.
    words = ["systemd-analyze", "--no-pager", "syscall-filter"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = re.findall(r"^(@[\w-]+)$((?:\n    .*)*)", done.stdout, re.MULTILINE)
    return {name: re.findall(r"^ {4}([@\w-]+)$", listed, re.MULTILINE) for name, listed in found}


@functools.cache
def calls(name: str) -> frozenset[str]:
    """Return the system calls of one, or of a set such as ``@system-service``."""
    return frozenset().union(*map(calls, sets()[name])) if name.startswith("@") else frozenset({name})


def values(unit: Path, name: str) -> list[str]:
    """Return the values of a setting, one for each of its lines."""
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


def permitted(unit: Path) -> frozenset[str]:
    """Return the system calls that a unit permits: the first line decides that it is a list of permitted ones."""
    found = calls("@default")
    for line in values(unit, "SystemCallFilter"):
        named = frozenset().union(*map(calls, line.lstrip("~").split()))
        found = found - named if line.startswith("~") else found | named
    return found - calls("@clock") if values(unit, "ProtectClock") == ["yes"] else found


def load(default: int, action: int, rules: Iterable[tuple[str, Comparison | None]]) -> None:
    """Apply one filter to this process, for ever."""
    seccomp = library()
    context = seccomp.seccomp_init(ctypes.c_uint32(default))
    for name, comparison in rules:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # a call of this architecture
            array = None if comparison is None else ctypes.pointer(comparison)
            assert seccomp.seccomp_rule_add_array(context, action, number, int(array is not None), array) == 0, name
    assert seccomp.seccomp_load(context) == 0


def enter(unit: Path) -> None:
    """Give up what the unit gives up."""
    kept = {CAPABILITIES[name] for line in values(unit, "CapabilityBoundingSet") for name in line.split()}
    families = {getattr(socket, each) for line in values(unit, "RestrictAddressFamilies") for each in line.split()}
    list_of_calls = permitted(unit)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if os.geteuid() == 0:
        for number in range(64):
            if number not in kept and prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1:
                assert prctl(PR_CAPBSET_DROP, number, 0, 0, 0) == 0
    assert prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    if families:
        others = [Comparison(0, EQUAL, each, 0) for each in range(FAMILIES) if each not in families]
        load(ALLOW, ERRNO | errno.EAFNOSUPPORT, [("socket", each) for each in others])
    load(ERRNO | errno.EPERM, ALLOW, [(name, None) for name in sorted(list_of_calls)])


if __name__ == "__main__":
    enter(Path(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])

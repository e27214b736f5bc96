"""What a child gives up before it reads anything that a user sent: network, files, privileges, resources.

Each is taken where the system allows it; what was taken is reported, so that an operator can see it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path

from workers import confine

FILE_BYTES = 8 << 30
OPEN_FILES = 256
SPARE_CPU_S = 30  # beyond the time limit: a job stops by itself, this is the net below it

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_NO_NEW_PRIVILEGES, _DROP_BOUNDING = 38, 24
_CAPABILITIES_V3 = 0x20080522
_PAGE = os.sysconf("SC_PAGE_SIZE")


def enter(home: Path | None = None) -> list[str]:
    """Gives up what is not needed, for good; names what was given up. Called once, before any thread.

    Args:
        home: the child's own folder (:class:`workers.children.Home`): it may read what lies in ``in`` and
            change what lies in ``out``, and reach no other file but those of its program; None: files stay
            as they are.
    """
    taken: list[str] = []
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    _limit(resource.RLIMIT_FSIZE, FILE_BYTES)
    taken.append("files")
    if sys.platform != "linux":
        return taken
    libc = ctypes.CDLL(None, use_errno=True)
    # a network namespace of its own holds no interface but a loopback that is down; whoever is not root
    # needs a user namespace for it, which some systems forbid
    if libc.unshare(_CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        taken.append("network")
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0:
        taken.append("new privileges")
    if _drop_capabilities(libc):
        taken.append("capabilities")
    if home is not None and confine.confine_files(libc, [*confine.program_files(), *_own(home)]):
        taken.append("files of others")
    if confine.refuse_calls(libc):
        taken.append("sockets")
    return taken


def _own(home: Path) -> list[tuple[Path, int]]:
    from bounds.relax.branch_points import cache_folder

    # tables that guide a search are read where somebody else has made them
    return [(home / "in", confine.READ), (home / "out", confine.CHANGE), (cache_folder(), confine.READ)]


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _drop_capabilities(libc: ctypes.CDLL) -> bool:
    """Root without capabilities: it may still read its own files, and nothing else that root may."""
    for number in range(64):
        libc.prctl(_DROP_BOUNDING, number, 0, 0, 0)
    header, none = _Header(_CAPABILITIES_V3, 0), (_Sets * 2)()
    return libc.capset(ctypes.byref(header), ctypes.byref(none)) == 0


def allow_memory(megabytes: int) -> bool:
    """From now on the process may grow by so much (address space); False where that cannot be limited."""
    used = address_space()
    if used is None:
        return False
    _limit(resource.RLIMIT_AS, used + (megabytes << 20), soft_only=True)
    return True


def allow_time(seconds: float, threads: int = 1) -> None:
    """From now on the process may use so much processor time, and some more."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    most = spent.ru_utime + spent.ru_stime + (seconds + SPARE_CPU_S) * max(threads, 1)
    _limit(resource.RLIMIT_CPU, int(min(most, 1 << 40)) + 1, soft_only=True)


def address_space() -> int | None:
    """Bytes of this process's address space, where the system says."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None


def resident() -> int:
    """Bytes of memory that this process has; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def _limit(what: int, value: int, *, soft_only: bool = False) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(what, (value, hard if soft_only else value))

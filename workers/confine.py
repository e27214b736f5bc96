"""What a Linux child can take from itself without being root: files (Landlock) and system calls (seccomp).

Both bind the process for good, and whatever it starts. Landlock (kernel 5.13 and later) makes every file that
is not below a named folder unreachable, whatever its mode; what was opened before stays open. It binds the
calling thread, so it must come before any other is started. The filter of system calls refuses sockets of any
family (a network namespace alone leaves those that have a name in the file system), reaching into other
processes, and what only administrators need. See landlock(7) and seccomp(2); the numbers are those of the
kernel's headers.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on every architecture
_VERSION_QUERY, _PATH_BENEATH, _NO_NEW_PRIVILEGES = 1, 1, 38
_EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE, _MAKE, _LINK = 3 << 4, 1 << 7 | 1 << 8, 1 << 12  # folders and files; symbolic links
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15  # since versions 2, 3 and 5
_RIGHTS: Final = (13, 13, 14, 15, 15)  # bits that versions 1, 2, ... know; later ones know 16
_OF_FILES: Final = _EXECUTE | _WRITE | _READ | _TRUNCATE | _IOCTL
_TCP, _SCOPES = 3, 3  # binding and connecting (4); signals and abstract sockets of others (6)

READ: Final = _READ | _LIST
CHANGE: Final = READ | _WRITE | _REMOVE | _MAKE | _LINK | _TRUNCATE
DEVICE: Final = _READ | _WRITE | _IOCTL


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Rule(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("rights", ctypes.c_uint64), ("folder", ctypes.c_int32))


def version(libc: ctypes.CDLL) -> int:
    """Of Landlock; 0 where there is none."""
    return max(int(libc.syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION_QUERY)), 0)


def confine_files(libc: ctypes.CDLL, allowed: Iterable[tuple[Path, int]]) -> bool:
    """From now on only what lies below these paths can be opened, with these rights; False if impossible.

    Paths that do not exist are passed over. Executing is refused everywhere.
    """
    known = version(libc)
    if not known:
        return False
    handled = (1 << (_RIGHTS[known - 1] if known <= len(_RIGHTS) else 16)) - 1
    rules = _Ruleset(handled, _TCP if known >= 4 else 0, _SCOPES if known >= 6 else 0)
    size = 8 * (1 if known < 4 else 2 if known < 6 else 3)
    ruleset = int(libc.syscall(_CREATE, ctypes.byref(rules), ctypes.c_size_t(size), 0))
    if ruleset < 0:
        return False
    try:
        for path, rights in allowed:
            if not _allow(libc, ruleset, path, rights & handled):
                return False
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        return libc.syscall(_RESTRICT, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> bool:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return True  # nothing there that could be reached
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _OF_FILES
        rule = _Rule(rights, place)
        return libc.syscall(_ADD, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0) == 0
    finally:
        os.close(place)


def program_files() -> list[tuple[Path, int]]:
    """What a Python program reads to run at all: interpreter, packages, libraries, facts about the machine.

    Not among them: ``/etc`` but for what the loader and the clock read, ``/proc`` but for the process itself,
    the home folder, ``/tmp``, ``/var``, ``/run``.
    """
    import sysconfig

    read = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *sys.path}
    read |= {str(path) for path in sysconfig.get_paths().values()}
    read |= {"/usr", "/lib", "/lib32", "/lib64", "/libx32", "/sys/devices/system", "/sys/bus", "/sys/module"}
    read |= {"/etc/ld.so.cache", "/etc/localtime", "/etc/timezone", "/etc/ld.so.conf", "/etc/ld.so.conf.d"}
    read |= {f"/proc/{name}" for name in ("cpuinfo", "meminfo", "stat", "version", "filesystems", "driver")}
    read |= {f"/proc/{os.getpid()}", "/proc/sys/vm", "/proc/sys/kernel", "/sys/fs/cgroup"}
    read |= set(os.environ.get("LD_LIBRARY_PATH", "").split(":"))
    found = [(Path(text), READ) for text in sorted(read) if text and Path(text) != Path("/")]
    devices = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/dri", "/dev/nvidia-caps"]
    devices += [str(path) for path in Path("/dev").glob("nvidia*")]
    return found + [(Path(text), DEVICE | _LIST) for text in devices]


_AUDIT: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# system call -> its number on (x86_64, aarch64)
REFUSED: Final = {
    "socket": (41, 198), "io_uring_setup": (425, 425), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "unshare": (272, 97), "setns": (308, 268), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "open_by_handle_at": (304, 265), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "reboot": (169, 142), "swapon": (167, 224),
}  # fmt: skip
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # BPF
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
_SET_SECCOMP, _FILTER, _X32 = 22, 2, 0x40000000


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("yes", ctypes.c_uint8),
        ("no", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction)))


def refuse_calls(libc: ctypes.CDLL, refused: Sequence[str] = tuple(REFUSED)) -> bool:
    """From now on these system calls fail as not permitted; False where that is impossible."""
    machine = platform.machine()
    if machine not in _AUDIT:
        return False
    column = list(_AUDIT).index(machine)
    numbers = [REFUSED[name][column] for name in refused]
    tests = [(_AT_LEAST, _X32)] * (machine == "x86_64") + [(_EQUAL, number) for number in numbers]
    # architecture (another one would mean other numbers), number, tests, allow, refuse, kill
    code = [(_LOAD, 0, 0, 4), (_EQUAL, 0, len(tests) + 3, _AUDIT[machine]), (_LOAD, 0, 0, 0)]
    code += [(kind, len(tests) - i, 0, k) for i, (kind, k) in enumerate(tests)]
    code += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _KILL)]
    instructions = (_Instruction * len(code))(*(_Instruction(*one) for one in code))
    program = _Program(len(code), instructions)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    return libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0) == 0

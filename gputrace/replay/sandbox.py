"""Take rights away from this process: it is about to run GPU code that a stranger wrote.

That code is checked as it is compiled; this is the second wall. What is taken away cannot be had
back: new processes and programs, the network, other processes' memory, kernel settings, and more
than a share of memory. What the kernel does not offer is left out; the rest still holds.

Sources: linux/prctl.h, linux/seccomp.h, linux/filter.h, asm/unistd_64.h (x86-64),
asm-generic/unistd.h (arm64).
"""

import ctypes
import os
import platform
import resource
import signal
import struct
from collections.abc import Iterable
from dataclasses import dataclass

_NO_NEW_PRIVS, _SECCOMP, _DEATH_SIGNAL = 38, 22, 1  # PR_SET_*
_FILTER = 2  # SECCOMP_MODE_FILTER
_LOAD, _EQUAL, _GREATER_EQUAL, _BITS_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF_0000, 0x0005_0000
_EPERM, _ENOSYS = 1, 38
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x4000_0000  # system calls of the other x86-64 ABI
_CLONE_THREAD = 0x0001_0000

_REFUSED: dict[str, tuple[int, int]] = {
    "fork": (57, -1), "vfork": (58, -1), "execve": (59, 221), "execveat": (322, 281),
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200),
    "listen": (50, 201), "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206),
    "sendmsg": (46, 211), "kill": (62, 129), "tkill": (200, 130), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "unshare": (272, 97), "setns": (308, 268), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "bpf": (321, 280), "perf_event_open": (298, 241), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "io_uring_setup": (425, 425),
    "open_by_handle_at": (304, 265), "reboot": (169, 142), "chmod": (90, -1), "fchmod": (91, 52),
    "fchmodat": (268, 53), "chown": (92, -1), "fchown": (93, 55), "fchownat": (260, 54),
}  # fmt: skip
"""System calls that a replay has no business with: numbers on x86-64 and arm64."""
_CLONE, _CLONE3 = (56, 220), (435, 435)
_MACHINES = {"x86_64": (0, 0xC000_003E), "aarch64": (1, 0xC000_00B7)}  # column, AUDIT_ARCH_*


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use: seconds of time, bytes of private memory, bytes of one file.

    A replay that is not over after `seconds` ends with a verdict; after `grace` more its process
    is killed.
    """

    seconds: float = 300.0
    grace: float = 10.0
    memory: int = 16 << 30
    file: int = 1 << 40


def restrict(limits: Limits, keep: Iterable[int], *, forks: bool = False) -> None:
    """Take rights away from this process; only 0, 1, 2 and the descriptors of `keep` stay open.

    With `forks` it may still make copies of itself, which have no more rights than it has.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    _close_others(keep)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_DATA, limits.memory)
    _lower(resource.RLIMIT_FSIZE, limits.file)
    _lower(resource.RLIMIT_NOFILE, 1024)
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    _filter_calls(libc, forks)


def _close_others(keep: Iterable[int]) -> None:
    kept = sorted({0, 1, 2, *keep})
    top = max(resource.getrlimit(resource.RLIMIT_NOFILE)[0], kept[-1] + 1)
    for low, high in zip(kept, [*kept[1:], min(top, 1 << 20)], strict=True):
        os.closerange(low + 1, high)


def _lower(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard == resource.RLIM_INFINITY or value < hard:
        resource.setrlimit(what, (value, value))


def _filter_calls(libc: ctypes.CDLL, forks: bool) -> None:
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return
    program = _program(*machine, forks)
    code = ctypes.create_string_buffer(program)
    header = struct.pack("<H6xQ", len(program) // 8, ctypes.addressof(code))  # struct sock_fprog
    libc.prctl(_SECCOMP, _FILTER, ctypes.create_string_buffer(header), 0, 0)


def _program(column: int, architecture: int, forks: bool) -> bytes:
    allowed = ("fork", "vfork") if forks else ()
    refused = [
        numbers[column]
        for name, numbers in _REFUSED.items()
        if numbers[column] >= 0 and name not in allowed
    ]
    deny, unknown = _ERRNO | _EPERM, _ERRNO | _ENOSYS
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, deny),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if column == 0:
        steps += [(_GREATER_EQUAL, 0, 1, _X32), (_RETURN, 0, 0, unknown)]
    for number in refused:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, deny)]
    steps += [(_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, unknown)]
    steps += [
        (_EQUAL, 0, 4, _CLONE[column]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_BITS_SET, 1, 0, _CLONE_THREAD),  # a thread is no new process
        (_RETURN, 0, 0, _ALLOW if forks else deny),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("<HBBI", *step) for step in steps)

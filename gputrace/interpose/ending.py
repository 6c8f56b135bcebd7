"""Which signal ended a process that is not ours to wait for."""

import fcntl
import signal
import struct
from pathlib import Path

from gputrace.trace.events import Outcome

# <linux/pidfd.h> of Linux 6.15: struct pidfd_info as PIDFD_INFO_SIZE_VER0 has it.
_INFO = struct.Struct("<QQ11Ii")  # mask, cgroup, eleven ids, exit status
_PIDFD_GET_INFO, _PIDFD_INFO_EXIT = 0xC040_FF0B, 1 << 3
_STATE, _EXIT_CODE = 0, 49  # fields of /proc/PID/stat behind the name (proc_pid_stat(5))
_SIGNAL = 0x7F  # of a status of wait(2); a core dump is another bit


def outcome(process: int, descriptor: int) -> Outcome:
    """Return how a program ended: killed, or by itself as far as can be known.

    `descriptor` is a pidfd of it. Of a process that its parent has waited for only Linux 6.15 and
    later can tell; one that still runs was not killed.
    """
    status = _of_zombie(process)
    if status is None:
        status = _of_gone(descriptor)
    number = (status or 0) & _SIGNAL
    return by_signal(number) if number else Outcome("ended")


def by_signal(number: int) -> Outcome:
    """Return the outcome of a program that a signal ended."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return Outcome("killed", f"the program was ended by {name}")


def _of_zombie(process: int) -> int | None:
    # None unless it has ended and nobody has waited for it yet.
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return int(fields[_EXIT_CODE]) if fields[_STATE] in "ZX" else None


def _of_gone(descriptor: int) -> int | None:
    data = bytearray(_INFO.size)
    _INFO.pack_into(data, 0, _PIDFD_INFO_EXIT, *[0] * 13)
    try:
        fcntl.ioctl(descriptor, _PIDFD_GET_INFO, data)
    except OSError:
        return None
    mask, *_, status = _INFO.unpack(data)
    return int(status) if mask & _PIDFD_INFO_EXIT else None

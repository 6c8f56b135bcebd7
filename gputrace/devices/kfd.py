"""The kernel's KFD: /dev/kfd, the render nodes and sysfs of this machine.

The kernel ties /dev/kfd to the process that opened it and answers EBADF to a child, so a device
notices a fork and refuses by name instead. It has one object for a process, which outlives every
file, so the nodes are opened once and shared by all `RealKfd`. Source: Linux
drivers/gpu/drm/amd/amdkfd/kfd_chardev.c.
"""

import errno
import fcntl
import os
import threading
import time
import weakref
from collections.abc import Mapping as MappingOf
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from gputrace.bits import Record
from gputrace.errors import KfdError, UsageError
from gputrace.formats.ioctl import BY_RECORD, GetVersion
from gputrace.kfd import host
from gputrace.kfd.port import Fault, Labelled, Mapping, Progress, Protection, Stall
from gputrace.kfd.topology import SYSFS, Topology, read_topology
from gputrace.kfd.versions import MODULE, kernel_versions

R = TypeVar("R", bound=Record)

_GET_VERSION = BY_RECORD[GetVersion].request_for(4 * GetVersion.WORDS)


class _Shared:
    """The nodes that this process has open: each once, until it ends.

    The kernel keeps a process's state until its memory goes, whatever is closed before, and binds
    its VM to the first file of a render node: another one later would be EBUSY.
    """

    lock = threading.Lock()
    files: ClassVar[dict[str, int]] = {}
    pid = 0

    @classmethod
    def take(cls, path: Path) -> int:
        with cls.lock:
            if cls.pid != os.getpid():  # a child has the descriptors but may not use them
                cls.pid = os.getpid()
                cls.files.clear()
            name = str(path)
            if name not in cls.files:
                cls.files[name] = _open(name)
            return cls.files[name]


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as problem:
        raise KfdError("open", problem.errno or errno.EIO, {"path": path}) from None


def _call(fd: int, request: int, data: bytearray) -> int:
    """Return 0 or the errno; calls again after a signal and while the kernel says EAGAIN."""
    while True:
        try:
            fcntl.ioctl(fd, request, data, True)
        except OSError as problem:
            if problem.errno in (errno.EINTR, errno.EAGAIN):
                continue
            return problem.errno or errno.EIO
        return 0


def _release_view(mapping: Mapping) -> None:
    if not mapping.view:
        return
    # All slices and arrays share the object below; releasing one view says nothing about others.
    below = weakref.ref(mapping.view.obj)
    writable = not mapping.view.readonly
    mapping.view.release()
    if below() is not None:
        mapping.view = host.view(mapping.address, mapping.size, writable)
        raise UsageError(f"views of the mapping at {mapping.address:#x} are in use")


class RealKfd:
    """The port on the kernel's own nodes; `devices`, `sysfs` and `module` are where they are."""

    def __init__(
        self,
        index: int = 0,
        devices: Path = Path("/dev"),
        sysfs: Path = SYSFS,
        module: Path = MODULE,
    ) -> None:
        self._index, self._devices, self._sysfs, self._module = index, devices, sysfs, module
        self._topology: Topology | None = None
        self._fd = -1
        self._pid = 0
        self._render: dict[int, int] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The name that opens this device again."""
        return f"kfd:{self._index}"

    @property
    def versions(self) -> MappingOf[str, str]:
        """Those of this machine; "kfd" is there only when the device can be opened."""
        versions = kernel_versions(self._module)
        with suppress(KfdError):
            data = bytearray(GetVersion().to_bytes())
            if not _call(_Shared.take(self._devices / "kfd"), _GET_VERSION, data):
                version = GetVersion.from_bytes(data)
                versions["kfd"] = f"{version.major_version}.{version.minor_version}"
        return versions

    @property
    def lasting(self) -> bool:
        """True: the kernel keeps what was not freed until the process ends."""
        return True

    @property
    def topology(self) -> Topology:
        """The nodes of this machine. Raises UsageError when the driver is not loaded."""
        if self._topology is None:
            self._topology = read_topology(self._sysfs)
        return self._topology

    def open(self) -> None:
        """Open /dev/kfd, or share it when this process has it open. Raises KfdError."""
        if self._fd >= 0:
            raise KfdError("open", errno.EBUSY, {"path": str(self._devices / "kfd")})
        self._fd = _Shared.take(self._devices / "kfd")
        self._pid = os.getpid()

    def close(self) -> None:
        """Let go of the nodes; the process keeps them open for the next `RealKfd`."""
        self._render.clear()
        self._fd = -1

    def _mine(self) -> int:
        if self._fd < 0:
            raise UsageError(f"{self.name} is not open")
        if self._pid != os.getpid():
            raise UsageError(
                f"{self.name} was opened by process {self._pid} and this is a fork of it: "
                "open the device after the fork"
            )
        return self._fd

    def ioctl(self, record: R, tail: bytearray | None = None) -> R:
        """Call an ioctl; repeated after EINTR and EAGAIN as libhsakmt does. Raises KfdError."""
        entry = BY_RECORD.get(type(record))
        if entry is None:
            raise UsageError(f"{type(record).__name__} is not the argument of an ioctl")
        fixed = record.to_bytes()
        data = bytearray(fixed + (tail or b""))
        problem = _call(self._mine(), entry.request_for(len(data)), data)
        if problem:
            fields = {field.name: getattr(record, field.name) for field in record.FIELDS}
            raise KfdError(entry.name, problem, fields)
        if tail is not None:
            tail[:] = data[len(fixed) :]
        return type(record).from_bytes(data[: len(fixed)])

    def render_ioctl(self, minor: int, request: int, data: bytearray) -> None:
        """Call a DRM ioctl; `data` is changed in place. Raises KfdError."""
        problem = _call(self.open_render(minor), request, data)
        if problem:
            raise KfdError(f"renderD{minor}", problem, {"request": request})

    def open_render(self, minor: int) -> int:
        """Return the descriptor of a render node, opened once. Raises KfdError."""
        self._mine()
        with self._lock:
            if minor not in self._render:
                self._render[minor] = _Shared.take(self._devices / "dri" / f"renderD{minor}")
            return self._render[minor]

    def map(
        self,
        *,
        fd: Literal["kfd"] | int,
        offset: int,
        size: int,
        address: int | None = None,
        protection: Protection = Protection.BOTH,
    ) -> Mapping:
        """Map what lies at `offset` of a descriptor. Raises KfdError("mmap")."""
        where = self._mine() if fd == "kfd" else int(fd)
        at = host.map_shared(where, offset, size, address, int(protection))
        shown = 0 if protection is Protection.NONE else size
        view = host.view(at, shown, writable=bool(protection & Protection.WRITE))
        return Mapping(at, size, view, offset)

    def unmap(self, mapping: Mapping) -> None:
        """Cover a mapping with a reservation. Raises UsageError while views of it live."""
        _release_view(mapping)
        host.cover(mapping.address, mapping.size)

    def reserve(self, size: int, address: int | None = None, alignment: int = 4096) -> int:
        """Keep addresses free. Raises KfdError("mmap", EEXIST) when they are in use."""
        return host.reserve(size, address, alignment)

    def release(self, address: int, size: int) -> None:
        """Give a reserved range back."""
        host.unmap(address, size)

    def label(self, address: int, size: int, what: Labelled, name: str) -> None:
        """Keep nothing: the kernel has no place for names."""

    def doorbell(self, address: int, value: int, bits: int = 64) -> None:
        """Store fence, then one store."""
        host.ring(address, value, bits)

    def clock(self) -> int:
        """Return nanoseconds of the monotonic clock."""
        return time.monotonic_ns()

    def idle(self, until_ns: int | None = None) -> Progress:
        """Yield the processor; with a deadline sleep for at most a tenth of a millisecond."""
        if until_ns is None:
            os.sched_yield()
            return Progress.ADVANCED
        left = until_ns - time.monotonic_ns()
        if left <= 0:
            return Progress.EXPIRED
        time.sleep(min(left, 100_000) / 1e9)
        return Progress.ADVANCED

    def stalls(self) -> Sequence[Stall]:
        """Return nothing: hardware does not tell what its queues wait for."""
        return ()

    def faults(self) -> Sequence[Fault]:
        """Return nothing: faults of hardware come as KFD events."""
        return ()


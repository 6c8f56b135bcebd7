"""Buffers: memory that the CPU and GPUs share, with exact sizes and checked bounds."""

import ctypes
import mmap
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gputrace.driver.mechanism import Block
from gputrace.errors import UsageError
from gputrace.formats.ioctl import AllocFlag
from gputrace.kfd import host

Kind = Literal["vram", "gtt", "userptr"]
Data = bytes | bytearray | memoryview | npt.NDArray[Any]

_ALWAYS = AllocFlag.WRITABLE | AllocFlag.NO_SUBSTITUTE
# What tinygrad's ops_amd.py and libhsakmt ask for: device memory cached, host memory coherent.
FLAGS: dict[Kind, AllocFlag] = {
    "vram": _ALWAYS | AllocFlag.VRAM | AllocFlag.PUBLIC,
    "gtt": _ALWAYS | AllocFlag.GTT | AllocFlag.COHERENT | AllocFlag.UNCACHED,
    "userptr": _ALWAYS | AllocFlag.USERPTR | AllocFlag.COHERENT,
}


class UserMemory:
    """Pages of this process for a USERPTR allocation: its own, or those of a file that is shared.

    A file that is too short is made longer. Raises OSError when it cannot be used.
    """

    def __init__(self, size: int, file: str | Path | None = None) -> None:
        if file is None:
            self._pages = mmap.mmap(-1, size)
        else:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(descriptor).st_size < size:
                    os.ftruncate(descriptor, size)
                self._pages = mmap.mmap(descriptor, size)
            finally:
                os.close(descriptor)
        anchor = ctypes.c_ubyte.from_buffer(self._pages)
        self.address = ctypes.addressof(anchor)
        del anchor
        self.view = host.view(self.address, size)

    def detach(self) -> None:
        """Let go of the view, before the GPU loses the pages; UsageError while it is in use."""
        # All slices and arrays share the object below; releasing one view does not see the others.
        below, size = weakref.ref(self.view.obj), len(self.view)
        self.view.release()
        if below() is not None:
            self.view = host.view(self.address, size)
            raise UsageError("views of user memory are in use")

    def close(self) -> None:
        """Give the pages back; nothing refers to them any more."""
        self._pages.close()


class Buffer:
    """`size` bytes at GPU address `address`; unusable after `free`."""

    def __init__(
        self,
        block: Block,
        size: int,
        kind: Kind,
        release: "Callable[[Buffer], None]",
        wrote: Callable[[bool], None] | None,
        user: UserMemory | None = None,
        name: str = "",
        owner: object = None,
    ) -> None:
        self.address, self.size, self.kind, self.name = block.address, size, kind, name
        self.block, self.user, self.owner = block, user, owner
        self._release, self._wrote = release, wrote
        self._freed = False

    def __repr__(self) -> str:
        state = ", freed" if self._freed else ""
        name = f" {self.name!r}" if self.name else ""
        return f"<Buffer{name} {self.kind} {self.address:#x}+{self.size:#x}{state}>"

    @property
    def end(self) -> int:
        """The first address after the buffer."""
        return self.address + self.size

    @property
    def freed(self) -> bool:
        """Whether `free` was called."""
        return self._freed

    def check(self, offset: int, size: int, what: str) -> None:
        """Raise UsageError unless [offset, offset + size) is inside a live buffer."""
        if self._freed:
            raise UsageError(f"{what}: {self!r} was freed")
        if offset < 0 or size < 0 or offset + size > self.size:
            raise UsageError(
                f"{what}: bytes {offset} to {offset + size} are not inside {self.size} bytes"
            )

    @property
    def memory(self) -> memoryview:
        """The buffer's whole pages as the CPU sees them."""
        return self.user.view if self.user is not None else self.block.view

    def write(self, data: Data, offset: int = 0) -> None:
        """Copy bytes or an array into the buffer. Raises UsageError when they do not fit."""
        source = _as_bytes(data)
        self.check(offset, len(source), "write")
        self.memory[offset : offset + len(source)] = source
        if self._wrote is not None:
            self._wrote(False)

    def read(self, size: int | None = None, offset: int = 0) -> bytes:
        """Return `size` bytes from `offset`, by default all the rest."""
        count = self.size - offset if size is None else size
        self.check(offset, count, "read")
        return bytes(self.memory[offset : offset + count])

    def fill(self, value: int = 0, size: int | None = None, offset: int = 0) -> None:
        """Set bytes to `value` (0 to 255), by default all from `offset` on."""
        count = self.size - offset if size is None else size
        self.check(offset, count, "fill")
        if not 0 <= value <= 255:
            raise UsageError(f"fill: a byte is 0 to 255, not {value}")
        np.frombuffer(self.memory, np.uint8)[offset : offset + count] = value
        if self._wrote is not None:
            self._wrote(False)

    def view(
        self, dtype: npt.DTypeLike = np.uint8, offset: int = 0, count: int | None = None
    ) -> npt.NDArray[Any]:
        """Return an array over the buffer's own bytes; while it lives, `free` is refused."""
        item = np.dtype(dtype).itemsize
        number = (self.size - offset) // item if count is None else count
        self.check(offset, number * item, "view")
        if self._wrote is not None:
            self._wrote(True)
        return np.frombuffer(self.memory, dtype, number, offset)

    def free(self) -> None:
        """Give the memory back. Raises UsageError when it was freed or views of it are in use."""
        self.check(0, 0, "free")
        self._release(self)
        self._freed = True

    def poison(self) -> None:
        """Make the buffer unusable: its device is closed."""
        self._freed = True


def _as_bytes(data: Data) -> memoryview:
    if isinstance(data, np.ndarray):
        data = np.ascontiguousarray(data)
        return data.reshape(-1).view(np.uint8).data if data.size else memoryview(b"")
    try:
        return memoryview(data).cast("B")
    except TypeError:
        raise UsageError(f"expected bytes or an array, found {type(data).__name__}") from None

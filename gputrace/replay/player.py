"""Do the events of a trace again on a device, each when as much has happened as was recorded."""

import ctypes
from dataclasses import replace
from typing import Protocol

from gputrace.errors import Divergence, KfdError, UsageError
from gputrace.formats import ioctl
from gputrace.kfd import host
from gputrace.kfd.port import Kfd, Mapping, Progress, Protection
from gputrace.replay.names import Names, check_outputs
from gputrace.replay.verdict import Difference, Result, Signature, Verdict
from gputrace.trace import events
from gputrace.trace.chunks import describe
from gputrace.trace.reader import TraceReader

RECORDS = {record.__name__: record for record in ioctl.BY_RECORD}
AFTER_STEPS = 10_000_000
"""Steps that a device may take after the last event, before it counts as going on for ever."""


class Steppable(Kfd, Protocol):
    """A device whose work is counted in steps, as the emulated one's is."""

    @property
    def step(self) -> int:
        """Steps taken."""

    def advance(self, step: int, clock_ns: int) -> None:
        """Take steps until `step` have been taken, then move the clock on to `clock_ns`."""


class Player:
    """Replays one trace on one device that counts its steps.

    `run` returns the verdict; the device is closed then. Raises UsageError when the trace cannot be
    placed in this process, Divergence when the device answers otherwise than recorded.
    """

    def __init__(self, reader: TraceReader, device: Steppable) -> None:
        self._reader, self._device = reader, device
        self._names = Names()
        self._maps: dict[int, Mapping] = {}
        self._reserved: dict[int, int] = {}
        self._offsets: dict[tuple[str, int], int] = {}  # recorded mmap offset -> live one
        self._compared = self._written = 0
        self._difference: Difference | None = None
        self._failure: Verdict | None = None
        self._queues = 0

    def run(self) -> Verdict:
        """Replay every event and say what came of it."""
        try:
            for number, event in self._reader.numbered():
                self._apply(number, event)
            return self._verdict()
        finally:
            self._release()

    def _apply(self, number: int, event: events.Event) -> None:
        step = getattr(event, "step", -1)
        if step >= 0:
            self._device.advance(step, getattr(event, "time", 0))
        match event:
            case events.Open(target="kfd"):
                self._device.open()
            case events.Open():
                minor = int(event.target.removeprefix("render:"))
                self._names.bind("fd", event.handle, self._device.open_render(minor))
            case events.Reserve():
                self._reserve(event.address, event.size, event.alignment)
            case events.Release():
                self._give_back(event.address, event.size)
            case events.Map():
                self._map(event)
            case events.Unmap():
                self._device.unmap(self._maps.pop(event.address))
            case events.Ioctl():
                self._ioctl(event)
            case events.Memory(provenance="cpu") | events.Memory(provenance="unknown"):
                for address, data in self._reader.pieces(event):
                    host.view(*self._inside(address, len(data)))[:] = data
            case events.HostStore():
                host.view(*self._inside(event.address, len(event.data)))[:] = event.data
            case events.DoorbellIntent():
                self._inside(event.address, event.bits // 8)
                self._device.doorbell(event.address, event.value, event.bits)
            case events.Digest():
                self._compare(number, event)

    def _reserve(self, address: int, size: int, alignment: int) -> None:
        try:
            self._device.reserve(size, address, alignment)
        except KfdError as error:
            raise UsageError(
                f"address {address:#x}+{size:#x} of the trace is in use in this process"
            ) from error
        self._reserved[address] = size

    def _give_back(self, address: int, size: int) -> None:
        # With a range go the mappings in it.
        if self._reserved.pop(address, None) != size:
            raise UsageError(f"the trace releases {address:#x}+{size:#x}, which it did not reserve")
        for start in [start for start in self._maps if address <= start < address + size]:
            self._device.unmap(self._maps.pop(start))
        self._device.release(address, size)

    def _map(self, event: events.Map) -> None:
        if not any(
            start <= event.address and event.address + event.size <= start + size
            for start, size in self._reserved.items()
        ):
            self._reserve(event.address, event.size, host.PAGE)
        on_kfd = event.target == "kfd"
        handle = 0 if on_kfd else self._names.live("fd", int(event.target.removeprefix("fd:")))
        self._maps[event.address] = self._device.map(
            fd="kfd" if on_kfd else handle,
            offset=self._offsets.get((event.target, event.offset), event.offset),
            size=event.size,
            address=event.address,
            protection=Protection(event.protection),
        )

    def _inside(self, address: int, size: int) -> tuple[int, int]:
        # A trace may name any address; only what it mapped here is written.
        for start, mapping in self._maps.items():
            if start <= address and address + size <= start + mapping.size:
                return address, size
        raise UsageError(f"the trace writes {size} bytes at {address:#x}, where it maps nothing")

    def _ioctl(self, event: events.Ioctl) -> None:
        layout = RECORDS.get(event.record)
        if event.target != "kfd" or layout is None:
            raise UsageError(f"the trace has a call that cannot be replayed: {event.record}")
        before, after = layout.from_bytes(event.before), layout.from_bytes(event.after)
        pointed = {
            payload.field: ctypes.create_string_buffer(
                payload.before or bytes(len(payload.after)),
                max(len(payload.before), len(payload.after), 1),
            )
            for payload in event.payloads
        }
        changes = {name: ctypes.addressof(space) for name, space in pointed.items()}
        record = self._names.translate(before.replace(**changes))
        if isinstance(record, ioctl.DestroyQueue):
            self._look()
        number = 0
        try:
            live = self._device.ioctl(record, bytearray(event.tail) or None)
        except KfdError as error:
            number, live = error.errno, record
        if number != event.errno:
            raise Divergence(f"{event.record}.errno", event.errno, number)
        if not number:
            check_outputs(event.record, after, live)
            self._names.learn(after, live)
            self._queues += isinstance(live, ioctl.CreateQueue)
            self._queues -= isinstance(live, ioctl.DestroyQueue)
            if isinstance(after, ioctl.AllocMemoryOfGpu):
                assert isinstance(live, ioctl.AllocMemoryOfGpu)
                self._remember(after.mmap_offset, live.mmap_offset)

    def _remember(self, recorded: int, live: int) -> None:
        for target in ("kfd", *(f"fd:{fd}" for fd in self._names.all("fd"))):
            self._offsets[target, recorded] = live

    def _compare(self, number: int, event: events.Digest) -> None:
        self._written += event.size
        if event.unstable:
            return
        address = event.address
        for chunk in event.chunks:
            live = bytes(host.view(*self._inside(address, chunk.size), writable=False))
            if describe(live) != chunk and self._difference is None:
                recorded = self._reader.chunk(chunk) if event.stored else None
                self._difference = Difference(number, address, recorded, live)
            self._compared += chunk.size
            address += chunk.size

    def _verdict(self) -> Verdict:
        return replace(self._outcome(), compared=self._compared, written=self._written)

    def _outcome(self) -> Verdict:
        self._look()
        if self._failure is not None:
            return self._failure
        if self._difference is not None:
            text = f"memory at {self._difference.address:#x} differs from the recording"
            return Verdict(Result.DIFFERS, text, difference=self._difference)
        if not self._compared:
            return Verdict(Result.NOT_COMPARED, "it ran, and nothing could be compared")
        text = f"{self._compared} of {self._written} bytes that the GPU wrote were compared"
        return Verdict(Result.SAME, text)

    def _look(self) -> None:
        # See whether the device has failed, as long as its queues are there to tell.
        device = self._device
        if self._failure is not None or not self._queues:
            return
        limit = device.step + AFTER_STEPS
        while device.idle(None) is not Progress.BLOCKED and device.step < limit:
            pass
        faults, stalls = device.faults(), device.stalls()
        if faults:
            first = faults[0]
            signature = Signature(
                Result.FAULT, first.queue, first.packet, first.kind, first.kernel or ""
            )
            self._failure = Verdict(Result.FAULT, first.text, signature=signature, proven=True)
        elif stalls:
            signature = Signature(Result.HANG, stalls[0].queue, stalls[0].packet, "stall")
            text = "; ".join(f"queue {stall.queue}: {stall.text}" for stall in stalls)
            self._failure = Verdict(Result.HANG, text, signature=signature, proven=True)

    def _release(self) -> None:
        for address, size in list(self._reserved.items()):
            self._give_back(address, size)
        self._device.close()

"""Say what packets mean: addresses by the names of what lies there, registers by theirs."""

from collections.abc import Iterator
from typing import Any

from gputrace.bits import Field, Record
from gputrace.families import family
from gputrace.formats.ioctl import AllocFlag, AllocMemoryOfGpu, FreeMemoryOfGpu
from gputrace.formats.packets import Packet
from gputrace.kfd.labels import Label, Labels
from gputrace.submitted.image import Memory
from gputrace.submitted.launches import Launch, Launches, register_writes
from gputrace.submitted.stream import Placed
from gputrace.trace.events import Event, Header, Ioctl, Name, QueueMap

MOST, LONGEST = 1 << 17, 200
"""Names that are kept, and characters of one: a trace may have any number of any length."""
SHOWN = 4
"""Registers or dwords shown on a line."""
_TOLD_BY_LAUNCH = frozenset(
    f"{name}_{axis}" for name in ("workgroup_size", "grid_size", "dim") for axis in "xyz"
) | {"dimensions", "kernel_object"}
_KINDS = (
    (AllocFlag.VRAM, "vram"), (AllocFlag.GTT, "gtt"), (AllocFlag.USERPTR, "userptr"),
    (AllocFlag.DOORBELL, "doorbells"), (AllocFlag.MMIO_REMAP, "mmio"),
)  # fmt: skip


class Describer:
    """Follows a trace beside a `Stream` and puts its packets into words.

    Every event goes through `apply`, every packet, in order, through `launch`, before it is
    described.
    """

    def __init__(self, image: Memory) -> None:
        self.labels = Labels()
        self.launches = Launches(image, self.labels)
        self._allocations: dict[int, Label] = {}  # by handle; those that the client did not name
        self._unnamed: set[Label] = set()
        self._made = 0

    def apply(self, event: Event) -> None:
        """Learn names from an event."""
        match event:
            case Header() if event.family:
                self.launches.family = family(event.family)
            case Name() if len(self.labels) < MOST or not event.name:
                name = event.name[:LONGEST]
                self.labels.put(Label(event.address, event.size, event.what[:LONGEST], name))
            case QueueMap(live=True):
                self.launches.forget(event.queue)
                ring = f"ring of queue {event.queue}"
                self._default(Label(event.ring, event.ring_size, "ring", ring))
            case Ioctl(record="AllocMemoryOfGpu", errno=0):
                self._allocate(AllocMemoryOfGpu.from_bytes(event.after))
            case Ioctl(record="FreeMemoryOfGpu", errno=0):
                handle = FreeMemoryOfGpu.from_bytes(event.before).handle
                label = self._allocations.pop(handle, None)
                if label is not None and self.labels.at(label.address) == label:
                    self.labels.put(Label(label.address, label.size, label.what, ""))
                    self._unnamed.discard(label)

    # What the client gave no name gets one that tells its kind and which of them it is.
    def _allocate(self, made: AllocMemoryOfGpu) -> None:
        kind = memory_kind(made.flags)
        label = Label(made.va_addr, made.size, "buffer", f"{kind}{self._made}")
        self._made += 1
        self._allocations[made.handle] = label
        self._default(label)

    def _default(self, label: Label) -> None:
        found = self.labels.at(label.address)
        if found is None or found.address != label.address or found in self._unnamed:
            self._unnamed.add(label)
            self.labels.put(label)

    def launch(self, placed: Placed) -> Launch | None:
        """Take a packet into account; return what it launches."""
        return self.launches.apply(placed)

    def line(self, placed: Placed, launch: Launch | None = None) -> str:
        """Write a packet on one line."""
        if placed.record is None:
            words = " ".join(f"{word:08x}" for word in placed.words[:SHOWN])
            more = f" .. {len(placed.words)} dwords" if len(placed.words) > SHOWN else ""
            return f"?? {placed.problem}" + (f": {words}{more}" if words else "")
        if launch is None or not launch.kernel:
            text = self.record(placed.record)
        else:
            text = self.record(placed.record, without=_TOLD_BY_LAUNCH)
        if launch is not None:
            text += f"  {launch.text()}"
        return text + ("  (passed over)" if placed.skipped else "")

    def record(self, record: Record, without: frozenset[str] = frozenset()) -> str:
        """Write a record on one line, addresses as name+offset; defaults are left out."""
        table = self.launches.family.registers if self.launches.family else None
        parts = [
            f"{field.name}={self.value(record, field, value)}"
            for field, value in record.shown()
            if field.name not in without
            and not (table and field.name == "offset" and hasattr(record, "register"))
        ]
        writes = list(register_writes(record)) if table else []
        if writes and table:
            parts += [
                f"{table.name(number) or hex(number)}={value:#x}"
                for number, value in writes[:SHOWN]
            ]
            parts += [f"... {len(writes)} registers"] * (len(writes) > SHOWN)
        elif record.TAIL is not None:
            values = getattr(record, record.TAIL.name)
            more = f", ... {len(values)} dwords" if len(values) > SHOWN else ""
            shown = ", ".join(f"{value:#x}" for value in values[:SHOWN])
            parts.append(f"{record.TAIL.name}=[{shown}{more}]")
        if record.unknown:
            parts.append(f"unknown={record.unknown:#x}")
        return f"{record.CONCEPT}({', '.join(parts)})"

    def value(self, record: Record, field: Field, value: int) -> str:
        """Write a field's value; an address of memory by the name of what lies there."""
        return self.labels.short(value) if value and is_memory(record, field) else field.show(value)

    def annotated(self, placed: Placed, launch: Launch | None = None) -> Iterator[str]:
        """Yield the whole of a packet: its place, its words, and every field bit by bit."""
        where = self.labels.short(placed.address)
        place = f"{placed.address:#x}" + (f" = {where}" if not where.startswith("0x") else "")
        inside = f", in an indirect buffer (depth {placed.depth})" if placed.depth else ""
        yield f"packet {placed.queue}:{placed.number} at {place}{inside}"
        for at in range(0, len(placed.words), 8):
            words = " ".join(f"{word:08x}" for word in placed.words[at : at + 8])
            yield f"  dw{at:<4} {words}"
        if placed.record is None:
            yield f"  cannot be decoded: {placed.problem}"
            return
        yield from placed.record.annotated().splitlines()
        if isinstance(placed.record, Packet) and placed.record.VENDOR_NAME:
            yield f"  source: {placed.record.SOURCE}"
        yield from self._meanings(placed.record)
        if launch is not None:
            yield from self._launched(launch)
        for problem in placed.record.problems():
            yield f"  note: {problem}"

    def _meanings(self, record: Record) -> Iterator[str]:
        for field in record.FIELDS:
            value = getattr(record, field.name)
            if value and is_memory(record, field):
                found = self.labels.describe(value)
                yield f"  {field.name} {value:#x}: {found or 'nothing that the trace names'}"
        if self.launches.family is not None:
            for number, value in register_writes(record):
                yield f"  {self.launches.family.registers.describe(number, value)}"

    def _launched(self, launch: Launch) -> Iterator[str]:
        yield f"  launches {launch.kernel or 'a kernel'} at {launch.entry:#x}"
        x, y, z = launch.groups
        yield f"    groups {x} x {y} x {z} of {' x '.join(map(str, launch.block))} work-items"
        if launch.kernarg is not None:
            where = self.labels.short(launch.kernarg)
            yield f"    arguments at {launch.kernarg:#x} = {where}"
        for one in launch.arguments or ():
            yield f"    {one.name:<12} {one.text}   ({len(one.raw)} bytes {one.raw[:16].hex()})"
        if launch.arguments is None:
            yield "    arguments are not known: the trace has no metadata or memory of them"


def is_memory(record: Record, field: Field) -> bool:
    """Whether a field of this record holds the address of memory, not of a register."""
    role = field.role
    if role is None or role.uses != "address":
        return False
    if isinstance(role.length, str):
        size: Any = getattr(record, role.length)
        return bool(size) or role.length in record.BY_NAME
    return True


def memory_kind(flags: int) -> str:
    """Name the kind of memory that an allocation asks for."""
    return next((name for flag, name in _KINDS if flags & flag), "memory")

"""Say where a wave stands: the code around its program counter, and its registers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from gputrace.errors import DecodeError, UsageError
from gputrace.isa.decode import decoder
from gputrace.isa.instruction import OperandKind
from gputrace.kfd.port import Registers
from gputrace.replay.describe import Describer

AROUND = 8
"""Instructions shown before and after the one that a wave stands at."""
SHOWN_LANES = 8
WIDTH = 96
_MOST_BYTES = 1 << 20  # of code; what is beyond is not looked at
_MOST_REGISTERS, _MOST_LANES = 1024, 64


@dataclass(frozen=True, slots=True)
class _Code:
    # Machine code of one function, which begins at `start`.
    name: str
    start: int
    data: bytes
    wave_size: int | None


def standing(
    describer: Describer, pc: int, registers: Registers, lanes_at_fault: int = 0
) -> Iterator[str]:
    """Yield lines with the code around `pc` and the registers of the wave that stands there."""
    lanes = max((len(words) for words in registers.values()), default=1)
    yield from code_lines(describer, pc, lanes if lanes > 1 else None)
    yield from register_lines(registers, lanes_at_fault)


def code_lines(describer: Describer, pc: int, wave_size: int | None = None) -> Iterator[str]:
    """Disassemble around the instruction at `pc`, from the start of its function."""
    family = describer.launches.family
    code = _of_object(describer, pc) or _of_label(describer, pc)
    if code is None or family is None:
        yield f"  no code in the trace at {pc:#x}"
        return
    wave = code.wave_size or wave_size or min(family.waves)
    lines = list(_disassemble(family.name, wave, code, pc))
    at = next((n for n, (address, _) in enumerate(lines) if address >= pc), len(lines))
    yield f"code of {code.name} at {code.start:#x}:"
    for address, text in lines[max(0, at - AROUND) : at + AROUND + 1]:
        mark = "=>" if address == pc else "  "
        yield f"  {mark} {address:#x} +{address - code.start:#06x}  {text}"


def register_lines(registers: Registers, lanes: int = 0) -> Iterator[str]:
    """Yield registers as text: the scalar ones together, a line for each vector register.

    The lanes that are shown begin with the first one of the mask `lanes`.
    """
    lane = max(0, (lanes & -lanes).bit_length() - 1)
    scalars = [f"{name}={words[0]:#x}" for name, words in registers.items() if len(words) == 1]
    if scalars:
        yield "scalar registers, all others are zero:"
        yield from (f"  {line}" for line in wrap(" ".join(scalars), WIDTH))
    for name, words in registers.items():
        if len(words) == 1:
            continue
        if len(set(words)) == 1:
            yield f"{name} {words[0]:#x} in all {len(words)} lanes"
            continue
        first = min(lane, max(0, len(words) - SHOWN_LANES))
        shown = words[first : first + SHOWN_LANES]
        values = " ".join(f"{word:#x}" for word in shown)
        yield f"{name} {values} in lanes {first}-{first + len(shown) - 1} of {len(words)}"


def stored_registers(details: Mapping[str, Any]) -> Registers:
    """Return the registers that the details of an outcome hold; nothing of another shape."""
    found = details.get("registers")
    if not isinstance(found, dict) or len(found) > _MOST_REGISTERS:
        return {}
    return {name: tuple(words) for name, words in found.items() if _of_register(name, words)}


def _of_register(name: object, words: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(words, list | tuple)
        and 0 < len(words) <= _MOST_LANES
        and all(isinstance(word, int) for word in words)
    )


def _of_object(describer: Describer, pc: int) -> _Code | None:
    loaded = describer.launches.code_around(pc)
    if loaded is None or loaded.code is None:
        return None
    starts = {loaded.base + one.entry_address: one for one in loaded.code.kernels.values()}
    start = max((entry for entry in starts if entry <= pc), default=None)
    if start is None:
        return None
    kernel = starts[start]
    family = describer.launches.family
    wide = max(family.waves) if family is not None else None
    wave = 32 if kernel.descriptor.enable_wavefront_size32 else wide
    return _Code(kernel.name, start, loaded.code.image(0)[start - loaded.base :], wave)


def _of_label(describer: Describer, pc: int) -> _Code | None:
    # Where the trace holds the code but not the code object that it came from.
    label = describer.labels.at(pc) or describer.labels.was(pc)
    extent = describer.launches.image.extent(pc)
    if extent is None:
        return None
    start = label.address if label is not None and label.what in ("kernel", "symbol") else pc
    end = min(extent[1], label.end if start != pc and label is not None else extent[1])
    data = describer.launches.image.read(start, min(end - start, _MOST_BYTES))
    name = label.name if label is not None else "no known kernel"
    return None if data is None else _Code(name, start, data, None)


def _disassemble(target: str, wave: int, code: _Code, pc: int) -> Iterator[tuple[int, str]]:
    try:
        reader = decoder(target, wave)
    except UsageError as error:
        yield pc, str(error)
        return
    at, after = 0, 0
    while at < len(code.data) and after <= AROUND:
        try:
            instruction = reader.decode(code.data, at)
        except DecodeError as error:
            yield code.start + at, f"?? {error.reason}"
            return
        targets = [one.value for one in instruction.src if one.kind is OperandKind.LABEL]
        to = "".join(f"  (to +{value:#06x})" for value in targets)
        yield code.start + at, instruction.text() + to
        after += code.start + at >= pc
        at += instruction.size

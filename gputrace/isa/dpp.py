"""Which lane each lane reads in a DPP move, and which lanes write.

Source: AMD's ISA manuals (MI300, "DPP"; RDNA3, "Data Parallel Processing"), LLVM's SIDefines.h
(namespace AMDGPU::DPP).
"""

from dataclasses import dataclass

from gputrace.isa.instruction import Dpp

_ROW, _BANK = 16, 4


@dataclass(frozen=True, slots=True)
class Crossing:
    """For each lane: the lane that it reads (itself where there is none), and two facts.

    `inside`: the lane that it reads exists; `enabled`: the masks let it write.
    """

    source: tuple[int, ...]
    inside: tuple[bool, ...]
    enabled: tuple[bool, ...]


def _in_row(lane: int, moved: int) -> int | None:
    return lane // _ROW * _ROW + moved if 0 <= moved < _ROW else None


def _source(control: int, lane: int, wave: int) -> int | None:
    # None where the lane would read outside; KeyError for a control that has no meaning.
    row, amount = lane % _ROW, control & 15
    if control < 0x100:
        return lane & ~3 | control >> 2 * (lane & 3) & 3
    match control & ~15:
        case 0x100 if amount:
            return _in_row(lane, row + amount)
        case 0x110 if amount:
            return _in_row(lane, row - amount)
        case 0x120 if amount:
            return _in_row(lane, (row - amount) % _ROW)
        case 0x150:
            return _in_row(lane, amount)
        case 0x160:
            return lane ^ amount
    found = {
        0x130: lane + 1 if lane + 1 < wave else None,
        0x134: (lane + 1) % wave,
        0x138: lane - 1 if lane else None,
        0x13C: (lane - 1) % wave,
        0x140: _in_row(lane, _ROW - 1 - row),
        0x141: lane & ~7 | 7 - (lane & 7),
        0x142: lane // _ROW * _ROW - 1 if lane >= _ROW else None,
        0x143: 31 if lane >= 32 else None,
    }
    return found[control]


def crossing(dpp: Dpp, wave: int) -> Crossing | None:
    """Return the moves of a wave of `wave` lanes; None for a control without meaning."""
    lanes = range(wave)
    if dpp.lanes:
        source = tuple(lane & ~7 | dpp.lanes[lane & 7] for lane in lanes)
        return Crossing(source, (True,) * wave, (True,) * wave)
    try:
        found = [_source(dpp.control, lane, wave) for lane in lanes]
    except KeyError:
        return None
    return Crossing(
        tuple(lane if each is None else each for lane, each in zip(lanes, found, strict=True)),
        tuple(each is not None for each in found),
        tuple(
            bool(dpp.row_mask >> (lane // _ROW & 3) & 1 and dpp.bank_mask >> lane // _BANK % 4 & 1)
            for lane in lanes
        ),
    )

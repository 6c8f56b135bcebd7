"""What engines do to memory beyond single loads and stores: copies, fills, atomics."""

from collections.abc import Callable, Mapping
from functools import cache

from gputrace.devices.emulated.memory import Space, Span
from gputrace.formats.operations import AtomicOperation
from gputrace.kfd import host

CHUNK = 1 << 20


Settle = Callable[[Span, int, int], None]
"""Brings the shadow of some bytes up to date."""


def copy(
    space: Space, source: int, destination: int, size: int, settle: Settle | None = None
) -> None:
    """Copy bytes from the lowest address on; what lies before a fault has been copied.

    With `settle`, bytes that nobody has written stay such where they are copied to.
    """
    done = 0
    while done < size:
        length = min(CHUNK, size - done)
        to = destination + done
        pieces = space.pieces(source + done, length, "r")
        for span, at, count in pieces:
            for target, start, room in space.pieces(to, count, "w"):
                target.view[start : start + room] = span.view[at : at + room]
                if settle is not None and target.shadow is not None and span.shadow is not None:
                    settle(span, at, room)
                    target.shadow[start : start + room] = span.shadow[at : at + room]
                else:
                    target.written(start, room)
                at, to = at + room, to + room
        done += length


def fill(space: Space, address: int, size: int, pattern: bytes) -> None:
    """Fill bytes with a pattern that begins anew at `address`."""
    done = 0
    for span, at, length in space.pieces(address, size, "w"):
        start = done % len(pattern)
        turned = pattern[start:] + pattern[:start]
        whole = turned * (length // len(pattern) + 1)
        span.view[at : at + length] = whole[:length]
        span.written(at, length)
        done += length


def _signed(value: int, size: int) -> int:
    bits = 8 * size
    return value - (value >> (bits - 1) << bits)


def _clamp(old: int, source: int, size: int) -> int:
    return old - source if old >= source else 0


_RULES: Mapping[str, Callable[[int, int, int], int]] = {
    "SWAP": lambda old, source, size: source,
    "ADD": lambda old, source, size: old + source,
    "SUB": lambda old, source, size: old - source,
    "SMIN": lambda old, source, size: min(old, source, key=lambda v: _signed(v, size)),
    "UMIN": lambda old, source, size: min(old, source),
    "SMAX": lambda old, source, size: max(old, source, key=lambda v: _signed(v, size)),
    "UMAX": lambda old, source, size: max(old, source),
    "AND": lambda old, source, size: old & source,
    "OR": lambda old, source, size: old | source,
    "XOR": lambda old, source, size: old ^ source,
    "INC": lambda old, source, size: 0 if old >= source else old + 1,
    "DEC": lambda old, source, size: source if old == 0 or old > source else old - 1,
    "CLAMP_SUB": _clamp,
    "COND_SUB": lambda old, source, size: old - source if old >= source else old,
}


@cache
def _of(operation: AtomicOperation) -> tuple[str, int]:
    return operation.name.replace("_RTN", "").rsplit("_", 1)[0], operation.size


def result(operation: AtomicOperation, old: int, source: int, compare: int) -> int:
    """Return what an operation leaves in memory; all values are unsigned and of its size."""
    name, size = _of(operation)
    if name == "CMPSWAP":
        return source if old == compare else old
    return _RULES[name](old, source, size) & ((1 << 8 * size) - 1)


def atomic(place: int, operation: AtomicOperation, source: int, compare: int) -> int:
    """Do an operation at an address of this process, undivided even against other threads.

    Returns what was there before.
    """
    bits = 8 * _of(operation)[1]
    mask = (1 << bits) - 1
    while True:
        old = host.load(place, bits)
        new = result(operation, old, source & mask, compare & mask)
        if host.swap_if(place, old, new, bits) == old:
            return old

"""Where the bytes of an access lie: in one place, or in dwords that lie apart.

Scratch and swizzled buffers keep neighbouring dwords of a lane apart, so an access that begins
inside a dword goes on somewhere else. All checks are made before any part takes place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gputrace.isa.graph import U8, U16, U32, U64, Node, Type, where
from gputrace.isa.trace import Trace


@dataclass(frozen=True, slots=True)
class Part:
    """Where an access goes: a space, the lanes that go there, and the place of a byte offset.

    A place is an address of LDS, or what a check of memory gave.
    """

    space: str
    mask: Node
    place: Callable[[int], Node]

    def load(self, offset: int, element: Type) -> Node:
        """Read one element."""
        trace = self.mask.trace
        return trace.apply(
            "load", self.place(offset), self.mask, type=element, attribute=self.space
        )

    def store(self, values: Sequence[Node]) -> None:
        """Write elements one behind the other."""
        step = values[0].type.bits // 8
        for k, value in enumerate(values):
            self.mask.trace.apply(
                "store", self.place(k * step), value, self.mask, attribute=self.space
            )


@dataclass(frozen=True, slots=True)
class DwordPart(Part):
    """Dwords that lie apart: `place` gives the one at a number, from the first that is touched.

    `start` is the byte offset in the first dword, None when it is known to be 0. `wanted` are for
    each dword of the access the lanes that it reaches, `rows` for each dword of memory the lanes
    that touch it, `split` the lanes that begin inside a dword.
    """

    start: Node | None
    split: Node | None
    wanted: tuple[Node, ...]
    rows: tuple[Node, ...]

    def load(self, offset: int, element: Type) -> Node:
        """Read one dword out of the one or two that hold it; lanes that it does not reach get 0."""
        k = offset // 4
        low = self._word(k, self.rows[k])
        if self.start is not None:
            high = self._word(k + 1, self.rows[k + 1])
            both = low.zext(U64) | (high.zext(U64) << 32)
            low = (both >> (self.start << 3).zext(U64)).zext(U32)
        return where(self.wanted[k], low, 0)

    def _word(self, number: int, mask: Node) -> Node:
        return mask.trace.apply("load", self.place(number), mask, type=U32, attribute=self.space)

    def _put(self, number: int, value: Node) -> None:
        mask = self.rows[number]
        mask.trace.apply("store", self.place(number), value, mask, attribute=self.space)

    def store(self, values: Sequence[Node]) -> None:
        """Write dwords; in split lanes the rest of the first and last is the lane's and stays."""
        if self.start is None or self.split is None:
            for k, value in enumerate(values):
                self._put(k, value)
            return
        shift = (self.start << 3).zext(U64)
        ones = self.mask.trace.const(U64, 0xFFFFFFFF) << shift
        zero = self.mask.trace.const(U32, 0)
        value_before, ones_before = zero, zero
        for k in range(len(values) + 1):
            value_here, ones_here = zero, zero
            value_next, ones_next = zero, zero
            if k < len(values):
                wide, mask = values[k].zext(U64) << shift, self.wanted[k]
                value_here, ones_here = (where(mask, v.zext(U32), 0) for v in (wide, ones))
                value_next, ones_next = (where(mask, (v >> 32).zext(U32), 0) for v in (wide, ones))
            kept = self._word(k, self.rows[k] & self.split) & ~(ones_here | ones_before)
            self._put(k, kept | value_here | value_before)
            value_before, ones_before = value_next, ones_next


@dataclass(frozen=True, slots=True)
class HalfPart(Part):
    """Two bytes: together where `mask` says, in different dwords where `split` does.

    `place` gives the two bytes together at 0; the single ones at 1 and 2.
    """

    split: Node

    def load(self, offset: int, element: Type) -> Node:
        """Read the two bytes; lanes that the access does not reach get 0."""
        trace = self.mask.trace
        whole = trace.apply("load", self.place(0), self.mask, type=U16, attribute=self.space)
        low, high = (
            trace.apply("load", self.place(k), self.split, type=U8, attribute=self.space)
            for k in (1, 2)
        )
        both = where(self.split, low.zext(U16) | (high.zext(U16) << 8), whole)
        return where(self.mask | self.split, both, 0)

    def store(self, values: Sequence[Node]) -> None:
        """Write the two bytes."""
        trace, value = self.mask.trace, values[0]
        trace.apply("store", self.place(0), value, self.mask, attribute=self.space)
        for k, byte in ((1, value.zext(U8)), (2, (value >> 8).zext(U8))):
            trace.apply("store", self.place(k), byte, self.split, attribute=self.space)


def dwords_part(
    trace: Trace,
    address: Callable[[int], Node],
    start: Node | None,
    lanes: Callable[[int], Node],
    access: str,
    size: int,
) -> Part:
    """Check an access of `size` bytes and return where it goes.

    `address` gives the dword that holds a byte offset of the access when it begins at a dword,
    `start` the byte in it at which the access begins (None: 0), `lanes` who reaches the dword.
    """

    def check(extra: int, inside: Node | None, mask: Node, size: int) -> Node:
        place = address(extra) if inside is None else address(extra) + inside.zext(U64)
        return trace.apply("check", place, mask, attribute=(access, size))

    if size < 4 and start is None:
        start = trace.splat(trace.const(U32, 0))
    mask = lanes(0)
    if size == 1:
        byte = check(0, start, mask, 1)
        return Part("global", mask, lambda extra: byte)
    if size == 2 and start is not None:
        split = mask & start.eq(3)
        halves = [
            check(0, start, mask & ~split, 2),
            check(0, start, split, 1),
            check(4, None, split, 1),
        ]
        return HalfPart("global", mask & ~split, lambda number: halves[number], split)
    wanted = tuple(lanes(at) for at in range(0, size, 4))
    if start is None:
        found = [check(4 * k, None, each, 4) for k, each in enumerate(wanted)]
        return DwordPart("global", mask, lambda number: found[number], None, None, wanted, wanted)
    inside = start.ne(0)
    over = tuple(each & inside for each in wanted)
    rows = [wanted[0], *(a | b for a, b in zip(wanted[1:], over, strict=False)), over[-1]]
    places = [check(4 * k, None, each, 4) for k, each in enumerate(rows)]
    return DwordPart(
        "global", mask, lambda number: places[number], start, mask & inside, wanted, tuple(rows)
    )

"""64-bit lanes by their words, where that saves putting them together and taking them apart.

Registers are words, and the host moves words between lanes of two widths slowly (and LLVM takes
long to say how). What most addresses come from is computed on both: on the words, and on whole
values, of which LLVM drops what nobody uses.
"""

from typing import Final

from gputrace.isa.graph import I1, U32, U64, Node
from gputrace.isa.jit_writer import BlockWriter, Module
from gputrace.isa.primitives import PRIMS

Words = tuple[str, str]
"""The lower and the upper words of a value's lanes."""
_ZERO: Final = "zeroinitializer"


class WordWriter(BlockWriter):
    """Writes values without effects, and knows the words of those of 64 bits."""

    def __init__(self, region: Module, name: str) -> None:
        super().__init__(region, name)
        self._words: dict[str, Words] = {}
        self._halves: dict[str, tuple[str, int]] = {}  # which half of what a value is

    def pure(self, node: Node, names: dict[int, str]) -> str:
        """Write a node without effects and return its value; `names` has those of its arguments."""
        args = [names[arg.index] for arg in node.args]
        if not node.lanes:
            return PRIMS[node.prim].llvm(self, node, *args)
        if node.prim == "splat":
            return self._splat(node, *args)
        if node.prim == "trunc" and node.type == U32 and node.args[0].type == U64:
            return self._word(node.args[0], names)
        words = self._parts(node, names) if node.type == U64 else None
        if words and node.prim == "or":
            made = self.whole(words)
        else:
            made = PRIMS[node.prim].llvm(self, node, *args)
        if words:
            self._words[made] = words
        return made

    def words(self, node: Node, names: dict[int, str]) -> Words | None:
        """Return the words of a value of 64-bit lanes where they are at hand."""
        if node.prim == "splat":
            return self._words_of_all(node.args[0], names)
        return self.words_known(names[node.index])

    def words_known(self, value: str) -> Words | None:
        """Return the words of a value where they are at hand."""
        return self._words.get(value)

    def whole(self, words: Words) -> str:
        """Return lanes put together from words."""
        first, second = (self._halves.get(word, ("", 0)) for word in words)
        if first[0] and first == (second[0], 0) and second[1] == 1:
            return first[0]
        lanes = self.wave_size
        index = ", ".join(f"i32 {lane}, i32 {lane + lanes}" for lane in range(lanes))
        low, high = (f"<{lanes} x i32> {word}" for word in words)
        both = self.inst(f"shufflevector {low}, {high}, <{2 * lanes} x i32> <{index}>")
        return self.inst(f"bitcast <{2 * lanes} x i32> {both} to <{lanes} x i64>")

    def _word(self, node: Node, names: dict[int, str]) -> str:
        # The lower word of a value.
        known = self.words(node, names)
        if known:
            return known[0]
        if node.prim == "lshr" and _number(node.args[1]) == 32:
            return self._half(names[node.args[0].index], 1)
        return self._half(names[node.index], 0)

    def _half(self, value: str, half: int) -> str:
        lanes = self.wave_size
        raw = self.inst(f"bitcast <{lanes} x i64> {value} to <{2 * lanes} x i32>")
        index = ", ".join(f"i32 {2 * lane + half}" for lane in range(lanes))
        pair = f"<{2 * lanes} x i32>"
        name = self.inst(
            f"shufflevector {pair} {raw}, {pair} poison, <{lanes} x i32> <{index}>"
        )
        self._halves[name] = value, half
        return name

    def _splat(self, node: Node, value: str) -> str:
        # One value for all lanes.
        number = _number(node)
        if number is not None:
            return self.constant(node, number)
        if node.type == I1:
            bits = self.inst(f"sext i1 {value} to i{self.wave_size}")
            return self.inst(f"bitcast i{self.wave_size} {bits} to {self.type(node)}")
        return self.spread(self.type(node), node.type.llvm, value)

    def _words_of_all(self, source: Node, names: dict[int, str]) -> Words:
        number = _number(source)
        if number is not None:
            return _constant(number), _constant(number >> 32)
        value, kind = names[source.index], f"<{self.wave_size} x i32>"
        low = self.inst(f"trunc i64 {value} to i32")
        high = self.inst(f"trunc i64 {self.inst(f'lshr i64 {value}, 32')} to i32")
        return self.spread(kind, "i32", low), self.spread(kind, "i32", high)

    # --- operations

    def _parts(self, node: Node, names: dict[int, str]) -> Words | None:
        match node.prim:
            case "zext" if node.args[0].type == U32:
                return names[node.args[0].index], _ZERO
            case "shl" | "lshr":
                value, amount = self.words(node.args[0], names), _number(node.args[1])
                if value is None or amount is None:
                    return None
                amount %= 64
                return self._left(value, amount) if node.prim == "shl" else self._right(
                    value, amount
                )
            case "add" | "and" | "or" | "xor":
                left, right = (self.words(arg, names) for arg in node.args)
                if left is None or right is None:
                    return None
                if node.prim == "add":
                    return self._sum(left, right)
                low, high = (
                    self._two(node.prim, *both) for both in zip(left, right, strict=True)
                )
                return low, high
            case "select":
                yes, no = (self.words(arg, names) for arg in node.args[1:])
                if yes is None or no is None:
                    return None
                kind, bit = f"<{self.wave_size} x i32>", f"<{self.wave_size} x i1>"
                choice = f"select {bit} {names[node.args[0].index]}, {kind}"
                low, high = (
                    self.inst(f"{choice} {one}, {kind} {other}")
                    for one, other in zip(yes, no, strict=True)
                )
                return low, high
        return None

    def _two(self, operation: str, one: str, other: str) -> str:
        if _ZERO in (one, other):
            if operation == "and":
                return _ZERO
            return one if other == _ZERO else other
        return self.inst(f"{operation} <{self.wave_size} x i32> {one}, {other}")

    def _sum(self, left: Words, right: Words) -> Words:
        low, high = self._two("add", left[0], right[0]), self._two("add", left[1], right[1])
        if _ZERO in (left[0], right[0]):
            return low, high
        kind = f"<{self.wave_size} x i32>"
        carry = self.inst(f"icmp ult {kind} {low}, {left[0]}")
        bump = self.inst(f"zext <{self.wave_size} x i1> {carry} to {kind}")
        return low, self._two("add", high, bump)

    def _left(self, value: Words, amount: int) -> Words:
        low, high = value
        if amount >= 32:
            return _ZERO, self._shifted("shl", low, amount - 32)
        return self._shifted("shl", low, amount), self._funnel("fshl", high, low, amount)

    def _right(self, value: Words, amount: int) -> Words:
        low, high = value
        if amount >= 32:
            return self._shifted("lshr", high, amount - 32), _ZERO
        return self._funnel("fshr", high, low, amount), self._shifted("lshr", high, amount)

    def _shifted(self, operation: str, value: str, amount: int) -> str:
        if value == _ZERO or not amount:
            return value
        return self.inst(f"{operation} <{self.wave_size} x i32> {value}, splat (i32 {amount})")

    def _funnel(self, operation: str, high: str, low: str, amount: int) -> str:
        if not amount:
            return high if operation == "fshl" else low
        kind = f"<{self.wave_size} x i32>"
        name = f"llvm.{operation}.v{self.wave_size}i32"
        return self.call(kind, name, (kind, high), (kind, low), (kind, f"splat (i32 {amount})"))


def _constant(value: int) -> str:
    value &= 0xFFFFFFFF
    return f"splat (i32 {value})" if value else _ZERO


def _number(node: Node) -> int | None:
    # What a node always is, for all lanes.
    match node.prim:
        case "const":
            assert isinstance(node.attribute, int)
            return node.attribute
        case "splat" | "zext":
            return None if node.args[0].lanes else _number(node.args[0])
        case "and":
            one, other = (None if arg.lanes else _number(arg) for arg in node.args)
            return None if one is None or other is None else one & other
    return None

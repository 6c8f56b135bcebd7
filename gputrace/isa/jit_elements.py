"""Elements of vectors in registers, unpacked in LLVM IR: the part of matrix products that reads."""

import struct

from gputrace.isa.matrix import BITS, SMALL, Small


class Elements:
    """Writes instructions that read and change vectors of all lanes of a wave."""

    def __init__(self, wave: int) -> None:
        self.wave = wave
        self.lines: list[str] = []
        self.declared: dict[str, str] = {}
        self.count = 0

    def put(self, text: str) -> str:
        """Append an instruction with a value."""
        self.count += 1
        self.lines.append(f"  %m{self.count} = {text}")
        return f"%m{self.count}"

    def do(self, text: str) -> None:
        """Append an instruction without a value."""
        self.lines.append(f"  {text}")

    def call(self, result: str, name: str, *args: tuple[str, str]) -> str:
        """Call an intrinsic."""
        kinds = ", ".join(kind for kind, _ in args)
        self.declared[name] = f"declare {result} @{name}({kinds})"
        return self.put(f"call {result} @{name}({', '.join(f'{k} {v}' for k, v in args)})")

    def many(self, kind: str, lanes: int | None = None) -> str:
        """Return the type of a vector, of the wave's lanes unless told."""
        return f"<{self.wave if lanes is None else lanes} x {kind}>"

    def splat(self, kind: str, value: str, lanes: int) -> str:
        """Give all columns one value."""
        many = self.many(kind, lanes)
        first = self.put(f"insertelement {many} poison, {kind} {value}, i64 0")
        return self.put(f"shufflevector {many} {first}, {many} poison, <{lanes} x i32> "
                        "zeroinitializer")  # fmt: skip

    def place(self, kind: str, array: str, element: str) -> str:
        """Return where the lanes' values of an element are."""
        first = self.put(f"mul i64 {element}, {self.wave}")
        return self.put(f"getelementptr {kind}, ptr {array}, i64 {first}")

    def raw(self, pointer: str, element: str, bits: int) -> str:
        """Return an element of each lane as i32 (i64 of 64 bits).

        Above its own bits is whatever lies there.
        """
        words = self.many("i32")
        if bits == 64:
            first = self.put(f"mul i64 {element}, 2")
            parts = [self.word(pointer, at) for at in (first, self.put(f"add i64 {first}, 1"))]
            low, high = (self.put(f"zext {words} {one} to {self.many('i64')}") for one in parts)
            above = self.put(f"shl {self.many('i64')} {high}, splat (i64 32)")
            return self.put(f"or {self.many('i64')} {low}, {above}")
        if bits == 32:
            return self.word(pointer, element)
        if 32 % bits:
            return self._crossing(pointer, element, bits)
        word = self.word(pointer, self.put(f"udiv i64 {element}, {32 // bits}"))
        inside = self.put(f"urem i64 {element}, {32 // bits}")
        shift = self.put(f"trunc i64 {self.put(f'mul i64 {inside}, {bits}')} to i32")
        return self.put(f"lshr {words} {word}, {self.splat('i32', shift, self.wave)}")

    def _crossing(self, pointer: str, element: str, bits: int) -> str:
        # Of elements that may begin in one word and end in the next.
        words, start = self.many("i32"), self.put(f"mul i64 {element}, {bits}")
        first = self.put(f"lshr i64 {start}, 5")
        last = self.put(f"lshr i64 {self.put(f'add i64 {start}, {bits - 1}')}, 5")
        low, high = self.word(pointer, first), self.word(pointer, last)
        shift = self.splat("i32", self.put(f"trunc i64 {start} to i32"), self.wave)
        shift = self.put(f"and {words} {shift}, splat (i32 31)")
        name = f"llvm.fshr.v{self.wave}i32"
        return self.call(words, name, (words, high), (words, low), (words, shift))

    def word(self, pointer: str, register: str) -> str:
        """Return a register of all lanes."""
        at = self.place("i32", pointer, register)
        return self.put(f"load {self.many('i32')}, ptr {at}, align 64")

    def value_of(self, kind: str, raw: str) -> tuple[str, str]:
        """Return (type, value) of elements, given their raw bits."""
        words, floats = self.many("i32"), self.many("float")
        match kind:
            case "f64":
                return "double", self.put(f"bitcast {self.many('i64')} {raw} to "
                                          f"{self.many('double')}")  # fmt: skip
            case "f32":
                return "float", self.put(f"bitcast {words} {raw} to {floats}")
            case "i32":
                return "i32", raw
            case "xf32":
                cut = self.put(f"and {words} {raw}, splat (i32 -8192)")
                return "float", self.put(f"bitcast {words} {cut} to {floats}")
            case "f16":
                half = self.put(f"trunc {words} {raw} to {self.many('i16')}")
                half = self.put(f"bitcast {self.many('i16')} {half} to {self.many('half')}")
                return "float", self.put(f"fpext {self.many('half')} {half} to {floats}")
            case "bf16":
                high = self.put(f"shl {words} {raw}, splat (i32 16)")
                return "float", self.put(f"bitcast {words} {high} to {floats}")
        if kind in SMALL:
            return "float", self._small(kind, raw)
        shift, op = 32 - BITS[kind], "lshr" if kind[0] == "u" else "ashr"
        top = self.put(f"shl {words} {raw}, splat (i32 {shift})")
        return "i32", self.put(f"{op} {words} {top}, splat (i32 {shift})")

    def _small(self, kind: str, raw: str) -> str:
        # The bits moved to where an f32 has them are right but for the bias, denormals included.
        shape, words, floats = SMALL[kind], self.many("i32"), self.many("float")
        above = 1 << shape.bits - 1
        bits = self.put(f"and {words} {raw}, splat (i32 {2 * above - 1})")
        size = self.put(f"and {words} {bits}, splat (i32 {above - 1})")
        moved = self.put(f"shl {words} {size}, splat (i32 {23 - shape.fraction_bits})")
        value = self.put(f"bitcast {words} {moved} to {floats}")
        scale = as_float(2.0 ** (127 - shape.bias))
        value = self.put(f"fmul {floats} {value}, splat (float {scale})")
        result = self.put(f"bitcast {floats} {value} to {words}")
        if not shape.numbers:
            result = self._special(shape, bits, size, result)
        sign = self.put(f"and {words} {bits}, splat (i32 {above})")
        sign = self.put(f"shl {words} {sign}, splat (i32 {32 - shape.bits})")
        result = self.put(f"or {words} {result}, {sign}")
        return self.put(f"bitcast {words} {result} to {floats}")

    def _special(self, shape: Small, bits: str, size: str, result: str) -> str:
        # The infinities and NaNs of the floats of eight bits.
        words = self.many("i32")
        top = ((1 << shape.exponent_bits) - 1) << shape.fraction_bits
        if shape.unsigned_zero:
            nan = self.put(f"icmp eq {words} {bits}, splat (i32 128)")
        elif shape.finite:
            nan = self.put(f"icmp eq {words} {size}, splat (i32 127)")
        else:
            nan = self.put(f"icmp ugt {words} {size}, splat (i32 {top})")
            infinite = self.put(f"icmp eq {words} {size}, splat (i32 {top})")
            result = self.pick(infinite, words, "splat (i32 2139095040)", result)
        return self.pick(nan, words, "splat (i32 2143289344)", result)

    def pick(self, condition: str, kind: str, yes: str, no: str) -> str:
        """Choose between vectors of a type, lane by lane."""
        lanes = kind[1:].split(" ")[0]
        return self.put(f"select <{lanes} x i1> {condition}, {kind} {yes}, {kind} {no}")

    def shuffled(self, type_: str, value: str, order: tuple[int, ...]) -> str:
        """Give each lane the value of the lane that `order` says."""
        many = self.many(type_)
        lanes = ", ".join(f"i32 {lane}" for lane in order)
        return self.put(
            f"shufflevector {many} {value}, {many} poison, <{self.wave} x i32> <{lanes}>"
        )


def as_float(value: float) -> str:
    """Write a number as LLVM wants it: the bits of a double, for floats of any size."""
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"

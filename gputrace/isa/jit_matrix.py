"""A matrix product as a function of compiled code, in LLVM IR, written in loops.

The factors are unpacked once, a vector of all lanes for each element, into arrays on the stack.
Then each row of D is summed as a vector of its columns: a factor of A is one number, those of B lie
side by side, since the columns of B and D are neighbouring lanes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from gputrace.isa.jit_elements import Elements, as_float
from gputrace.isa.matrix import BITS, LEAST_EXPONENT, RUN, Product

_LLVM = {"f32": "float", "f64": "double", "i32": "i32", "i64": "i64"}
_WIDTH = {"float": 32, "double": 64, "i32": 32, "i64": 64}
COLUMNS = 16
"""Of a row, that are summed at once: more take longer to compile, and more registers."""


def function(name: str, product: Product, constant: int | None) -> tuple[str, dict[str, str]]:
    """Return the function `name(a, b, c, d, index, scales)` of pointers to registers, with tables.

    With a constant C its pointer is not used. The second result has the declarations of what it
    calls, by name.
    """
    writer = _Writer(name, product, constant)
    return writer.text(), writer.declared


class _Writer(Elements):
    def __init__(self, name: str, product: Product, constant: int | None) -> None:
        super().__init__(product.wave)
        self.name, self.product, self.constant = name, product, constant
        self.head: list[str] = []
        self.block = "entry"
        """The label of the block that is written."""
        self.fused = product.order in ("fused", "halves")
        self.sum = "i64" if product.clamp else _LLVM[product.accumulator]
        wide = product.scale_lanes or (self.fused and {"bf16", "xf32"} & {product.a, product.b})
        self.factor = "double" if wide else self.sum
        """The type that factors are unpacked to."""
        self.columns = min(product.columns, COLUMNS)

    # --- writing

    def table(self, name: str, values: list[int]) -> str:
        """Make a constant array."""
        listed = ", ".join(f"i32 {value}" for value in values)
        kind = f"[{len(values)} x i32]"
        self.head.append(f"@{self.name}.{name} = internal constant {kind} [{listed}]")
        return f"@{self.name}.{name}"

    def entry(self, table: str, index: str) -> str:
        """Read an entry of a table as i64."""
        at = self.put(f"getelementptr i32, ptr {table}, i64 {index}")
        value = self.put(f"load i32, ptr {at}")
        return self.put(f"zext i32 {value} to i64")

    @contextmanager
    def loop(self, label: str, count: int) -> Iterator[str]:
        """Write what is done in a loop, with its counter; a loop of one is none."""
        if count == 1:
            yield "0"
            return
        counter = f"%{label}.n"
        self.do(f"br label %{label}")
        self.lines.append(f"{label}:")
        self.do(f"{counter} = phi i64 [0, %{self.block}], [{counter}.next, %{label}]")
        yield counter
        self.do(f"{counter}.next = add i64 {counter}, 1")
        self.do(f"%{label}.more = icmp ult i64 {counter}.next, {count}")
        self.do(f"br i1 %{label}.more, label %{label}, label %{label}.end")
        self.block = f"{label}.end"
        self.lines.append(f"{self.block}:")

    # --- the function

    def text(self) -> str:
        """Return the function with its tables and declarations."""
        product = self.product
        names = [("au", "a"), ("bu", "b")] + ([("ae", "a"), ("be", "b")] if self.fused else [])
        for name, side in names:
            self._array(name, self.factor, product.elements(side))
        self._array("du", self.sum, product.elements("d"))
        self._factor("a")
        self._factor("b")
        self._addend()
        self._rows()
        self._write()
        self.do("ret void")
        pointers = ", ".join(f"ptr %{one}" for one in ("a", "b", "c", "d", "index", "scales"))
        head = f"define internal void @{self.name}({pointers})"
        body = [f"{head} noinline #0 {{", "entry:", *self.lines, "}"]
        return "\n".join([*self.head, *body])

    def _array(self, name: str, kind: str, elements: int) -> None:
        self.do(f"%{name} = alloca [{elements * self.wave} x {kind}], align 64")

    def _store(self, array: str, element: str, kind: str, value: str) -> None:
        at = self.place(kind, f"%{array}", element)
        self.do(f"store {self.many(kind)} {value}, ptr {at}, align 64")

    # --- unpacking

    def _no_denormals(self, kind: str, value: str, least: float, lanes: int, signed: bool) -> str:
        many = self.many("float", lanes)
        size = self.call(many, f"llvm.fabs.v{lanes}f32", (many, value))
        tiny = self.put(f"fcmp olt {many} {size}, splat (float {as_float(least)})")
        zero = "zeroinitializer"
        if signed:
            other = (many, value)
            zero = self.call(many, f"llvm.copysign.v{lanes}f32", (many, zero), other)
        return self.pick(tiny, many, zero, value)

    def _factor(self, side: str) -> None:
        product = self.product
        signs = product.negate[:2] if side == "a" else product.negate[2:]
        count, alike = product.elements(side), 1 if signs[0] == signs[1] else 2
        assert count % alike == 0, product
        with self.loop(f"factors.{side}", count // alike) as number:
            for odd in range(alike):
                element = number
                if alike == 2:
                    element = self.put(f"add i64 {self.put(f'mul i64 {number}, 2')}, {odd}")
                self._element(side, element, negative=signs[odd])

    def _element(self, side: str, element: str, *, negative: bool) -> None:
        product = self.product
        kind = product.a if side == "a" else product.b
        type_, value = self.value_of(kind, self.raw(f"%{side}", element, BITS[kind]))
        if side == "b" and product.b_lanes:
            value = self.shuffled(type_, value, product.b_lanes)
        if product.flush or product.order == "pairs":
            least, signed = 2.0 ** LEAST_EXPONENT.get(kind, -126), product.order != "pairs"
            value = self._no_denormals(type_, value, least, self.wave, signed)
        if negative:
            value = self.put(f"fneg {self.many(type_)} {value}")
        value = self._widened(type_, value)
        power = ""
        if self.fused:
            power = self._power(self.factor, value, LEAST_EXPONENT[kind], self.wave)
        if product.scale_lanes:
            many, scale = self.many(self.factor), self._scale_of(side, element)
            value, power = (self.put(f"fmul {many} {one}, {scale}") for one in (value, power))
        self._store(f"{side}u", element, self.factor, value)
        if self.fused:
            self._store(f"{side}e", element, self.factor, power)

    def _scale_of(self, side: str, element: str) -> str:
        # The power of two (or NaN) that an element of each lane is multiplied with.
        number, words, wide = "ab".index(side), self.many("i32"), self.many("i64")
        word = self.word(("%index", "%scales")[number], "0")
        byte = self.put(f"lshr {words} {word}, splat (i32 {8 * self.product.scale_bytes[number]})")
        byte = self.put(f"and {words} {byte}, splat (i32 255)")
        first, second = (
            self.shuffled("i32", byte, lanes) for lanes in self.product.scale_lanes[number]
        )
        condition = self.put(f"icmp ult i64 {element}, {RUN}")
        byte = self.put(f"select i1 {condition}, {words} {first}, {words} {second}")
        nan = self.put(f"icmp eq {words} {byte}, splat (i32 255)")
        raw = self.put(f"zext {words} {byte} to {wide}")
        raw = self.put(f"add {wide} {raw}, splat (i64 {1023 - 127})")
        raw = self.put(f"shl {wide} {raw}, splat (i64 52)")
        raw = self.pick(nan, wide, f"splat (i64 {0x7FF8 << 48})", raw)
        return self.put(f"bitcast {wide} {raw} to {self.many('double')}")

    def _widened(self, type_: str, value: str) -> str:
        if type_ == self.factor:
            return value
        op = {"i64": "sext", "double": "fpext"}[self.factor]
        return self.put(f"{op} {self.many(type_)} {value} to {self.many(self.factor)}")

    def _power(self, kind: str, value: str, least: int, lanes: int) -> str:
        # 2 to the exponent of each value, `least` at least; 0 for a zero.
        many, word = self.many(kind, lanes), f"i{_WIDTH[kind]}"
        words = self.many(word, lanes)
        mask = 0x7F80_0000 if kind == "float" else 0x7FF0_0000_0000_0000
        raw = self.put(f"bitcast {many} {value} to {words}")
        raw = self.put(f"and {words} {raw}, splat ({word} {mask})")
        power = self.put(f"bitcast {words} {raw} to {many}")
        limit = f"splat ({kind} {as_float(2.0**least)})"
        small = self.put(f"fcmp olt {many} {power}, {limit}")
        power = self.pick(small, many, limit, power)
        zero = self.put(f"fcmp oeq {many} {value}, zeroinitializer")
        return self.pick(zero, many, "zeroinitializer", power)

    def _addend(self) -> None:
        product, bits = self.product, BITS[self.product.result]
        with self.loop("addends", product.elements("d")) as element:
            if self.constant is not None:
                word = "i64" if bits == 64 else "i32"
                raw = f"splat ({word} {self.constant & (1 << bits) - 1})"
            else:
                raw = self.raw("%c", element, bits)
            type_, value = self.value_of(product.result, raw)
            many = self.many(type_)
            if product.absolute_c:
                value = self.call(many, f"llvm.fabs.v{self.wave}f32", (many, value))
            if product.order == "pairs":
                value = self._no_denormals(type_, value, 2.0**-126, self.wave, False)
            if product.negate_c:
                value = self.put(f"fneg {many} {value}")
            if type_ != self.sum:
                value = self.put(f"sext {many} {value} to {self.many(self.sum)}")
            self._store("du", element, self.sum, value)

    # --- rows

    def _rows(self) -> None:
        product = self.product
        parts = range(0, product.columns, self.columns)
        a_rows = self.table("a_rows", [at for at in product.a_rows for _ in parts])
        b_rows = self.table("b_rows", [at + part for at in product.b_rows for part in parts])
        d_starts = [e * self.wave + lane for e, lane in product.d_rows]
        d_rows = self.table("d_rows", [at + part for at in d_starts for part in parts])
        if product.sparse:
            self.table("b_steps", [e * self.wave + lane for e, lane in product.b_steps])
        steps = len(product.a_steps)
        size = product.group or steps
        with self.loop("row", len(d_starts) * len(parts)) as row:
            self.a_row, self.b_row = self.entry(a_rows, row), self.entry(b_rows, row)
            at = self.put(f"getelementptr {self.sum}, ptr %du, i64 {self.entry(d_rows, row)}")
            many = self.many(self.sum, self.columns)
            total = self.put(f"load {many}, ptr {at}, align 4")
            for first in range(0, steps, size):
                total = self._group(total, range(first, min(first + size, steps)))
            self.do(f"store {many} {total}, ptr {at}, align 4")

    def _group(self, total: str, steps: range) -> str:
        match self.product.order:
            case "chain":
                return self._chain(total, steps)
            case "whole":
                return self._whole(total, steps)
            case "pairs":
                return self._pairs(total, steps)
            case _:
                return self._fused(total, steps)

    def _a(self, step: int, array: str = "au") -> str:
        element, lane = self.product.a_steps[step]
        at = self.put(f"add i64 {self.a_row}, {element * self.wave + lane}")
        at = self.put(f"getelementptr {self.factor}, ptr %{array}, i64 {at}")
        one = self.put(f"load {self.factor}, ptr {at}")
        return self.splat(self.factor, one, self.columns)

    def _b(self, step: int, array: str = "bu") -> str:
        if self.product.sparse:
            place = self._chosen(step)
        else:
            element, lane = self.product.b_steps[step]
            place = str(element * self.wave + lane)
        at = self.put(f"add i64 {self.b_row}, {place}")
        at = self.put(f"getelementptr {self.factor}, ptr %{array}, i64 {at}")
        return self.put(f"load {self.many(self.factor, self.columns)}, ptr {at}, align 4")

    def _chosen(self, step: int) -> str:
        # Where the row of B lies that goes with an element of a sparse row of A.
        element, lane = self.product.a_steps[step]
        at = self.put(f"add i64 {self.a_row}, {lane}")
        at = self.put(f"getelementptr i32, ptr %index, i64 {at}")
        word = self.put(f"load i32, ptr {at}")
        two = self.put(f"lshr i32 {word}, {self.product.index_shift + 2 * element}")
        two = self.put(f"and i32 {two}, 3")
        row = self.put(f"add i32 {two}, {4 * (step // 2)}")
        return self.entry(f"@{self.name}.b_steps", self.put(f"zext i32 {row} to i64"))

    # --- orders

    def _chain(self, total: str, steps: range) -> str:
        many = self.many(self.sum, self.columns)
        suffix = f"v{self.columns}f{_WIDTH[self.sum]}"
        for k in steps:
            args = ((many, self._a(k)), (many, self._b(k)), (many, total))
            total = self.call(many, f"llvm.fma.{suffix}", *args)
        return total

    def _whole(self, total: str, steps: range) -> str:
        many = self.many(self.sum, self.columns)
        for k in steps:
            term = self.put(f"mul {many} {self._a(k)}, {self._b(k)}")
            total = self.put(f"add {many} {total}, {term}")
        return total

    def _pairs(self, total: str, steps: range) -> str:
        columns = self.columns
        many = self.many("float", columns)

        def flushed(value: str) -> str:
            return self._no_denormals("float", value, 2.0**-126, columns, signed=True)

        terms = []
        for k in steps:
            term = self.put(f"fmul {many} {self._a(k)}, {self._b(k)}")
            terms.append(flushed(self.put(f"fadd {many} {term}, zeroinitializer")))
        while len(terms) > 1:
            pairs = zip(terms[0::2], terms[1::2], strict=True)
            terms = [flushed(self.put(f"fadd {many} {x}, {y}")) for x, y in pairs]
        return flushed(self.put(f"fadd {many} {total}, {terms[0]}"))

    def _fused(self, total: str, steps: range) -> str:
        kind, columns = self.factor, self.columns
        many = self.many(kind, columns)
        terms, sizes = [], []
        for k in steps:
            terms.append(self._limited(self.put(f"fmul {many} {self._a(k)}, {self._b(k)}")))
            sizes.append(self.put(f"fmul {many} {self._a(k, 'ae')}, {self._b(k, 'be')}"))
        plain = self._plain(total, terms)
        wide = self.many("double", columns)
        if self.product.order == "halves":
            cuts = [self._cut(terms[k::2], sizes[k::2]) for k in range(2)]
            largest = self._larger(wide, cuts[0][1], cuts[1][1])
            safe = self._nonzero(wide, largest)
            parts = []
            for part, size in cuts:
                share = self.put(f"fdiv {wide} {size}, {safe}")
                parts.append(self._floor(wide, self.put(f"fmul {wide} {part}, {share}")))
            whole = self.put(f"fadd {wide} {parts[0]}, {parts[1]}")
        else:
            whole, largest = self._cut(terms, sizes)
        return self._finished(total, plain, whole, largest)

    def _limited(self, term: str) -> str:
        # Products that no f32 holds are infinite.
        if self.factor == "float":
            return term
        columns = self.columns
        many = self.many("double", columns)
        size = self.call(many, f"llvm.fabs.v{columns}f64", (many, term))
        over = self.put(f"fcmp oge {many} {size}, splat (double {as_float(2.0**128)})")
        infinity = (many, "splat (double 0x7FF0000000000000)")
        huge = self.call(many, f"llvm.copysign.v{columns}f64", infinity, (many, term))
        return self.pick(over, many, huge, term)

    def _plain(self, total: str, terms: list[str]) -> str:
        # What the sum would be if it were not cut: looked at for what is not finite.
        many = self.many(self.factor, self.columns)
        plain = total
        if self.factor == "double":
            narrow = self.many("float", self.columns)
            plain = self.put(f"fpext {narrow} {total} to {many}")
        for term in terms:
            plain = self.put(f"fadd {many} {plain}, {term}")
        return plain

    def _cut(self, terms: list[str], sizes: list[str]) -> tuple[str, str]:
        kind, columns = self.factor, self.columns
        many, words = self.many(kind, columns), self.many("i32", columns)
        largest = sizes[0]
        for size in sizes[1:]:
            largest = self._larger(many, largest, size)
        safe = self._nonzero(many, largest)
        unit = self.put(f"fdiv {many} splat ({kind} {as_float(2.0**24)}), {safe}")
        whole = "zeroinitializer"
        for term in terms:
            scaled = self.put(f"fmul {many} {term}, {unit}")
            cut = self.put(f"fptosi {many} {scaled} to {words}")
            whole = self.put(f"add {words} {whole}, {cut}")
        wide = self.many("double", columns)
        if kind == "float":
            largest = self.put(f"fpext {many} {largest} to {wide}")
        return self.put(f"sitofp {words} {whole} to {wide}"), largest

    def _finished(self, total: str, plain: str, whole: str, largest: str) -> str:
        columns = self.columns
        narrow, wide = self.many("float", columns), self.many("double", columns)
        c = self.put(f"fpext {narrow} {total} to {wide}")
        size = self._power("double", c, -126, columns)
        most = self._nonzero(wide, self._larger(wide, largest, size))
        share = self.put(f"fdiv {wide} {largest}, {most}")
        products = self.put(f"fmul {wide} {whole}, splat (double {as_float(128.0)})")
        products = self._floor(wide, self.put(f"fmul {wide} {products}, {share}"))
        unit = self.put(f"fdiv {wide} splat (double {as_float(2.0**24)}), {most}")
        addend = self._floor(wide, self.put(f"fmul {wide} {c}, {unit}"))
        addend = self.put(f"fmul {wide} {addend}, splat (double {as_float(128.0)})")
        if self.product.order == "halves":
            edge = self.put(f"fmul {wide} {most}, splat (double {as_float(2.0**-25)})")
            lost = self.put(f"fcmp olt {wide} {size}, {edge}")
            addend = self.pick(lost, wide, "zeroinitializer", addend)
        exact = self.put(f"fadd {wide} {products}, {addend}")
        scale = self.put(f"fmul {wide} {most}, splat (double {as_float(2.0**-31)})")
        exact = self.put(f"fmul {wide} {exact}, {scale}")
        exact = self.put(f"fptrunc {wide} {exact} to {narrow}")
        many = self.many(self.factor, columns)
        rest = self.put(f"fsub {many} {plain}, {plain}")
        special = self.put(f"fcmp uno {many} {rest}, {rest}")
        if self.factor == "double":
            plain = self.put(f"fptrunc {wide} {plain} to {narrow}")
        return self.pick(special, narrow, plain, exact)

    def _larger(self, many: str, one: str, other: str) -> str:
        more = self.put(f"fcmp ogt {many} {one}, {other}")
        return self.pick(more, many, one, other)

    def _nonzero(self, many: str, value: str) -> str:
        none = self.put(f"fcmp oeq {many} {value}, zeroinitializer")
        one = "splat (float 1.0)" if "float" in many else "splat (double 1.0)"
        return self.pick(none, many, one, value)

    def _floor(self, many: str, value: str) -> str:
        return self.call(many, f"llvm.floor.v{self.columns}f64", (many, value))

    # --- results

    def _write(self) -> None:
        product, bits = self.product, BITS[self.product.result]
        words, wide = self.many("i32"), self.many("i64")
        count = product.registers("d") if bits == 16 else product.elements("d")
        with self.loop("results", count) as number:
            if bits == 64:
                value = self._result(number)
                high = self.put(f"lshr {wide} {value}, splat (i64 32)")
                first = self.put(f"mul i64 {number}, 2")
                for half, at in ((value, first), (high, self.put(f"add i64 {first}, 1"))):
                    self._keep(at, self.put(f"trunc {wide} {half} to {words}"))
            else:
                self._keep(number, self._joined(number) if bits == 16 else self._result(number))

    def _keep(self, register: str, value: str) -> None:
        at = self.place("i32", "%d", register)
        self.do(f"store {self.many('i32')} {value}, ptr {at}, align 64")

    def _joined(self, register: str) -> str:
        words, half = self.many("i32"), self.product.half
        first = self.put(f"mul i64 {register}, 2")
        second = self.put(f"add i64 {first}, 1")
        if half == 0:
            low = self._result(first)
            high = self.put(f"shl {words} {self._result(second)}, splat (i32 16)")
            return self.put(f"or {words} {low}, {high}")
        part = self._result(first if half == 1 else second)
        if half == 2:
            part = self.put(f"shl {words} {part}, splat (i32 16)")
        old = self.word("%d", register)
        kept = self.put(f"and {words} {old}, splat (i32 {-65536 if half == 1 else 65535})")
        return self.put(f"or {words} {kept}, {part}")

    def _result(self, element: str) -> str:
        # The bits of one element of D, of all NaNs but one.
        at = self.place(self.sum, "%du", element)
        many = self.many(self.sum)
        value = self.put(f"load {many}, ptr {at}, align 64")
        if self.product.order == "whole":
            return self._held(value) if self.product.clamp else value
        if self.product.result == "f16":
            half, shorts = self.many("half"), self.many("i16")
            value = self.put(f"fptrunc {many} {value} to {half}")
            raw = self.put(f"bitcast {half} {value} to {shorts}")
            raw = self._one_nan("i16", raw, 0x7C00, 0x7E00)
            return self.put(f"zext {shorts} {raw} to {self.many('i32')}")
        if self.sum == "double":
            raw = self.put(f"bitcast {many} {value} to {self.many('i64')}")
            return self._one_nan("i64", raw, 0x7FF0 << 48, 0x7FF8 << 48)
        raw = self.put(f"bitcast {many} {value} to {self.many('i32')}")
        if self.product.result == "bf16":
            words = self.many("i32")
            odd = self.put(f"lshr {words} {raw}, splat (i32 16)")
            odd = self.put(f"and {words} {odd}, splat (i32 1)")
            near = self.put(f"add {words} {odd}, splat (i32 32767)")
            near = self.put(f"add {words} {raw}, {near}")
            near = self._one_nan("i32", raw, 0x7F80_0000, 0x7FC0_0000, near)
            return self.put(f"lshr {words} {near}, splat (i32 16)")
        return self._one_nan("i32", raw, 0x7F80_0000, 0x7FC0_0000)

    def _one_nan(self, word: str, raw: str, infinity: int, quiet: int, number: str = "") -> str:
        many = self.many(word)
        size = self.put(f"and {many} {raw}, splat ({word} {(1 << int(word[1:]) - 1) - 1})")
        nan = self.put(f"icmp ugt {many} {size}, splat ({word} {infinity})")
        return self.pick(nan, many, f"splat ({word} {quiet})", number or raw)

    def _held(self, value: str) -> str:
        wide = self.many("i64")
        for name, limit in (("smax", -(1 << 31)), ("smin", (1 << 31) - 1)):
            other = (wide, f"splat (i64 {limit})")
            value = self.call(wide, f"llvm.{name}.v{self.wave}i64", (wide, value), other)
        return self.put(f"trunc {wide} {value} to {self.many('i32')}")

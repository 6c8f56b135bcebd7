"""Typed buffer accesses: elements of a format, converted to and from registers.

The format is the instruction's (tbuffer) or the descriptor's (buffer_*_format), whose DST_SEL then
says which component, zero or one a load gives each register. Components that a format lacks read
as zero, W as one; of stores they are left out, and what an instruction lacks is stored as zero. An
element begins at a multiple of its size, four at most. An invalid format loads zeros and stores
nothing. Conversions are exact and round once, to nearest even; what does not fit is held to the
nearest value that does.

Sources: AMD's ISA manuals (MI300, RDNA2, RDNA3: typed buffers, DST_SEL), `gputrace.isa.formats`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from gputrace.isa.formats import Format, Kind, formats
from gputrace.isa.graph import F16, F32, F64, U8, U16, U32, U64, Node, Type, where
from gputrace.isa.instruction import Memory
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_buffer import Resource, Window
from gputrace.isa.semantics_memory import memory_of, put_in_lds, vector_index
from gputrace.isa.semantics_packed import toward_zero
from gputrace.isa.trace import Trace

TYPED = Registry()

_COMPONENTS = 4
_WIDTH_BITS, _KIND_AT, _SIZE_AT = 6, 24, 27  # of a packed format
_ONE = {False: 0x3F800000, True: 0x3C00}  # as f32, as f16


def _packed(form: Format) -> int:
    widths = sum(width << _WIDTH_BITS * k for k, width in enumerate(form.widths))
    return widths | form.kind << _KIND_AT | form.size << _SIZE_AT


@dataclass(frozen=True, slots=True)
class Layout:
    """A format as uniform values: widths of components, kind, bytes of an element."""

    widths: tuple[Node, ...]
    kind: Node
    size: Node
    sizes: tuple[int, ...]
    """The sizes that it may have."""

    @classmethod
    def unpack(cls, packed: Node, sizes: tuple[int, ...]) -> "Layout":
        """Cut a packed format."""
        mask = (1 << _WIDTH_BITS) - 1
        widths = tuple((packed >> _WIDTH_BITS * k) & mask for k in range(_COMPONENTS))
        return cls(widths, (packed >> _KIND_AT) & 7, packed >> _SIZE_AT, sizes)

    def starts(self) -> list[Node]:
        """Return the first bit of each component."""
        found, at = [], self.kind & 0
        for width in self.widths:
            found.append(at)
            at = at + width
        return found

    @property
    def whole(self) -> Node:
        """Return whether the components are integers."""
        return self.kind.eq(Kind.UINT) | self.kind.eq(Kind.SINT)


def _looked_up(trace: Trace, number: Node) -> Node:
    # The packed format of a number that is known only now; 0 where there is none.
    known, lanes = formats(trace.mode.behaviour.formats), trace.mode.wave_size
    found = trace.const(U32, 0)
    for start in range(0, 128, lanes):
        row = tuple(
            _packed(known[n]) if n in known else 0 for n in range(start, start + lanes)
        )
        if any(row):
            table = trace.apply("lane_values", type=U32, attribute=row)
            one = trace.apply("read_lane", table, number & (lanes - 1))
            found = where((number & (128 - lanes)).eq(start), one, found)
    return found


def _layout(trace: Trace, memory: Memory, word: Node) -> Layout:
    known = formats(trace.mode.behaviour.formats)
    if memory.format is not None:
        form = known.get(memory.format)
        sizes: tuple[int, ...] = () if form is None else (form.size,)
        return Layout.unpack(trace.const(U32, 0 if form is None else _packed(form)), sizes)
    match trace.mode.behaviour.formats:
        case "gfx9":
            number = (word >> 15 & 15) | ((word >> 12 & 7) << 4)
        case "gfx10":
            number = word >> 12 & 127
        case "gfx11":
            number = word >> 12 & 63
    sizes = tuple(sorted({form.size for form in known.values()}))
    return Layout.unpack(_looked_up(trace, number), sizes)


# --- memory: an element as up to four dwords


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an element in memory: its type, its first byte, and the lanes that reach it."""

    type: Type
    at: int
    place: Node
    mask: Node


def _pieces(trace: Trace, memory: Memory, layout: Layout, access: str) -> list[Piece]:
    # Bytes and halves are accessed as such, so that what stands beside them is left alone.
    align = where(layout.size.eq(1), 0, where(layout.size.eq(2), trace.const(U32, 1), 3))
    window = Window.read(trace, memory, align)
    wanted = [(U8, 0, 1), (U16, 0, 2)] if set(layout.sizes) & {1, 2} else []
    largest = max(layout.sizes, default=0)
    wanted += [(U32, at, 0) for at in range(0, largest if largest > 2 else 0, 4)]
    pieces = []
    for kind, at, only in wanted:
        bytes_of = kind.bits // 8
        fits = layout.size.eq(only) if only else trace.apply("ult", at + 3, layout.size)
        mask = trace.active() & trace.splat(fits) & window.reaches(at + bytes_of)
        address = window.address(at) + window.inside
        place = trace.apply("check", address, mask, attribute=(access, bytes_of))
        pieces.append(Piece(kind, at, place, mask))
    return pieces


def _read(trace: Trace, pieces: list[Piece]) -> list[Node]:
    # Four dwords; what is not reached is zero.
    words = [trace.splat(trace.const(U32, 0)) for _ in range(_COMPONENTS)]
    for piece in pieces:
        value = trace.apply(
            "load", piece.place, piece.mask, type=piece.type, attribute="global"
        ).zext(U32)
        words[piece.at // 4] = words[piece.at // 4] | where(piece.mask, value, 0)
    return words


# --- conversions of a component


def _quotient(number: Node, by: Node) -> tuple[Node, Node]:
    # number / by rounded to nearest, and rounded to odd: what a second rounding wants.
    trace = number.trace
    near = trace.apply("fdiv", number, by)
    rest = trace.apply("fma", trace.apply("fsub", 0.0, near), by, number)
    raw, left = near.bits_as(U32), rest.bits_as(U32)
    inexact = (left & 0x7FFFFFFF).ne(0) & (raw & 1).eq(0)
    # Away from zero when what is left has the sign of the result.
    away = ((left ^ raw) >> 31).eq(0)
    odd = where(inexact, where(away, raw + 1, raw - 1), raw)
    return near, odd.bits_as(F32)


def _loaded(layout: Layout, value: Node, width: Node, d16: bool) -> Node:
    # The register's bits for a component's bits.
    trace = value.trace
    ones = (trace.const(U64, 1) << width.zext(U64)).zext(U32) - 1
    unused = trace.const(U32, 0) - width  # shifts count modulo 32
    signed = (value << unused).ashr(unused)
    uscaled = trace.apply("from_unsigned", value, type=F32)
    sscaled = trace.apply("from_signed", signed, type=F32)
    negative = layout.kind.eq(Kind.SNORM)
    limit = where(negative, ones >> 1, ones)
    by = trace.apply("from_unsigned", where(limit.eq(0), 1, limit), type=F32)
    near, odd = _quotient(where(negative, sscaled, uscaled), by)
    lowest = trace.const(F32, -1.0)
    held = [where(trace.apply("flt", one, lowest), lowest, one) for one in (near, odd)]
    half = (value << (trace.const(U32, 15) - width)).zext(U16)
    half = where(width.eq(16), value.zext(U16), half)
    scaled = where(layout.kind.eq(Kind.USCALED), uscaled, sscaled)
    ratio = layout.kind.eq(Kind.UNORM) | negative
    single, floating = width.eq(32), layout.kind.eq(Kind.FLOAT)
    if d16:
        number = where(ratio, held[1], where(floating, value.bits_as(F32), scaled))
        narrow = trace.apply("fcvt", number, type=F16).bits_as(U16)
        result = where(floating & ~single, half, narrow).zext(U32)
        return where(layout.whole, _whole(layout, value, signed) & 0xFFFF, result)
    wide = trace.apply("fcvt", half.bits_as(F16), type=F32)
    wide = where(single, value.bits_as(F32), wide)
    number = where(ratio, held[0], where(floating, wide, scaled)).bits_as(U32)
    return where(layout.whole, _whole(layout, value, signed), number)


def _whole(layout: Layout, value: Node, signed: Node) -> Node:
    return where(layout.kind.eq(Kind.SINT), signed, value)


def _kept(number: Node, low: Node, high: Node) -> Node:
    # A number between two bounds; a NaN becomes zero.
    trace = number.trace
    number = where(trace.apply("isnan", number), trace.const(number.type, 0.0), number)
    number = where(trace.apply("flt", number, low), low, number)
    return where(trace.apply("flt", high, number), high, number)


def _small(number: Node, width: Node) -> Node:
    # An f32 as float of ten or eleven bits, without sign, or of sixteen; rounded once.
    trace = number.trace
    cut = toward_zero(number)
    back, raw = trace.apply("fcvt", cut, type=F32), cut.bits_as(U16).zext(U32)
    nan, negative = trace.apply("isnan", number), (number.bits_as(U32) >> 31).ne(0)
    sticky = raw | (~back.eq(number) & ~nan).zext(U32)
    shift = trace.const(U32, 15) - width
    lowest = (sticky >> shift) & 1
    bias = (trace.const(U32, 1) << (shift - 1)) - 1
    rounded = (sticky + bias + lowest) >> shift
    small = where(nan, trace.const(U32, 0x7E00) >> shift, where(negative, 0, rounded))
    near = trace.apply("fcvt", number, type=F16).bits_as(U16).zext(U32)
    return where(width.eq(16), near, small)


def _stored(layout: Layout, value: Node, width: Node, d16: bool) -> Node:
    # A component's bits for a register's bits.
    trace = value.trace
    number = value.bits_as(F32)
    if d16:
        number = trace.apply("fcvt", value.zext(U16).bits_as(F16), type=F32)
    kind = layout.kind
    ones = (trace.const(U64, 1) << width.zext(U64)).zext(U32) - 1
    signed = kind.eq(Kind.SNORM) | kind.eq(Kind.SSCALED) | kind.eq(Kind.SINT)
    ratio = kind.eq(Kind.UNORM) | kind.eq(Kind.SNORM)
    high = where(signed, ones >> 1, ones)
    top = trace.apply("from_unsigned", high, type=F64)
    least = where(kind.eq(Kind.SSCALED), trace.apply("fsub", 0.0, top) - 1.0, 0.0)
    least = where(kind.eq(Kind.SNORM), trace.const(F64, -1.0), least)
    most = where(ratio, trace.const(F64, 1.0), top)
    wide = _kept(trace.apply("fcvt", number, type=F64), least, most)
    scaled = trace.apply("rint", wide * top)
    plain = trace.apply("truncate", wide)
    chosen = where(ratio, scaled, plain)
    fixed = trace.apply("to_signed", chosen, type=U64).zext(U32)
    given = value & 0xFFFF if d16 else value
    wrapped = value.zext(U16).sext(U32) if d16 else value
    unsigned = where(trace.apply("ult", ones, given), ones, given)
    bottom = ~high
    held = where(trace.apply("slt", wrapped, bottom), bottom, wrapped)
    held = where(trace.apply("slt", high, held), high, held)
    bits = where(kind.eq(Kind.SINT), held, where(kind.eq(Kind.UINT), unsigned, fixed))
    single = number.bits_as(U32)
    float_bits = where(width.eq(32), single, _small(number, width))
    if d16:  # halves are stored as they are
        float_bits = where(width.eq(16), value & 0xFFFF, float_bits)
    return where(kind.eq(Kind.FLOAT), float_bits, bits) & ones


# --- instructions


def _component(words: list[Node], start: Node, width: Node) -> Node:
    # The bits of a component, which no dword divides.
    trace = words[0].trace
    number, word = start >> 5, words[0]
    for k in range(1, _COMPONENTS):
        word = where(number.eq(k), words[k], word)
    ones = (trace.const(U64, 1) << width.zext(U64)).zext(U32) - 1
    return (word >> (start & 31)) & ones


def _selected(trace: Trace, memory: Memory, layout: Layout, word: Node, got: list[Node],
              d16: bool) -> list[Node]:  # fmt: skip
    # What DST_SEL gives each register: a component, zero or one.
    one = where(layout.whole, trace.const(U32, 1), _ONE[d16])
    absent = [trace.const(U32, 0)] * 3 + [one]
    valid = layout.size.ne(0)
    values = [
        where(trace.splat(width.ne(0)), value, where(valid, none, 0))
        for value, width, none in zip(got, layout.widths, absent, strict=True)
    ]
    if memory.format is not None:
        return values
    chosen = []
    for k in range(_COMPONENTS):
        select = word >> 3 * k & 7
        value = trace.splat(where(select.eq(1) & valid, one, 0))
        for number, each in enumerate(values):
            value = where(trace.splat(select.eq(4 + number)), each, value)
        chosen.append(value)
    return chosen


def _put(trace: Trace, values: list[Node], halves: str) -> None:
    index = vector_index(trace.instruction.dst[0])
    if not halves:
        for k, value in enumerate(values):
            trace.put_vector(index + k, value)
        return
    if halves == "hi":
        trace.put_vector(index, (trace.vector(index) & 0xFFFF) | (values[0] << 16))
        return
    for k in range(0, len(values), 2):
        low = values[k] & 0xFFFF
        high = values[k + 1] << 16 if k + 1 < len(values) else None
        kept = trace.vector(index + k // 2) & 0xFFFF0000 if high is None else high
        trace.put_vector(index + k // 2, low | kept)


def _load(count: int, halves: str) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        memory = memory_of(trace)
        word = Resource.word(trace, memory, 3)
        with trace.to_nearest():
            layout = _layout(trace, memory, word)
            words = _read(trace, _pieces(trace, memory, layout, "read"))
            got = [
                _loaded(layout, _component(words, start, width), width, bool(halves))
                for start, width in zip(layout.starts(), layout.widths, strict=True)
            ]
            values = _selected(trace, memory, layout, word, got, bool(halves))[:count]
        if memory.lds or "_lds_" in trace.instruction.name:
            put_in_lds(trace, memory, [values[0]])
            return
        _put(trace, values, halves)
        if memory.tfe:
            behind = (count + 1) // 2 if halves else count
            index = vector_index(trace.instruction.dst[0])
            trace.put_vector(index + behind, trace.const(U32, 0))

    return meaning


def _store(count: int, halves: str) -> Callable[[Trace], None]:
    def given(trace: Trace, memory: Memory, k: int) -> Node:
        if not halves:
            return trace.splat(trace.raw(memory.data[0], k, 1))
        word = trace.splat(trace.raw(memory.data[0], k // 2, 1))
        return (word >> 16 if halves == "hi" or k % 2 else word) & 0xFFFF

    def meaning(trace: Trace) -> None:
        memory = memory_of(trace)
        with trace.to_nearest():
            layout = _layout(trace, memory, Resource.word(trace, memory, 3))
            pieces = _pieces(trace, memory, layout, "write")
            words: list[Node] = [trace.splat(trace.const(U32, 0))] * _COMPONENTS
            for k, start in zip(range(count), layout.starts(), strict=False):
                bits = _stored(layout, given(trace, memory, k), layout.widths[k], bool(halves))
                for n in range(_COMPONENTS):
                    here = trace.splat((start >> 5).eq(n) & layout.widths[k].ne(0))
                    words[n] = where(here, words[n] | (bits << (start & 31)), words[n])
        for piece in pieces:
            value = words[piece.at // 4].zext(piece.type)
            trace.apply("store", piece.place, value, piece.mask, attribute="global")

    return meaning


for _stem in ("buffer", "tbuffer"):
    for _count, _channels in enumerate(("x", "xy", "xyz", "xyzw"), 1):
        for _verb, _make in (("load", _load), ("store", _store)):
            _start = f"{_stem}_{_verb}"
            TYPED.add(f"{_start}_format_{_channels}", _make(_count, ""))
            _names = f"{_start}_format_d16_{_channels} {_start}_d16_format_{_channels}"
            TYPED.add(_names, _make(_count, "both"))
for _verb, _make in (("load", _load), ("store", _store)):
    _names = f"buffer_{_verb}_format_d16_hi_x buffer_{_verb}_d16_hi_format_x"
    TYPED.add(_names, _make(1, "hi"))
TYPED.add("buffer_load_lds_format_x", _load(1, ""))

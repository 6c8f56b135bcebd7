"""Matrix products: MFMA and SMFMAC (CDNA), WMMA and SWMMAC (RDNA): from names to `Product`s.

All lanes take part, whatever EXEC says. With M rows of A and N columns of B (equal here), blocks
that are multiplied side by side, and E elements of A in each lane:

- MFMA: lane l has row l % M of A and column l % M of B; with g = l // M, its block is g % blocks
  and its elements are those with k = (g // blocks) * E + e; of more than 16 elements of eight bits
  each 16 are neighbours, and lie between those of the other groups. D has its column in lane l % M;
  the rows that a lane has lie in groups of four registers (f64: a row in every group of lanes).
- Scaled MFMA: of each 32 neighbouring k of a row or column one lane has the scale, that whose g is
  the number of the 32. The kinds of f8f6f4 are named by CBSZ (A) and BLGP (B).
- WMMA of gfx11: lane l has the whole row l % 16, repeated in the other rows of lanes; D has row
  (rows of lanes) * r + l // 16 in register r. Of gfx12: `_STEPS` says which bit of k is the lane's.
- Sparse: of each four k two are stored; two bits for each stored element say which of the four.

How an element of D is summed: f32 and f64 by one fused multiply-add a step; CDNA2 adds products of
halves in pairs and flushes denormals; CDNA3 adds products of narrow floats as fixed-point numbers
(MMA-Sim, arXiv 2511.10909, found so on MI250X and MI300X). For sparse products of CDNA3 and for all
of CDNA4 the same is assumed; the order of RDNA is not public: one fused multiply-add a step in f32,
rounded once.

Sources: AMD's matrix instruction calculator (layouts), ISA manuals MI200, MI300, CDNA4, RDNA3 and
RDNA4; LLVM, SIDefines.h MFMAScaleFormats; of f8f6f4 the layout of ROCm's rocjitsu, mma/layout.h
input_loc.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from gputrace.isa import state
from gputrace.isa.instruction import Instruction, Operand, OperandKind
from gputrace.isa.matrix import BITS, RUN, SMALL, Multiplication, Product
from gputrace.isa.semantics import Registry
from gputrace.isa.trace import NotModelled, Trace

MATRIX = Registry()


def vector_index(operand: Operand) -> int:
    """Return the number of a vector register, accumulators counted on."""
    if operand.kind is OperandKind.ACC:
        return state.FIRST_ACCUMULATOR + operand.index
    if operand.kind is not OperandKind.VGPR:
        raise NotModelled(f"a factor in {operand.name or operand.kind.value}")
    return operand.index


def _carry_out(
    trace: Trace,
    product: Product,
    c: Operand,
    index: Operand | None = None,
    scales: Operand | None = None,
) -> None:
    a, b = trace.instruction.src[:2]
    constant = c.value if c.is_constant else 0
    trace.multiply(
        Multiplication(
            product,
            vector_index(a),
            vector_index(b),
            None if c.is_constant else vector_index(c),
            vector_index(trace.instruction.dst[0]),
            constant,
            0 if index is None else vector_index(index),
            0 if scales is None else vector_index(scales),
        )
    )


# --- MFMA

_MFMA = re.compile(
    r"v_mfma_(?:scale_)?(f32|f64|i32)_(\d+)x\d+x(\d+)_?(?:\d+b_)?"
    r"(f8f6f4|[a-z]+\d+)(?:_(?:1k|(..8)))?"
)
_SMFMAC = re.compile(r"v_smfmac_(f32|i32)_(\d+)x\d+x(\d+)_([a-z]+\d+)(?:_(..8))?")


_F8F6F4 = ("fp8", "bf8", "fp6", "bf6", "fp4")


def _row(size: int, blocks: int, wide: bool, i: int, block: int) -> tuple[int, int]:
    # (result's number, lane of its first column) of row i of a block of D
    if size == 4:
        return (0, 4 * block + 16 * i) if wide else (i, 4 * block)
    if wide:
        return i // 4, 16 * (i % 4)
    groups = 64 // size
    return size * size // 64 * block + 4 * (i // (4 * groups)) + i % 4, size * (i // 4 % groups)


def _steps(size: int, blocks: int, depth: int, kind: str) -> tuple[tuple[int, int], ...]:
    each = size * depth * blocks // 64
    if each <= RUN or BITS[kind] != 8:
        return tuple((k % each, size * blocks * (k // each)) for k in range(depth))
    groups = depth // each
    return tuple(
        (k // (RUN * groups) * RUN + k % RUN, size * blocks * (k // RUN % groups))
        for k in range(depth)
    )


@cache
def _cdna(name: str, blocks: int, fused: bool, kinds: tuple[str, str]) -> Product:
    # `fused`: the target sums narrow floats as CDNA3 does.
    found, sparse = _MFMA.fullmatch(name), False
    if found is None:
        found, sparse = _SMFMAC.fullmatch(name), True
    assert found is not None, name
    result, size, depth = found[1], int(found[2]), int(found[3])
    a, b = kinds
    order, group = _order(a, name, fused)
    rows = [(block, i) for block in range(blocks) for i in range(size)]
    kept = depth // 2 if sparse else depth
    return Product(
        64, a, b, result, order, min(group, kept),
        a_steps=_steps(size, blocks, kept, a),
        b_steps=_steps(size, blocks, depth, b),
        a_rows=tuple(size * block + i for block, i in rows),
        b_rows=tuple(size * block for block, _ in rows),
        d_rows=tuple(_row(size, blocks, result == "f64", i, block) for block, i in rows),
        columns=size,
        sparse=sparse,
    )  # fmt: skip


def _order(kind: str, name: str, fused: bool) -> tuple[str, int]:
    if kind in ("f32", "f64"):
        return "chain", 0
    if kind[0] in "iu":
        return "whole", 0
    if kind in SMALL:
        return "halves", 16
    if kind == "xf32":
        return "fused", 4
    if fused:
        return "fused", 8
    return "pairs", 2 if kind == "bf16" and not name.endswith("_1k") else 4


_GROUPS = (range(64), [lane % 32 for lane in range(64)], [32 + lane % 32 for lane in range(64)],
           [(lane + 16) % 64 for lane in range(64)],
           *([16 * row + lane % 16 for lane in range(64)] for row in range(4)))  # fmt: skip
"""Which lane's B each lane takes, by BLGP."""


def _modified(product: Product, made: Instruction, blocks: int) -> Product:
    # CBSZ: so many times two blocks take A of one of them, ABID; BLGP: B of other lanes. For f64
    # BLGP has the signs of A, B and C.
    if product.sparse:
        bits = 2 * product.elements("a")
        shift = 0 if made.cbsz & 3 else made.abid * bits % 32
        return replace(product, index_shift=shift)
    if made.name.endswith("_f8f6f4"):
        return _scaled(product, made) if made.encoding == "VOP3PX2" else product
    if product.a == "f64":
        a, b, c = (bool(made.blgp >> k & 1) for k in range(3))
        return replace(product, negate=(a, a, b, b), negate_c=c)
    if made.cbsz:
        shared, size = 1 << made.cbsz, product.columns
        if shared > blocks or made.abid >= shared:
            raise NotModelled(f"cbsz {made.cbsz} and abid {made.abid} with {blocks} blocks")
        rows = [
            lane % size + size * (lane // size // shared * shared + made.abid)
            for lane in product.a_rows
        ]
        product = replace(product, a_rows=tuple(rows))
    if made.blgp:
        product = replace(product, b_lanes=tuple(_GROUPS[made.blgp]))
    return product


def _scaled(product: Product, made: Instruction) -> Product:
    # For each run of elements of each lane, the lane of the 32 neighbours that they are part of.
    size, lanes = product.columns, []
    for steps in (product.a_steps, product.b_steps):
        block_of = {(element // RUN, lane): k // 32 for k, (element, lane) in enumerate(steps)}
        lanes.append(tuple(
            tuple(size * block_of[run, lane // size * size] + lane % size for lane in range(64))
            for run in range(2)
        ))  # fmt: skip
    first, second = (scale.op_sel + 2 * scale.op_sel_hi for scale in made.src[3:])
    return replace(product, scale_lanes=tuple(lanes), scale_bytes=(first, second))


def _kinds(name: str, made: Instruction, small: str) -> tuple[str, str]:
    # The formats of A and B; `small` is the ending of the target's eight-bit floats.
    found = _MFMA.fullmatch(name) or _SMFMAC.fullmatch(name)
    assert found is not None, name
    if found[4] == "f8f6f4":
        for field, number in (("cbsz", made.cbsz), ("blgp", made.blgp)):
            if number >= len(_F8F6F4):
                raise NotModelled(f"{field} {number}, which names no format")
        return _F8F6F4[made.cbsz], _F8F6F4[made.blgp]
    pair = found[4], found[5] or found[4]
    return (pair[0] + small, pair[1] + small) if pair[0] in SMALL else pair


def _mfma(name: str, size: int) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        made, behaviour = trace.instruction, trace.mode.behaviour
        sparse = "smfmac" in name
        results = made.dst[0].count * 32 // (64 if "_f64_" in name else 32)
        blocks = results * 64 // (size * size)
        kinds = _kinds(name, made, behaviour.small_floats)
        product = _modified(_cdna(name, blocks, behaviour.fused_sums, kinds), made, blocks)
        if product.a == "f32":
            product = replace(product, flush=not trace.mode.float_mode >> 4 & 1)
        if sparse:
            _carry_out(trace, product, made.dst[0], made.src[2])
        else:
            _carry_out(trace, product, *made.src[2:])

    return meaning


_MFMA_NAMES = """
v_mfma_f32_32x32x1f32 v_mfma_f32_16x16x1f32 v_mfma_f32_4x4x1f32 v_mfma_f32_32x32x2f32
v_mfma_f32_16x16x4f32 v_mfma_f32_32x32x4f16 v_mfma_f32_16x16x4f16 v_mfma_f32_4x4x4f16
v_mfma_f32_32x32x8f16 v_mfma_f32_16x16x16f16 v_mfma_i32_32x32x4i8 v_mfma_i32_16x16x4i8
v_mfma_i32_4x4x4i8 v_mfma_i32_32x32x8i8 v_mfma_i32_16x16x16i8 v_mfma_f32_32x32x4bf16_1k
v_mfma_f32_16x16x4bf16_1k v_mfma_f32_4x4x4bf16_1k v_mfma_f32_32x32x8bf16_1k
v_mfma_f32_16x16x16bf16_1k v_mfma_f32_32x32x2bf16 v_mfma_f32_16x16x2bf16 v_mfma_f32_4x4x2bf16
v_mfma_f32_32x32x4bf16 v_mfma_f32_16x16x8bf16 v_mfma_f64_16x16x4f64 v_mfma_f64_4x4x4f64
v_mfma_f32_32x32x1_2b_f32 v_mfma_f32_16x16x1_4b_f32 v_mfma_f32_4x4x1_16b_f32
v_mfma_f32_32x32x2_f32 v_mfma_f32_16x16x4_f32 v_mfma_f32_32x32x4_2b_f16 v_mfma_f32_16x16x4_4b_f16
v_mfma_f32_4x4x4_16b_f16 v_mfma_f32_32x32x8_f16 v_mfma_f32_16x16x16_f16 v_mfma_i32_32x32x4_2b_i8
v_mfma_i32_16x16x4_4b_i8 v_mfma_i32_4x4x4_16b_i8 v_mfma_i32_32x32x16_i8 v_mfma_i32_16x16x32_i8
v_mfma_f32_32x32x4_2b_bf16 v_mfma_f32_16x16x4_4b_bf16 v_mfma_f32_4x4x4_16b_bf16
v_mfma_f32_32x32x8_bf16 v_mfma_f32_16x16x16_bf16 v_mfma_f64_16x16x4_f64 v_mfma_f64_4x4x4_4b_f64
v_mfma_f32_16x16x8_xf32 v_mfma_f32_32x32x4_xf32
v_smfmac_f32_16x16x32_f16 v_smfmac_f32_32x32x16_f16 v_smfmac_f32_16x16x32_bf16
v_smfmac_f32_32x32x16_bf16 v_smfmac_i32_16x16x64_i8 v_smfmac_i32_32x32x32_i8
v_mfma_f32_16x16x32_f16 v_mfma_f32_32x32x16_f16 v_mfma_f32_16x16x32_bf16 v_mfma_f32_32x32x16_bf16
v_mfma_i32_16x16x64_i8 v_mfma_i32_32x32x32_i8 v_mfma_f32_16x16x128_f8f6f4
v_mfma_f32_32x32x64_f8f6f4 v_mfma_scale_f32_16x16x128_f8f6f4 v_mfma_scale_f32_32x32x64_f8f6f4
v_smfmac_f32_16x16x64_f16 v_smfmac_f32_32x32x32_f16 v_smfmac_f32_16x16x64_bf16
v_smfmac_f32_32x32x32_bf16 v_smfmac_i32_16x16x128_i8 v_smfmac_i32_32x32x64_i8
"""
_SHAPES_OF_BYTES = ("mfma_f32_16x16x32", "mfma_f32_32x32x16", "smfmac_f32_16x16x64",
                    "smfmac_f32_32x32x32", "smfmac_f32_16x16x128",
                    "smfmac_f32_32x32x64")  # fmt: skip
_PAIRS = tuple((a, b) for a in ("fp8", "bf8") for b in ("fp8", "bf8"))
_NAMES = _MFMA_NAMES.split() + [f"v_{s}_{a}_{b}" for s in _SHAPES_OF_BYTES for a, b in _PAIRS]
for _name in _NAMES:
    _found = re.search(r"_(\d+)x\d+x", _name)
    assert _found is not None
    MATRIX.add(_name, _mfma(_name, int(_found[1])))


@MATRIX.meaning("v_mfma_ld_scale_b32")
def _load_scale(trace: Trace) -> None:
    raise NotModelled("scales without a product behind that could have them")


# --- WMMA

_SIDE = 16
_STEPS: dict[tuple[int, int, int], tuple[str, str, str]] = {
    (32, 16, 16): ("e e 16 e", "", ""),
    (64, 16, 16): ("e e 16 32", "", ""),
    (32, 8, 16): ("e e e 16", "", ""),
    (64, 8, 16): ("e e 32 16", "", ""),
    (32, 4, 16): ("e e e 16", "", ""),
    (64, 4, 16): ("e e e 16", "", ""),
    (32, 4, 32): ("e e e e 16", "e e e 16", "e e e e 16"),
    (64, 4, 32): ("e e e 32 16", "e e e 16", "e e e 32 16"),
    (32, 16, 32): ("", "e e 16 e", "e e e 16 e"),
    (64, 16, 32): ("", "e e 16 32", "e e e 16 32"),
    (32, 8, 32): ("", "e e e 16", "e e e e 16"),
    (64, 8, 32): ("", "e e 32 16", "e e e 32 16"),
    (32, 4, 64): ("", "e e e e 16", "e e e e e 16"),
    (64, 4, 64): ("", "e e e 32 16", "e e e e 32 16"),
}
"""gfx12, by lanes, bits and K: what each bit of k is part of, bit 0 first: the element's number (e)
or the lane. Of dense factors; of A and B in a sparse product, where A's k counts what is stored.
"""


def _places(text: str) -> tuple[tuple[int, int], ...]:
    bits = text.split()
    found = []
    for k in range(1 << len(bits)):
        element, lane, place = 0, 0, 0
        for number, bit in enumerate(bits):
            one = k >> number & 1
            if bit == "e":
                element, place = element | one << place, place + 1
            else:
                lane += one * int(bit)
        found.append((element, lane))
    return tuple(found)


@cache
def _rdna(
    wave: int, kinds: tuple[str, str], result: str, depth: int, repeated: bool, sparse: bool
) -> Product:
    # `repeated`: gfx11, where each row of 16 lanes has all of A and B.
    rows = wave // _SIDE
    bits = BITS[result]
    if repeated:
        a_steps = b_steps = tuple((k, 0) for k in range(depth))
        skip = 2 if bits == 16 else 1
        d_rows = [(skip * (i // rows), _SIDE * (i % rows)) for i in range(_SIDE)]
    else:
        dense, stored, chosen = _STEPS[wave, BITS[kinds[0]], depth]
        a_steps, b_steps = _places(stored if sparse else dense), _places(chosen or dense)
        if not sparse:
            b_steps = a_steps
        size = _SIDE // rows
        order = (0, 16) if wave == 32 else (0, 32, 16, 48)
        d_rows = [(i % size, order[i // size]) for i in range(_SIDE)]
    return Product(
        wave, *kinds, result, "whole" if result == "i32" else "chain", 0,
        a_steps=a_steps,
        b_steps=b_steps,
        a_rows=tuple(range(_SIDE)),
        b_rows=(0,) * _SIDE,
        d_rows=tuple(d_rows),
        columns=_SIDE,
        sparse=sparse,
    )  # fmt: skip


def _wmma(
    result: str, depth: int, kinds: tuple[str, str], sparse: bool
) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        made = trace.instruction
        a, b, c = made.src
        named = kinds
        if kinds[0].startswith("iu"):
            width = kinds[0][2:]
            named = f"{'i' if a.neg else 'u'}{width}", f"{'i' if b.neg else 'u'}{width}"
        repeated = not sparse and a.count * 32 // BITS[named[0]] == depth
        product = _rdna(trace.mode.wave_size, named, result, depth, repeated, sparse)
        product = _signed(product, made, sparse)
        if repeated and BITS[result] == 16:
            product = replace(product, half=1 + int(c.op_sel))
            if c.op_sel:
                rows = tuple((element + 1, lane) for element, lane in product.d_rows)
                product = replace(product, d_rows=rows)
        if sparse:
            product = replace(product, index_shift=_index_shift(product, made))
            _carry_out(trace, product, made.dst[0], c)
        else:
            _carry_out(trace, product, c)

    return meaning


def _signed(product: Product, made: Instruction, sparse: bool) -> Product:
    # The signs of A and B: of even elements and of odd ones. C is negated, or its size is taken.
    if product.result == "i32":
        return replace(product, clamp=made.clamp)
    a, b, c = made.src
    signs = a.neg, a.neg_hi, b.neg, b.neg_hi
    if sparse:
        return replace(product, negate=signs)
    return replace(product, negate=signs, negate_c=c.neg, absolute_c=c.neg_hi)


def _index_shift(product: Product, made: Instruction) -> int:
    # op_sel of A (and B) names one of the sets of indices that the register has.
    number = made.src[0].op_sel + 2 * made.src[1].op_sel
    return number * 2 * product.elements("a") % 32


for _result, _depth, _pair in (
    ("f32", 16, ("f16", "f16")),
    ("f32", 16, ("bf16", "bf16")),
    ("f16", 16, ("f16", "f16")),
    ("bf16", 16, ("bf16", "bf16")),
    ("i32", 16, ("iu8", "iu8")),
    ("i32", 16, ("iu4", "iu4")),
    ("i32", 32, ("iu4", "iu4")),
    *(("f32", 16, pair) for pair in _PAIRS),
):
    _both = "_".join(_pair) if _pair[0] in SMALL else _pair[0]
    MATRIX.add(f"v_wmma_{_result}_16x16x{_depth}_{_both}", _wmma(_result, _depth, _pair, False))
    if (_depth, _pair[0]) != (16, "iu4"):
        _twice = 2 * _depth
        MATRIX.add(
            f"v_swmmac_{_result}_16x16x{_twice}_{_both}", _wmma(_result, _twice, _pair, True)
        )
    else:
        MATRIX.add("v_swmmac_i32_16x16x32_iu4", _wmma("i32", 32, _pair, True))

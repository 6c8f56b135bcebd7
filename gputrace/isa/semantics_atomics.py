"""Atomics on memory, buffers and LDS: lanes take place one after another, from lane 0 up.

Additions, minima and maxima of f32 and f16 in LDS follow the denormal mode; additions of f32 in
memory keep or flush denormals as the generation does. They round to nearest even.

Sources: AMD's ISA manuals (MI300, RDNA2, RDNA3, RDNA4: LDS, flat and buffer atomics), LLVM's
AMDGPUUsage and SIISelLowering.cpp (denormals of atomics).
"""

from collections.abc import Callable

from gputrace.isa.graph import F32, F64, U32, U64, Node, Type, where
from gputrace.isa.instruction import Operand
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_buffer import buffer_part
from gputrace.isa.semantics_memory import memory_of, parts_of, vector_index
from gputrace.isa.semantics_places import Part
from gputrace.isa.trace import NotModelled, Trace

ATOMICS = Registry()

# What the cell becomes; those of two values take the second as the one to compare or to add.
_TWO_VALUES = ("cmpswap", "fcmpswap", "mskor", "wrap")
_WORDS = {
    "add": ("add", "u"), "sub": ("sub", "u"), "smin": ("min", "i"), "umin": ("min", "u"),
    "smax": ("max", "i"), "umax": ("max", "u"), "and": ("and", "b"), "or": ("or", "b"),
    "xor": ("xor", "b"), "swap": ("swap", "b"), "cmpswap": ("cmpswap", "b"), "inc": ("inc", "u"),
    "dec": ("dec", "u"),
}  # fmt: skip
"""Integer operations: the old name of each in memory is the key, the new one these two parts."""
_FLOAT_MODE_AT = {"pkadd_f16": 6}


def _values(trace: Trace, operands: tuple[Operand, ...], count: int, type: Type) -> list[Node]:
    # The operands of an operation: dwords one behind the other, in one register tuple or two.
    words = type.bits // 32
    if len(operands) == count:
        places = [(operand, 0) for operand in operands]
    else:
        places = [(operands[0], words * k) for k in range(count)]
    return [trace.splat(trace.raw(o, at, words)).bits_as(type) for o, at in places]


def _in_mode(trace: Trace, operation: str, type: Type, space: str) -> str:
    # The operation as the space's unit carries it out: with denormals or without.
    flushes = operation in ("fadd", "fmin", "fmax", "pkadd_f16") and type != F64
    if space == "global":
        flushes = operation == "fadd" and type == F32 and not trace.mode.behaviour.atomic_denormals
        return f"{operation}_flush" if flushes else operation
    if not flushes:
        return operation
    kept = trace.mode.float_mode >> _FLOAT_MODE_AT.get(operation, 4) & 3
    if kept in (1, 2):
        raise NotModelled("atomics in LDS that flush denormals on one side only")
    return operation if kept else f"{operation}_flush"


def _carry_out(
    trace: Trace, operation: str, type: Type, parts: list[Part], values: list[Node]
) -> Node:
    # What was there before.
    olds = [
        trace.apply(
            "atomic", part.place(0), *values, part.mask, type=type,
            attribute=(part.space, _in_mode(trace, operation, type, part.space)),
        )
        for part in parts
    ]  # fmt: skip
    old = olds[0]
    for part, other in zip(parts[1:], olds[1:], strict=True):
        old = where(part.mask, other, old)
    return old


def _atomic(operation: str, type: Type, new_last: bool = False) -> Callable[[Trace], None]:
    # `new_last`: the value to store stands behind the one to compare with (gfx9 and gfx10 LDS).
    def meaning(trace: Trace) -> None:
        memory = memory_of(trace)
        count = 2 if operation in _TWO_VALUES else 1
        values = _values(trace, memory.data, count, type)
        size = type.bits // 8
        if trace.instruction.name.startswith("buffer"):
            parts = [buffer_part(trace, memory, "atomic", size)]
        else:
            parts = parts_of(trace, memory, "atomic", size)
        old = _carry_out(trace, operation, type, parts, values[::-1] if new_last else values)
        if trace.instruction.dst:
            raw = old.bits_as(Type("i", type.bits))
            trace.put_vector(vector_index(trace.instruction.dst[0]), raw)

    return meaning


# --- memory and buffers

_STEMS = ("global_atomic", "flat_atomic", "buffer_atomic")
_FLOATS = {
    "fadd": ("add_f32", "add_f64"),
    "fmin": ("fmin", "fmin_x2", "min_f32", "min_f64", "min_num_f32"),
    "fmax": ("fmax", "fmax_x2", "max_f32", "max_f64", "max_num_f32"),
    "fcmpswap": ("fcmpswap", "fcmpswap_x2", "cmpswap_f32"),
}
_WORDS_ONLY = {
    "subclamp": "csub csub_u32 sub_clamp_u32", "condsub": "cond_sub_u32",
    "pkadd_f16": "pk_add_f16", "pkadd_bf16": "pk_add_bf16",
}  # fmt: skip

for _stem in _STEMS:
    for _operation, (_new, _letter) in _WORDS.items():
        for _type, _ending in ((U32, ""), (U64, "_x2")):
            _names = f"{_stem}_{_operation}{_ending} {_stem}_{_new}_{_letter}{_type.bits}"
            ATOMICS.add(_names, _atomic(_operation, _type))
    for _operation, _spellings in _FLOATS.items():
        for _name in _spellings:
            _type = F64 if _name.endswith(("_x2", "64")) else F32
            ATOMICS.add(f"{_stem}_{_name}", _atomic(_operation, _type))
    for _operation, _spelling in _WORDS_ONLY.items():
        for _name in _spelling.split():
            ATOMICS.add(f"{_stem}_{_name}", _atomic(_operation, U32))


# --- LDS


def _lds(stem: str, ending: str, operation: str, type: Type) -> None:
    names = f"ds_{stem}_{ending} ds_{stem}_rtn_{ending}"
    ATOMICS.add(names, _atomic(operation, type))


for _operation, (_new, _letter) in (_WORDS | {"rsub": ("rsub", "u")}).items():
    if "swap" not in _operation:
        for _type in (U32, U64):
            _lds(_new, f"{_letter}{_type.bits}", _operation, _type)
for _type in (F32, F64):
    _lds("add", str(_type), "fadd", _type)
    for _least in ("min", "max"):
        _lds(_least, str(_type), f"f{_least}", _type)
        _lds(f"{_least}_num", str(_type), f"f{_least}", _type)
for _type in (U32, U64):
    _bits = _type.bits
    _lds("mskor", f"b{_bits}", "mskor", _type)
    ATOMICS.add(f"ds_wrxchg_rtn_b{_bits} ds_storexchg_rtn_b{_bits}", _atomic("swap", _type))
for _operation, _type in (("cmpswap", U32), ("cmpswap", U64), ("fcmpswap", F32), ("fcmpswap", F64)):
    _ending = str(_type).replace("i", "b")
    ATOMICS.add(
        f"ds_cmpst_{_ending} ds_cmpst_rtn_{_ending}", _atomic(_operation, _type, new_last=True)
    )
    ATOMICS.add(f"ds_cmpstore_{_ending} ds_cmpstore_rtn_{_ending}", _atomic(_operation, _type))
for _stem, _ending, _operation in (
    ("sub_clamp", "u32", "subclamp"), ("cond_sub", "u32", "condsub"),
    ("pk_add", "f16", "pkadd_f16"), ("pk_add", "bf16", "pkadd_bf16"),
):  # fmt: skip
    _lds(_stem, _ending, _operation, U32)
ATOMICS.add("ds_wrap_rtn_b32", _atomic("wrap", U32))


@ATOMICS.meaning("ds_condxchg32_rtn_b64")
def _exchange_if_marked(trace: Trace) -> None:
    # Two dwords at a multiple of eight; bit 31 of each says whether its other bits are stored.
    memory = memory_of(trace)
    if memory.address is None:
        raise NotModelled("no address")
    start = (trace.raw(memory.address, 0, 1) + memory.offset) & 0xFFF8
    index = vector_index(trace.instruction.dst[0])
    for k in range(2):
        data = trace.splat(trace.raw(memory.data[0], k, 1))
        part = Part("lds", trace.active(), _place(start, 4 * k))
        trace.put_vector(index + k, _carry_out(trace, "condxchg", U32, [part], [data]))


def _place(start: Node, at: int) -> Callable[[int], Node]:
    return lambda extra: start + (at + extra)

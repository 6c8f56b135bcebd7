"""Scalar memory: loads by the scalar cache (SMEM).

Witness: AMD's ISA manuals (scalar memory operations), and the results of compiled kernels.
"""

from collections.abc import Callable

from gputrace.isa.graph import I1, U8, U16, U32, U64, Type
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_memory import DWORDS, memory_of
from gputrace.isa.trace import NotModelled, Trace

SMEM = Registry()


def _scalar_load(count: int) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        memory = memory_of(trace)
        if memory.base is None:
            raise NotModelled("no base")
        address = trace.raw(memory.base, 0, 2) + memory.offset
        if memory.soffset is not None:
            address = address + trace.raw(memory.soffset, 0, 1).zext(U64)
        address = address & ((1 << 64) - 4)
        always = trace.const(I1, 1)
        found = trace.apply("check", address, always, attribute=("read", 4 * count))
        first = trace.place(trace.instruction.dst[0])
        for k in range(count):
            word = trace.apply("load", found + 4 * k, always, type=U32, attribute="global")
            trace.put_scalar(first + k, word)

    return meaning


for _name, _count in DWORDS.items():
    SMEM.add(f"s_load_{_name}", _scalar_load(_count))

# --- scalar loads of bytes and halves (gfx12)


def _scalar_part(element: Type, signed: bool) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        memory = memory_of(trace)
        if memory.base is None:
            raise NotModelled("no base")
        address = trace.raw(memory.base, 0, 2) + memory.offset
        if memory.soffset is not None:
            address = address + trace.raw(memory.soffset, 0, 1).zext(U64)
        always = trace.const(I1, 1)
        size = element.bits // 8
        found = trace.apply("check", address, always, attribute=("read", size))
        value = trace.apply("load", found, always, type=element, attribute="global")
        wide = value.sext(U32) if signed else value.zext(U32)
        trace.put_scalar(trace.place(trace.instruction.dst[0]), wide)

    return meaning


for _name, _element, _signed in (
    ("u8", U8, False), ("i8", U8, True), ("u16", U16, False), ("i16", U16, True),
):  # fmt: skip
    SMEM.add(f"s_load_{_name}", _scalar_part(_element, _signed))

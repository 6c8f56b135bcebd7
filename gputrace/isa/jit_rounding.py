"""Arithmetic with another rounding than to the nearest, as functions of compiled code.

The processor's rounding is set, the operation done with LLVM's constrained intrinsics, and the
rounding set back: in a function of its own, so that nothing else moves between.
"""

from dataclasses import replace

from gputrace.isa.graph import F16, F32, Node
from gputrace.isa.protocols import Emitter

_LLVM_MODES = {1: 2, 2: 3, 3: 0}  # llvm.set.rounding counts: to zero, nearest, up, down


def function(name: str, operation: str, mode: int, kinds: list[str], result: str) -> str:
    """Return the function `name` of operands of LLVM types `kinds`.

    `operation` is that of a constrained intrinsic ("fadd", "fma", "fptrunc", "sitofp").
    """
    given = ", ".join(f"{kind} %x{number}" for number, kind in enumerate(kinds))
    how = 'metadata !"round.dynamic", metadata !"fpexcept.ignore"'
    call = f"call {result} @{intrinsic(operation, kinds, result)}({given}, {how}) strictfp"
    return "\n".join([
        f"define internal {result} @{name}({given}) noinline strictfp {{",
        f"  call void @llvm.set.rounding(i32 {_LLVM_MODES[mode]}) strictfp",
        f"  %r = {call}",
        "  call void @llvm.set.rounding(i32 1) strictfp",
        f"  ret {result} %r",
        "}",
    ])  # fmt: skip


def declarations(operation: str, kinds: list[str], result: str) -> dict[str, str]:
    """Return the declarations of what such a function calls, by name."""
    name = intrinsic(operation, kinds, result)
    given = ", ".join([*kinds, "metadata", "metadata"])
    return {
        "llvm.set.rounding": "declare void @llvm.set.rounding(i32)",
        name: f"declare {result} @{name}({given})",
    }


def intrinsic(operation: str, kinds: list[str], result: str) -> str:
    """Return the name of a constrained intrinsic."""
    parts = [suffix(result)]
    if kinds[0] != result:
        parts.append(suffix(kinds[0]))
    return f"llvm.experimental.constrained.{operation}.{'.'.join(parts)}"


def suffix(type: str) -> str:
    """Return the ending that an overloaded intrinsic's name has for an LLVM type."""
    if type.startswith("<"):
        count, _, element = type[1:-1].split(" ")
        return f"v{count}{suffix(element)}"
    return {"half": "f16", "float": "f32", "double": "f64"}.get(type, type)


def directed_llvm(b: Emitter, n: Node, operation: str, mode: int, *args: str) -> str:
    """Append arithmetic with a rounding of its own, given the operation of an intrinsic."""
    if n.type != F16:
        given = [(b.type(arg), value) for arg, value in zip(n.args, args, strict=True)]
        return b.rounded(b.type(n), operation, mode, *given)
    # As singles first: rounding twice in one direction is rounding once.
    single = b.type(replace(n, type=F32))
    given = []
    for arg, value in zip(n.args, args, strict=True):
        if arg.type == F16:
            value = b.inst(f"fpext {b.type(arg)} {value} to {single}")
        given.append((single if arg.type.kind == "f" else b.type(arg), value))
    if operation != "fptrunc":
        given = [(single, b.rounded(single, operation, mode, *given))]
    return _narrowed(b, n, mode, *given[0])


def _narrowed(b: Emitter, n: Node, mode: int, single: str, value: str) -> str:
    # Singles to halves: to the nearest, and from there to the neighbour where that went wrong (LLVM
    # 22 has no constrained one of whole waves).
    half = b.type(n)
    word, bit = half.replace("half", "i16"), half.replace("half", "i1")
    near = b.inst(f"fptrunc {single} {value} to {half}")
    back = b.inst(f"fpext {half} {near} to {single}")
    bits = b.inst(f"bitcast {half} {near} to {word}")
    negative = b.inst(f"icmp slt {word} {bits}, {'zeroinitializer' if n.lanes else '0'}")
    below = b.inst(f"fcmp olt {single} {back}, {value}")
    above = b.inst(f"fcmp ogt {single} {back}, {value}")
    one, less = ("splat (i16 1)", "splat (i16 -1)") if n.lanes else ("1", "-1")
    if mode == 3:
        wrong = b.inst(f"select {bit} {negative}, {bit} {below}, {bit} {above}")
        step = less
    else:
        wrong = below if mode == 1 else above
        signs = (less, one) if mode == 1 else (one, less)
        step = b.inst(f"select {bit} {negative}, {word} {signs[0]}, {word} {signs[1]}")
    moved = b.inst(f"add {word} {bits}, {step}")
    made = b.inst(f"select {bit} {wrong}, {word} {moved}, {word} {bits}")
    return b.inst(f"bitcast {word} {made} to {half}")


def limited_llvm(b: Emitter, n: Node, value: str, *args: str) -> str:
    """Make halves that are infinite without an infinite source the largest."""
    many = b.type(n)
    word, bit = many.replace("half", "i16"), many.replace("half", "i1")

    def splat(number: int) -> str:
        return f"splat (i16 {number})" if n.lanes else str(number)

    bits = b.inst(f"bitcast {many} {value} to {word}")
    size = b.inst(f"and {word} {bits}, {splat(0x7FFF)}")
    change = b.inst(f"icmp eq {word} {size}, {splat(0x7C00)}")
    for arg, name in zip(n.args, args, strict=True):
        if arg.type.kind == "f":
            rest = b.inst(f"fsub {b.type(arg)} {name}, {name}")
            finite = b.inst(f"fcmp ord {b.type(arg)} {rest}, {rest}")
            change = b.inst(f"and {bit} {change}, {finite}")
    largest = b.inst(f"sub {word} {bits}, {splat(1)}")
    chosen = b.inst(f"select {bit} {change}, {word} {largest}, {word} {bits}")
    return b.inst(f"bitcast {word} {chosen} to {many}")

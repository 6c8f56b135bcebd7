"""Atomics of compiled code: one helper for each operation and type, lane by lane from lane 0 up.

`HELPERS` lists them as "atomic.<operation>.<LLVM type>"; those for LDS have "lds." in front.
"""

from collections.abc import Iterator
from typing import Final


def _extreme(kind: str, compare: str) -> str:
    choice = f"%new = select i1 %c, {kind} %old, {kind} %value"
    return f"%c = icmp {compare} {kind} %old, %value\n  {choice}"


_INTEGER: Final = {
    "add": "%new = add @T@ %old, %value",
    "sub": "%new = sub @T@ %old, %value",
    "and": "%new = and @T@ %old, %value",
    "or": "%new = or @T@ %old, %value",
    "xor": "%new = xor @T@ %old, %value",
    "swap": "%new = or @T@ %value, 0",
    "cmpswap": "%c = icmp eq @T@ %old, %expected\n"
    "  %new = select i1 %c, @T@ %value, @T@ %old",
    "umin": _extreme("@T@", "ult"),
    "umax": _extreme("@T@", "ugt"),
    "smin": _extreme("@T@", "slt"),
    "smax": _extreme("@T@", "sgt"),
    "inc": "%c = icmp uge @T@ %old, %value\n  %up = add @T@ %old, 1\n"
    "  %new = select i1 %c, @T@ 0, @T@ %up",
    "rsub": "%new = sub @T@ %value, %old",
    "mskor": "%kept = xor @T@ %value, -1\n  %rest.bits = and @T@ %old, %kept\n"
    "  %new = or @T@ %rest.bits, %expected",
    "dec": "%z = icmp eq @T@ %old, 0\n  %o = icmp ugt @T@ %old, %value\n  %c = or i1 %z, %o\n"
    "  %down = sub @T@ %old, 1\n  %new = select i1 %c, @T@ %value, @T@ %down",
}

# Of dwords only.
_WORD: Final = {
    "wrap": "%c = icmp uge i32 %old, %value\n  %less = sub i32 %old, %value\n"
    "  %more.new = add i32 %old, %expected\n  %new = select i1 %c, i32 %less, i32 %more.new",
    "condsub": "%c = icmp uge i32 %old, %value\n  %less = sub i32 %old, %value\n"
    "  %new = select i1 %c, i32 %less, i32 %old",
    "subclamp": "%c = icmp uge i32 %old, %value\n  %less = sub i32 %old, %value\n"
    "  %new = select i1 %c, i32 %less, i32 0",
    "condxchg": "%c = icmp slt i32 %value, 0\n  %rest.bits = and i32 %value, 2147483647\n"
    "  %new = select i1 %c, i32 %rest.bits, i32 %old",
}


def _flush(kind: str, value: str, result: str) -> list[str]:
    # A denormal becomes the zero of its sign.
    exponent, sign = {"i16": (0x7C00, -0x8000), "i32": (0x7F800000, -0x80000000)}[kind]
    return [
        f"{result}.size = and {kind} {value}, {exponent}",
        f"{result}.tiny = icmp eq {kind} {result}.size, 0",
        f"{result}.sign = and {kind} {value}, {sign}",
        f"{result} = select i1 {result}.tiny, {kind} {result}.sign, {kind} {value}",
    ]


def _half_sum(at: int, flush: bool) -> list[str]:
    # Two f16 added as f32, which holds their sum to twice their digits: rounding once or twice
    # is the same.
    lines = []
    for name in ("old", "value"):
        one = f"%{name}.{at}"
        lines += [f"{one}.up = lshr i32 %{name}, {at}", f"{one}.raw = trunc i32 {one}.up to i16"]
        lines += _flush("i16", f"{one}.raw", f"{one}.bits") if flush else []
        bits = f"{one}.bits" if flush else f"{one}.raw"
        lines += [f"{one}.half = bitcast i16 {bits} to half"]
        lines += [f"{one}.wide = fpext half {one}.half to float"]
    lines += [
        f"%sum.{at} = fadd float %old.{at}.wide, %value.{at}.wide",
        f"%nan.{at} = fcmp uno float %sum.{at}, %sum.{at}",
        f"%narrow.{at} = fptrunc float %sum.{at} to half",
        f"%raw.{at} = bitcast half %narrow.{at} to i16",
    ]
    lines += _flush("i16", f"%raw.{at}", f"%flushed.{at}") if flush else []
    kept = f"%flushed.{at}" if flush else f"%raw.{at}"
    lines += [f"%part.{at} = select i1 %nan.{at}, i16 {0x7E00}, i16 {kept}"]
    return [*lines, f"%dword.{at} = zext i16 %part.{at} to i32"]


def _brain_sum(at: int) -> list[str]:
    # Two bf16 added as f32 and rounded to nearest even.
    lines = []
    for name in ("old", "value"):
        one = f"%{name}.{at}"
        lines += [
            f"{one}.down = lshr i32 %{name}, {at}",
            f"{one}.bits = shl i32 {one}.down, 16",
            f"{one}.wide = bitcast i32 {one}.bits to float",
        ]
    return [
        *lines,
        f"%sum.{at} = fadd float %old.{at}.wide, %value.{at}.wide",
        f"%nan.{at} = fcmp uno float %sum.{at}, %sum.{at}",
        f"%raw.{at} = bitcast float %sum.{at} to i32",
        f"%top.{at} = lshr i32 %raw.{at}, 16",
        f"%odd.{at} = and i32 %top.{at}, 1",
        f"%bias.{at} = add i32 %odd.{at}, {0x7FFF}",
        f"%up.{at} = add i32 %raw.{at}, %bias.{at}",
        f"%rounded.{at} = lshr i32 %up.{at}, 16",
        f"%dword.{at} = select i1 %nan.{at}, i32 {0x7FC0}, i32 %rounded.{at}",
    ]


def _pair(low: list[str], high: list[str]) -> str:
    joined = ["%raised = shl i32 %dword.16, 16", "%new = or i32 %dword.0, %raised"]
    return "\n  ".join([*low, *high, *joined])


_PAIRS: Final = {
    "pkadd_f16": _pair(_half_sum(0, False), _half_sum(16, False)),
    "pkadd_f16_flush": _pair(_half_sum(0, True), _half_sum(16, True)),
    "pkadd_bf16": _pair(_brain_sum(0), _brain_sum(16)),
}

_FLOAT_HEAD = "%a = bitcast @T@ %old to @F@\n  %b = bitcast @T@ %value to @F@\n  "


def _float_extreme(least: bool) -> str:
    # A NaN gives the other operand; -0 is less than +0.
    compare, sign = ("olt", "slt") if least else ("ogt", "sge")
    return _FLOAT_HEAD + (
        f"%less = fcmp {compare} @F@ %a, %b\n  %same = fcmp oeq @F@ %a, %b\n"
        f"  %negative = icmp {sign} @T@ %old, 0\n  %tie = and i1 %same, %negative\n"
        "  %b.nan = fcmp uno @F@ %b, %b\n  %a.nan = fcmp uno @F@ %a, %a\n"
        "  %first = or i1 %less, %tie\n  %keep.b = or i1 %first, %b.nan\n"
        "  %a.good = xor i1 %a.nan, true\n  %keep = and i1 %keep.b, %a.good\n"
        "  %new = select i1 %keep, @T@ %old, @T@ %value"
    )


_FLOAT: Final = {
    "fadd": _FLOAT_HEAD + "%raw = fadd @F@ %a, %b\n  %nan = fcmp uno @F@ %raw, %raw\n"
    "  %bits = bitcast @F@ %raw to @T@\n  %new = select i1 %nan, @T@ @QUIET@, @T@ %bits",
    "fmin": _float_extreme(True),
    "fmax": _float_extreme(False),
    "fcmpswap": _FLOAT_HEAD + "%e = bitcast @T@ %expected to @F@\n"
    "  %c = fcmp oeq @F@ %a, %e\n  %new = select i1 %c, @T@ %value, @T@ %old",
}


def _flushing(body: str) -> str:
    for name in ("old", "value"):
        body = body.replace(f"%{name},", f"%{name}.in,").replace(f"%{name} ", f"%{name}.in ")
        body = body.removesuffix(f"%{name}") + f"%{name}.in" * body.endswith(f"%{name}")
    body = body.replace("%new =", "%whole =")
    lines = [*_flush("i32", "%old", "%old.in"), *_flush("i32", "%value", "%value.in"), body]
    return "\n  ".join([*lines, *_flush("i32", "%whole", "%new")])


_FLUSHING: Final = {f"{name}_flush": _flushing(_FLOAT[name]) for name in ("fadd", "fmin", "fmax")}

_QUIET: Final = {"float": 0x7FC00000, "double": 0x7FF8000000000000}


def _atomic_names() -> Iterator[str]:
    for kind in ("i32", "i64"):
        yield from (f"atomic.{name}.{kind}" for name in _INTEGER)
    yield from (f"atomic.{name}.i32" for name in (*_WORD, *_PAIRS))
    for kind in ("float", "double"):
        yield from (f"atomic.{name}.{kind}" for name in _FLOAT)
    yield from (f"atomic.{name}.float" for name in _FLUSHING)


_BODIES: Final = _INTEGER | _WORD | _PAIRS | _FLOAT | _FLUSHING
TWO_VALUES: Final = ("cmpswap", "fcmpswap", "mskor", "wrap")
"""Operations that take a second value."""

HELPERS: Final = tuple(_atomic_names())
"""The helpers for atomics: operation and LLVM type."""


def helper(full: str, space: str) -> str:
    """Return the definition of one helper for "global" or "lds"."""
    _, name, kind = full.split(".")
    raw = {"float": "i32", "double": "i64"}.get(kind, kind)
    values = {
        "BODY": _BODIES[name],
        "WRITE": _PLAIN if space == "lds" else _LOCKED,
        "FULL": full if space == "global" else f"lds.{full}",
        "KIND": kind,
        "F": kind,
        "T": raw,
        "QUIET": str(_QUIET.get(kind, 0)),
        "ALIGN": str(int(raw[1:]) // 8),
    }
    text = _ATOMIC
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


_PLAIN = """store @T@ %new, ptr %at, align 1
  br label %after"""

# Other threads of the process may work on the same memory: the new value goes in only while the
# old one still stands there.
_LOCKED = """%pair = cmpxchg ptr %at, @T@ %old, @T@ %new seq_cst seq_cst, align @ALIGN@
  %went = extractvalue {@T@, i1} %pair, 1
  br i1 %went, label %after, label %try"""

_ATOMIC = """
define <@W@ x @KIND@> @@FULL@(ptr %changes, <@W@ x i64> %places, <@W@ x @KIND@> %values,
                              <@W@ x @KIND@> %third, i64 %mask) #0 {
entry:
  %list = alloca <@W@ x i64>, align 64
  %data = alloca <@W@ x @KIND@>, align 64
  %wanted = alloca <@W@ x @KIND@>, align 64
  %olds = alloca <@W@ x @KIND@>, align 64
  store <@W@ x i64> %places, ptr %list, align 64
  store <@W@ x @KIND@> %values, ptr %data, align 64
  store <@W@ x @KIND@> %third, ptr %wanted, align 64
  store <@W@ x @KIND@> zeroinitializer, ptr %olds, align 64
  %changed.before = load i64, ptr %changes
  br label %next
next:
  %left = phi i64 [%mask, %entry], [%rest, %after]
  %sum = phi i64 [%changed.before, %entry], [%sum.next, %after]
  %more = icmp ne i64 %left, 0
  br i1 %more, label %lane, label %done
lane:
  %n = call i64 @llvm.cttz.i64(i64 %left, i1 true)
  %less.one = sub i64 %left, 1
  %rest = and i64 %left, %less.one
  %at.at = getelementptr i64, ptr %list, i64 %n
  %at = load ptr, ptr %at.at
  %value.at = getelementptr @T@, ptr %data, i64 %n
  %value = load @T@, ptr %value.at
  %expected.at = getelementptr @T@, ptr %wanted, i64 %n
  %expected = load @T@, ptr %expected.at
  br label %try
try:
  %old = load @T@, ptr %at, align 1
  @BODY@
  @WRITE@
after:
  %old.at = getelementptr @T@, ptr %olds, i64 %n
  store @T@ %old, ptr %old.at
  %differs = icmp ne @T@ %old, %new
  %count = zext i1 %differs to i64
  %sum.next = add i64 %sum, %count
  br label %next
done:
  store i64 %sum, ptr %changes
  %result = load <@W@ x @KIND@>, ptr %olds, align 64
  ret <@W@ x @KIND@> %result
}
"""

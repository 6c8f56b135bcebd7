"""What memory instructions do, said a second time: bytes, one lane after another.

Everything follows from the mnemonic, read by rules of this module alone: which space, how many
bytes, what an atomic leaves. `expected` changes copies of memory, LDS and registers.
"""

import math
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.isa.exact import rounded
from tests.isa.witness import least, most

SPACES = "global|flat|scratch|buffer|ds"
_LOAD = re.compile(rf"({SPACES})_(?:load|read)_(\w+)")
_STORE = re.compile(rf"({SPACES})_(?:store|write)_(\w+)")
_MEMORY_ATOMIC = re.compile(r"(global|flat|buffer)_atomic_(\w+)")
_TWO = re.compile(r"ds_(load|read|store|write)_?2(?:addr_)?(st64|stride64)?_?b(32|64)")
_LDS_ATOMIC = re.compile(
    r"ds_(add|sub|rsub|inc|dec|min|max|min_num|max_num|and|or|xor|mskor|wrxchg|storexchg|cmpst"
    r"|cmpstore|wrap|condxchg32|cond_sub|sub_clamp|pk_add)(_rtn)?_([biuf]+)(16|32|64)"
)
_BYTES = {"byte": 1, "short": 2, "8": 1, "16": 2}


@dataclass(frozen=True)
class Shape:
    """A load or store: `size` bytes as `words` dwords of registers."""

    size: int
    signed: bool = False
    half: str = ""

    @property
    def words(self) -> int:
        return max(1, self.size // 4)


def shape_of(text: str) -> Shape | None:
    """Read the ending of a load or store."""
    found = re.fullmatch(r"dword(?:x(\d+))?", text)
    if found:
        return Shape(4 * int(found[1] or 1))
    found = re.fullmatch(r"b(32|64|96|128)", text)
    if found:
        return Shape(int(found[1]) // 8)
    half = "hi" if "hi" in text.split("_") else "lo" if "d16" in text.split("_") else ""
    plain = "_".join(part for part in text.split("_") if part not in ("d16", "hi"))
    found = re.fullmatch(r"([usib]?)(byte|short|8|16)", plain)
    return Shape(_BYTES[found[2]], found[1] in ("s", "i"), half) if found else None


def plain_names(names: Iterator[str] | list[str]) -> dict[str, tuple[str, str, Shape]]:
    """Return (space, what, shape) of the loads and stores among some mnemonics."""
    made = {}
    for name in names:
        for verb, pattern in (("load", _LOAD), ("store", _STORE)):
            found = pattern.fullmatch(name)
            shape = shape_of(found[2]) if found else None
            if found and shape:
                made[name] = found[1], verb, shape
    return made


# --- atomics

Update = Callable[[int, int, int], int]


def _sign(value: int, bits: int) -> int:
    return value - (value >> bits - 1 << bits)


def _integer(operation: str, bits: int) -> Update:
    signed = lambda v: _sign(v, bits)  # noqa: E731
    table: dict[str, Update] = {
        "add": lambda old, a, b: old + a,
        "sub": lambda old, a, b: old - a,
        "rsub": lambda old, a, b: a - old,
        "and": lambda old, a, b: old & a,
        "or": lambda old, a, b: old | a,
        "xor": lambda old, a, b: old ^ a,
        "swap": lambda old, a, b: a,
        "cmpswap": lambda old, a, b: a if old == b else old,
        "umin": lambda old, a, b: min(old, a),
        "umax": lambda old, a, b: max(old, a),
        "smin": lambda old, a, b: min(old, a, key=signed),
        "smax": lambda old, a, b: max(old, a, key=signed),
        "inc": lambda old, a, b: 0 if old >= a else old + 1,
        "dec": lambda old, a, b: a if old == 0 or old > a else old - 1,
        "mskor": lambda old, a, b: old & ~a | b,
        "wrap": lambda old, a, b: old - a if old >= a else old + b,
        "cond_sub": lambda old, a, b: old - a if old >= a else old,
        "sub_clamp": lambda old, a, b: max(0, old - a),
    }
    update = table[operation]
    return lambda old, a, b: update(old, a, b) & (1 << bits) - 1


_CODES = {16: "<e", 32: "<f", 64: "<d"}
_TINY = {16: 2.0**-14, 32: 2.0**-126, 64: 2.0**-1022}
_NAN = {16: 0x7E00, 32: 0x7FC00000, 64: 0x7FF8000000000000}


def number(pattern: int, bits: int) -> float:
    return float(struct.unpack(_CODES[bits], pattern.to_bytes(bits // 8, "little"))[0])


def pattern(value: Any, bits: int) -> int:
    """Round a fraction or float once and return its bits; there is one NaN."""
    exact = rounded(value, bits) if isinstance(value, Fraction) else float(value)
    if exact != exact:
        return _NAN[bits]
    return int.from_bytes(struct.pack(_CODES[bits], exact), "little")


def plus(a: float, b: float) -> Fraction | float:
    """Add exactly what is finite; zeros have the sign that rounding to nearest gives them."""
    exact = Fraction(a) + Fraction(b) if math.isfinite(a) and math.isfinite(b) else Fraction(0)
    return exact or a + b


def _flushed(bits_of: int, bits: int) -> int:
    value = number(bits_of, bits)
    return bits_of & 1 << bits - 1 if abs(value) < _TINY[bits] else bits_of


def _float(operation: str, bits: int, flush: bool) -> Update:
    def update(old: int, a: int, b: int) -> int:
        if operation == "cmpswap":
            return a if number(old, bits) == number(b, bits) else old
        if flush:
            old, a = _flushed(old, bits), _flushed(a, bits)
        x, y = number(old, bits), number(a, bits)
        if operation == "add":
            made = pattern(plus(x, y), bits)
        else:
            chosen = (least if operation == "min" else most)(x, y)
            kept = x == x and (chosen is x or (chosen == x and struct.pack("<d", chosen)
                                               == struct.pack("<d", x)))  # fmt: skip
            made = old if kept or (y != y and x == x) else a
        return _flushed(made, bits) if flush else made

    return update


def _pair(brain: bool, flush: bool) -> Update:
    def half(old: int, a: int) -> int:
        if not brain:
            return _float("add", 16, flush)(old, a, 0)
        x, y = (number(part << 16, 32) for part in (old, a))
        total = plus(x, y)
        if isinstance(total, float):
            return 0x7FC0 if total != total else pattern(total, 32) >> 16
        return _brain(total)

    return lambda old, a, b: half(old & 0xFFFF, a & 0xFFFF) | half(old >> 16, a >> 16) << 16


def _brain(value: Fraction) -> int:
    # The bf16 nearest to an exact value: of the two around it, the even one when both are as near.
    near = pattern(value, 32) >> 16
    around = [n for n in (near - 1, near, near + 1) if n >= 0 and n & 0x7FFF < 0x7F80]
    best = min(
        around, key=lambda n: (abs(Fraction(number(n << 16, 32)) - value), n & 1)
    )
    largest = Fraction(2) ** 128 - Fraction(2) ** 119  # halfway beyond the largest one
    if abs(value) >= largest:
        return 0x7F80 | (value < 0) << 15
    return best


@dataclass(frozen=True)
class Atomic:
    """An atomic: where, of how many bytes, with how many values, in which order of operands."""

    space: str
    bits: int
    update: Update
    values: int = 1
    new_last: bool = False


_OLD_FLOATS = {"fmin": "min", "fmax": "max", "fcmpswap": "cmpswap"}
_SHORT = ("swap", "cmpswap", "add", "sub", "smin", "umin", "smax", "umax", "and", "or", "xor",
          "inc", "dec")  # fmt: skip


def memory_atomic(name: str, keeps_denormals: bool) -> Atomic | None:
    """Read the name of an atomic on memory."""
    found = _MEMORY_ATOMIC.fullmatch(name)
    if found is None:
        return None
    space, text = found.groups()
    bits = 64 if text.endswith(("_x2", "64")) else 32
    stem = text.removesuffix("_x2")
    if stem in _SHORT:
        return Atomic(space, bits, _integer(stem, bits), 2 if stem == "cmpswap" else 1)
    if stem in _OLD_FLOATS:
        kind = _OLD_FLOATS[stem]
        return Atomic(space, bits, _float(kind, bits, False), 2 if kind == "cmpswap" else 1)
    if stem in ("csub", "csub_u32", "sub_clamp_u32"):
        return Atomic(space, 32, _integer("sub_clamp", 32))
    if stem == "cond_sub_u32":
        return Atomic(space, 32, _integer("cond_sub", 32))
    if stem.startswith("pk_add"):
        return Atomic(space, 32, _pair(stem.endswith("bf16"), False))
    typed = re.fullmatch(r"(\w+?)(_num)?_([biuf])(32|64)", stem)
    if typed is None:
        return None
    operation, letter = typed[1], typed[3]
    values = 2 if operation == "cmpswap" else 1
    if letter == "f":
        flush = operation == "add" and bits == 32 and not keeps_denormals
        return Atomic(space, bits, _float(operation, bits, flush), values)
    return Atomic(space, bits, _integer(_with_sign(operation, letter), bits), values)


def _with_sign(operation: str, letter: str) -> str:
    if operation in ("min", "max"):
        return ("s" if letter == "i" else "u") + operation
    return operation


def lds_atomic(name: str) -> Atomic | None:
    """Read the name of an atomic on LDS (with denormals)."""
    found = _LDS_ATOMIC.fullmatch(name)
    if found is None or found[1] == "condxchg32":
        return None
    operation, letter, bits = found[1], found[3], int(found[4])
    if operation == "pk_add":
        return Atomic("ds", 32, _pair(letter == "bf", False))
    if operation in ("cmpst", "cmpstore"):
        make = _float if letter == "f" else (lambda op, width, flush: _integer(op, width))
        return Atomic("ds", bits, make("cmpswap", bits, False), 2, operation == "cmpst")
    if operation in ("wrxchg", "storexchg"):
        return Atomic("ds", bits, _integer("swap", bits))
    stem = operation.removesuffix("_num")
    if letter == "f":
        return Atomic("ds", bits, _float(stem, bits, False))
    values = 2 if stem in ("mskor", "wrap") else 1
    return Atomic("ds", bits, _integer(_with_sign(stem, letter), bits), values)


def two_places(name: str) -> tuple[str, int, int] | None:
    """Read the name of an LDS access of two places: (what, bytes of each, bytes of a step)."""
    found = _TWO.fullmatch(name)
    if found is None:
        return None
    size = int(found[3]) // 8
    verb = "load" if found[1] in ("load", "read") else "store"
    return verb, size, size * (64 if found[2] else 1)


# --- what is left behind


@dataclass
class World:
    """Copies of what an instruction may change, and where each lane goes."""

    memory: bytearray
    lds: bytearray
    vectors: NDArray[np.uint32]
    active: list[int]
    where: Callable[[int], tuple[str, Callable[[int], int]]]
    """Lane to the space that it goes to, and place there of each byte of the access."""
    touched: set[tuple[str, int]] = field(default_factory=set)

    def _bytes(self, space: str) -> bytearray:
        return self.lds if space == "lds" else self.memory

    def read(self, lane: int, size: int, at: int = 0) -> int:
        space, place = self.where(lane)
        raw = bytes(self._bytes(space)[place(at + k)] for k in range(size))
        return int.from_bytes(raw, "little")

    def write(self, lane: int, size: int, value: int, at: int = 0) -> None:
        space, place = self.where(lane)
        for k in range(size):
            self._bytes(space)[place(at + k)] = value >> 8 * k & 0xFF

    def register(self, index: int, lane: int, words: int) -> int:
        return sum(int(self.vectors[index + k, lane]) << 32 * k for k in range(words))

    def put(self, index: int, lane: int, words: int, value: int) -> None:
        for k in range(words):
            self.vectors[index + k, lane] = value >> 32 * k & 0xFFFFFFFF


def load(world: World, shape: Shape, to: int) -> None:
    """Carry out a load."""
    for lane in world.active:
        value = world.read(lane, shape.size)
        if shape.size < 4:
            value = _sign(value, 8 * shape.size) if shape.signed else value
            old = int(world.vectors[to, lane])
            low, high = old & 0xFFFF, old >> 16
            if shape.half:
                value &= 0xFFFF
                value = low | value << 16 if shape.half == "hi" else value | high << 16
        world.put(to, lane, shape.words, value)


def store(world: World, shape: Shape, source: int) -> None:
    """Carry out a store."""
    for lane in world.active:
        value = world.register(source, lane, shape.words) >> (16 if shape.half == "hi" else 0)
        world.write(lane, shape.size, value)


def atomic(world: World, what: Atomic, sources: tuple[int, int], to: int | None) -> None:
    """Carry out an atomic; `sources` are the registers of its one or two values."""
    words = what.bits // 32
    for lane in world.active:
        first, second = (world.register(index, lane, words) for index in sources)
        if what.new_last:
            first, second = second, first
        old = world.read(lane, what.bits // 8)
        world.write(lane, what.bits // 8, what.update(old, first, second))
        if to is not None:
            world.put(to, lane, words, old)

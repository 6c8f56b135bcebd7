"""A matrix product of one wave: which registers hold what, and in which order it is summed.

D = A * B + C. `Product` says for each row of A, each step of the sum and each column of B where the
factor lies; nothing else about an instruction matters to the engines, which carry out a
`Multiplication`: `numpy_matrix` on arrays, `jit_matrix` as a function of compiled code.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

BITS: Final = {
    "f64": 64, "f32": 32, "xf32": 32, "f16": 16, "bf16": 16, "i8": 8, "u8": 8, "i4": 4, "u4": 4,
    "fp8": 8, "bf8": 8, "fp8fnuz": 8, "bf8fnuz": 8, "fp6": 6, "bf6": 6, "fp4": 4, "i32": 32,
}  # fmt: skip
"""Formats of elements and their bits; xf32 is an f32 of which the low 13 bits do not count."""


@dataclass(frozen=True, slots=True)
class Small:
    """A float of few bits: `finite` has no infinities, `unsigned_zero` has NaN for -0."""

    exponent_bits: int
    bias: int
    finite: bool
    unsigned_zero: bool = False
    bits: int = 8
    numbers: bool = False
    """Every pattern is a number."""

    @property
    def fraction_bits(self) -> int:
        """Return the bits of the fraction."""
        return self.bits - 1 - self.exponent_bits


SMALL: Final = {
    "fp8fnuz": Small(4, 8, True, True),
    "bf8fnuz": Small(5, 16, True, True),
    "fp8": Small(4, 7, True),
    "bf8": Small(5, 15, False),
    "fp6": Small(2, 1, True, bits=6, numbers=True),
    "bf6": Small(3, 3, True, bits=6, numbers=True),
    "fp4": Small(2, 1, True, bits=4, numbers=True),
}
"""The floats of eight bits of gfx940 (fnuz) and of gfx12 and gfx950 (OCP's E4M3 and E5M2), and the
smaller ones of gfx950 (OCP's E2M3, E3M2 and E2M1)."""

RUN: Final = 16
"""Elements of a factor that are neighbours in the sum where a lane has more of eight bits."""

LEAST_EXPONENT: Final = {
    "f16": -14, "bf16": -126, "xf32": -126, "fp8fnuz": -7, "bf8fnuz": -15, "fp8": -6, "bf8": -14,
    "fp6": 0, "bf6": -2, "fp4": 0,
}  # fmt: skip
"""The exponent of the smallest normal number, where fused sums look at it."""


@dataclass(frozen=True)
class Product:
    """Everything about a matrix product but which registers it works on.

    A place is (element, lane): the element's number among those that a lane has, in its own width.
    Rows of all blocks count on. `order` is how an element of D is summed:

    - "chain": one fused multiply-add a step;
    - "pairs": `group` products, rounded, are added in pairs, and the sum is added to D; denormals
      are flushed everywhere (CDNA2);
    - "fused": `group` products are cut to 24 bits below the largest, summed exactly, added to D and
      rounded once (CDNA3); "halves": the same, even and odd products apart;
    - "whole": integers.
    """

    wave: int
    a: str
    b: str
    result: str
    order: str
    group: int
    a_steps: tuple[tuple[int, int], ...]
    """For each step of the sum the place of A's factor, its lane for row 0."""
    b_steps: tuple[tuple[int, int], ...]
    """For each row of B its place, for column 0; of a sparse product the step chooses among 4."""
    a_rows: tuple[int, ...]
    """For each row of D the lane that its row of A is away from row 0's."""
    b_rows: tuple[int, ...]
    """For each row of D the lane that its block of B is away from block 0's."""
    d_rows: tuple[tuple[int, int], ...]
    """For each row of D the place of its first column; the others are in the lanes behind."""
    columns: int
    b_lanes: tuple[int, ...] = ()
    """Which lane's B each lane takes; empty: its own."""
    sparse: bool = False
    """Of each four rows of B two count, named by two bits for each element of A."""
    index_shift: int = 0
    """The first of these bits."""
    negate: tuple[bool, bool, bool, bool] = (False, False, False, False)
    """Negate even and odd elements of A, and of B."""
    negate_c: bool = False
    absolute_c: bool = False
    clamp: bool = False
    """Hold integers within 32 bits."""
    flush: bool = False
    """Take denormals of A and B for zeros."""
    scale_lanes: tuple[tuple[tuple[int, ...], ...], ...] = ()
    """Of A and of B, for each run of 16 elements: the lane that has each lane's scale (E8M0)."""
    scale_bytes: tuple[int, int] = (0, 0)
    """Which byte of its register A's scale is, and B's."""
    half: int = 0
    """Results of 16 bits: 2 in each register (0), or the low (1) or the high half alone (2)."""

    def elements(self, side: str) -> int:
        """Return how many elements each lane has of "a", "b" or "d"."""
        places = {"a": self.a_steps, "b": self.b_steps, "d": self.d_rows}[side]
        return max(element for element, _ in places) + 1

    def registers(self, side: str) -> int:
        """Return how many registers "a", "b" or "d" (and C) takes."""
        bits = BITS[{"a": self.a, "b": self.b, "d": self.result}[side]]
        return -(-self.elements(side) * bits // 32)

    @cached_property
    def accumulator(self) -> str:
        """Return the format in which it is summed."""
        if self.order == "whole":
            return "i32"
        return "f64" if self.result == "f64" else "f32"


@dataclass(frozen=True, slots=True)
class Multiplication:
    """A product and the numbers of its first vector registers (accumulators counted on)."""

    product: Product
    a: int
    b: int
    c: int | None
    """None: every element of C is `constant`, in the format of the result."""
    d: int
    constant: int = 0
    index: int = 0
    """The register that says which rows of B count in a sparse product, or has the scales of A."""
    scales: int = 0
    """The register that has the scales of B."""

    @property
    def written(self) -> range:
        """Return the registers that are written."""
        return range(self.d, self.d + self.product.registers("d"))

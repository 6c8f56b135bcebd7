"""What is compiled of each kernel: the types of its arguments, its constants and options."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

TARGETS = {"gfx90a": 64, "gfx942": 64, "gfx1100": 32, "gfx1201": 32, "gfx950": 64}
"""Targets and the lanes of their waves. Triton 3.9 refuses gfx1030."""
SMALL_FLOATS = ("fp8e4b8", "fp8e5b16", "fp8e4nv", "fp8e5")
MATRIX_UNITS = {
    "fp8e4b8": ("gfx942",), "fp8e5b16": ("gfx942",), "fp8e4nv": ("gfx942", "gfx1201", "gfx950"),
}  # fmt: skip
"""Targets of matrix products of small floats: not where it takes thousands of instructions."""


@dataclass(frozen=True)
class Variant:
    """One kernel to be compiled; `types` are of arguments at run time, as Triton spells them."""

    name: str
    kernel: str
    types: Mapping[str, str]
    constants: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] = tuple(TARGETS)


def variants() -> Iterator[Variant]:
    """Yield all variants; their names tell them apart."""
    yield from elementwise()
    yield from rows()
    yield from matrices()
    yield from together()


def pointers(names: str, kind: str) -> dict[str, str]:
    """Give the types of arguments that point to elements of one kind."""
    return {name: f"*{kind}" for name in names.split()}


def elementwise() -> Iterator[Variant]:
    """Yield kernels that look at each element alone."""
    block = {"BLOCK": 256}
    count = {"n": "i32"}
    for kind in ("fp32", "fp16", "bf16", "fp64", "i8"):
        types = pointers("out a b", kind) | count
        yield Variant(f"add-{kind}", "add", types, block)
    for kind in ("fp32", "fp64"):
        types = pointers("out a b", kind) | count
        # Fused steps would take from the device libraries the digits that they keep in two parts.
        plain = {"enable_fp_fusion": False}
        yield Variant(f"functions-{kind}", "functions", types, {"BLOCK": 128}, plain)
    for kind in ("i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64"):
        types = pointers("out a b", kind) | count
        yield Variant(f"whole_numbers-{kind}", "whole_numbers", types, block)
    for kind in ("fp16", "bf16", *SMALL_FLOATS):
        for out, source in ((kind, "fp32"), ("fp32", kind)):
            types = {"out": f"*{out}", "source": f"*{source}"} | count
            yield Variant(f"convert-{source}-{out}", "convert", types, block)
    types = {"uniform": "*fp32", "normal": "*fp32", "whole": "*i32", "seed": "i64"} | count
    yield Variant("random", "random", types, block)


def rows() -> Iterator[Variant]:
    """Yield kernels that bring the elements of rows together."""
    columns = {"columns": "i32"}
    for kind, warps, block in (("fp32", 4, 512), ("fp16", 1, 128), ("bf16", 8, 1024)):
        types = pointers("out source", kind) | columns
        if kind == "fp32":
            yield Variant("softmax", "softmax", types, {"BLOCK": block}, {"num_warps": warps})
        types = pointers("out source", kind) | pointers("means weight bias", "fp32") | columns
        types["epsilon"] = "fp32"
        options = {"num_warps": warps}
        yield Variant(f"layer_norm-{kind}", "layer_norm", types, {"BLOCK": block // 2}, options)
    shape = {"ROWS": 8, "COLUMNS": 64}
    types = {"whole": "*i32", "source": "*fp32", "numbers": "*i32"}
    yield Variant("reductions", "reductions", {"floats": "*fp32"} | types, shape)
    yield Variant("scans", "scans", {"out": "*fp32"} | types, shape)
    types = pointers("out source", "i32") | {"n": "i32"}
    yield Variant("histogram", "histogram", types, {"BINS": 64, "BLOCK": 512})


def matrices() -> Iterator[Variant]:
    """Yield matrix products and attention."""
    sizes = {"m": "i32", "n": "i32", "k": "i32"}
    usual = {"M": 64, "N": 64, "K": 32, "GROUP": 2, "SUM": "fp32", "PRECISION": "ieee"}
    for kind in ("fp32", "fp16", "bf16", *SMALL_FLOATS):
        types = {"c": "*fp32", **pointers("a b", kind), **sizes}
        targets = MATRIX_UNITS.get(kind, tuple(TARGETS))
        yield Variant(f"matmul-{kind}", "matmul", types, usual, targets=targets)
    types = {"c": "*i32", **pointers("a b", "i8"), **sizes}
    yield Variant("matmul-i8", "matmul", types, usual | {"SUM": "int32"})
    types = {"c": "*fp64", **pointers("a b", "fp64"), **sizes}
    smaller = {"M": 32, "N": 32, "K": 16, "SUM": "fp64"}
    yield Variant("matmul-fp64", "matmul", types, usual | smaller)
    types = {"c": "*fp16", **pointers("a b", "fp16"), **sizes}
    options = {"num_warps": 2, "matrix_instr_nonkdim": 16}
    smaller = {"M": 16, "N": 32, "K": 64}
    yield Variant("matmul-fp16-narrow", "matmul", types, usual | smaller, options)
    types = {"c": "*fp32", **pointers("a b", "fp32"), **sizes}
    short = usual | {"PRECISION": "tf32"}
    yield Variant("matmul-fp32-short", "matmul", types, short, targets=("gfx942",))
    pairs = (("e4m3", "e4m3", 16), ("e5m2", "e2m1", 32), ("e2m1", "e2m1", 16))
    for first, second, size in pairs:
        types = {"c": "*fp32", **pointers("a b left right", "u8")}
        tile = {"M": 32, "N": 64, "K": 256, "A": first, "B": second}
        options = {"matrix_instr_nonkdim": size}
        name = f"scaled-{first}-{second}"
        yield Variant(name, "scaled_matmul", types, tile, options, targets=("gfx950",))
    for kind, causal in (("fp16", False), ("fp16", True), ("bf16", True)):
        types = pointers("out q k v", kind) | {"sums": "*fp32", "n": "i32", "scale": "fp32"}
        constants = {"ROWS": 64, "KEYS": 32, "WIDTH": 32, "CAUSAL": causal}
        name = f"attention-{kind}{'-causal' if causal else ''}"
        yield Variant(name, "attention", types, constants)


def together() -> Iterator[Variant]:
    """Yield kernels that change cells that others change, too."""
    block = {"BLOCK": 128}
    for kind in ("i32", "u32", "i64", "u64", "fp32", "fp64"):
        types = pointers("cells old source", kind) | {"n": "i32"}
        yield Variant(f"atomics-{kind}", "atomics", types, block)
    for kind in ("i32", "i64"):
        types = pointers("cells source", kind) | {"lock": "*i32", "n": "i32"}
        yield Variant(f"bit_atomics-{kind}", "bit_atomics", types, block)

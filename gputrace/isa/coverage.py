"""Which instructions of a target are modelled, what besides our own engines shows it, and why not.

The inventory is the target's opcode table, which is LLVM's. A witness is something that is not this
package: "property" is an independent computation over edge values (tests/isa/witness.py), "kernel"
a compiled kernel whose result is compared with plain computation (tests/kernels).
"""

import re
from dataclasses import dataclass

from gputrace.isa.decode import decoder
from gputrace.isa.meanings import MEANINGS
from gputrace.isa.witnesses import KERNEL, PROPERTY

GRAPHICS = "graphics"
ABSENT = "named barriers, which LLVM decodes for gfx12 and only gfx12.5 has"
"""LLVM AMDGPUUsage.rst, "Named Barriers"; AMD's RDNA4 manual does not list them either."""
_REASONS: tuple[tuple[str, str], ...] = (
    (r"image_.*|exp|.*interp.*|lds_direct.*|lds_param.*|v_screen.*|s_setkill", GRAPHICS),
    (r".*bvh.*|ds_(add|sub)_gs_reg.*|ds_ordered_count|.*ordered_ps_done", GRAPHICS),
    (r"global_atomic_ordered_add_b64", GRAPHICS),  # counts waves of geometry shaders
    (r"s_barrier_(init|join|leave)|s_wakeup_barrier", ABSENT),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One instruction of a target: `reason` says why it is not modelled, "" when it is."""

    name: str
    encodings: tuple[str, ...]
    witness: str
    reason: str

    @property
    def modelled(self) -> bool:
        """Whether waves can execute it."""
        return not self.reason

    @property
    def compute(self) -> bool:
        """Whether the target's hardware has it for compute."""
        return self.reason not in (GRAPHICS, ABSENT)


def reason_of(name: str) -> str:
    """Say why an instruction is not modelled; "" when it is."""
    if name in MEANINGS.meanings:
        return ""
    for pattern, reason in _REASONS:
        if re.fullmatch(pattern, name):
            return reason
    return "no meaning written"


def coverage(target: str) -> list[Entry]:
    """Return all instructions of a target by name; UsageError for a target without tables."""
    encodings: dict[str, list[str]] = {}
    for encoding, name in decoder(target).names():
        encodings.setdefault(name, []).append(encoding)
    return [
        Entry(name, tuple(dict.fromkeys(found)), _witness(name), reason_of(name))
        for name, found in sorted(encodings.items())
    ]


def _witness(name: str) -> str:
    if name in PROPERTY:
        return "property"
    return "kernel" if name in KERNEL else ""

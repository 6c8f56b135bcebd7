"""How instructions of one name differ between generations: facts to ask for."""

from dataclasses import dataclass
from typing import Literal

FormatNumbers = Literal["gfx9", "gfx10", "gfx11"]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a generation does where others do something else.

    Sources: AMD's ISA manuals (MI200, MI300, RDNA2, RDNA3, RDNA4), LLVM's AMDGPU.td, SIDefines.h.
    """

    bounds_select: bool = False
    """Buffer descriptors say which accesses are out of range."""
    swizzle_bit: int = 31
    """From this bit of a buffer descriptor's second word on: whether the buffer is swizzled."""
    formats: FormatNumbers = "gfx9"
    """How typed buffers number their formats (SIDefines.h: MTBUFFormat, UfmtGFX10, UfmtGFX11)."""
    atomic_denormals: bool = True
    """Additions of f32 in memory keep denormals (AMDGPU.td:
    FeatureMemoryAtomicFAddF32DenormalSupport)."""
    crossbar: int = 64
    """Lanes among which ds_permute and ds_bpermute move values (RDNA3 manual: modulo 32)."""
    fused_sums: bool = False
    """Matrix products of narrow floats are summed as fixed-point numbers (MMA-Sim: CDNA3)."""
    small_floats: Literal["", "fnuz"] = "fnuz"
    """Which floats of eight bits there are: OCP's, or those with one zero and one NaN."""
    byte_sel: bool = False
    """Conversions of them name their byte by op_sel (gfx12), where gfx940 has SDWA words."""
    lds_address: int = 0xFFFF
    """Bits of M0 that are the address of what goes between memory and LDS past the registers."""
    ieee_bit: bool = True
    """MODE has the bits IEEE and DX10_CLAMP; gfx12 is without, and clamps NaN to 0."""
    index_mode: bool = False
    """MODE has GPR_IDX_EN, VSKIP and CSP (gfx9)."""
    scc_in_private: bool = False
    """SCC stands in STATE_PRIV, which waves cannot read, and not in STATUS (gfx12)."""

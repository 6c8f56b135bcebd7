"""Where each generation's encodings keep their fields.

Sources: LLVM, llvm/lib/Target/AMDGPU/*InstrFormats.td, SMInstructions.td, DSInstructions.td,
FLATInstructions.td, BUFInstructions.td, VOP*Instructions.td (classes *_Real*, *e), and AMD's
instruction set manuals "MI300" and "CDNA4" chapter 13 and "RDNA3" chapter 16. A field is (lowest
bit, width) in the little-endian integer of the instruction's words.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gputrace.isa import spelled
from gputrace.isa.behaviour import Behaviour
from gputrace.isa.spelled import Spelling

Fields = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Format:
    """One encoding of a generation.

    A word belongs to it when its `width` top bits are `prefix`; of two that fit, the longer one
    counts. `words` is the length without literal, DPP and SDWA words. `refused` is the reason when
    gputrace knows the encoding and does not decode it.
    """

    name: str
    prefix: int
    width: int
    words: int
    opcode: tuple[int, int]
    fields: Fields
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Generation:
    """Encodings and operand numbers that a family of targets shares."""

    formats: tuple[Format, ...]
    sgprs: int
    """Scalar registers that an operand field can name."""
    specials: Mapping[int, tuple[str, int]]
    """Operand number to the special register's name and the dword of it."""
    no_base: int
    """The scalar register number that stands for `off` in flat encodings."""
    flat_offset: tuple[int, bool]
    """Bits of the offset of FLAT (not GLOBAL or SCRATCH), and whether it has a sign."""
    resource_step: int
    """Scalar registers that one step of a buffer's resource field counts."""
    vop3_literal: bool
    """Whether VOP3 and VOP3P may have a literal."""
    halves: bool
    """Whether bit 7 of a VGPR number in VOP1, VOP2, VOPC selects the half of a 16-bit operand."""

    sdwa: bool
    """Whether VOP1, VOP2, VOPC may select parts of registers with an SDWA word."""
    dpp8: bool
    """Whether there is the 8-lane DPP, and the bit to read inactive lanes with either DPP."""

    behaviour: Behaviour
    spelling: Spelling
    scaled: Format | None = None
    """Of matrix products with scales: two instructions of VOP3P that are one to the decoder."""

    def format_of(self, word: int) -> Format | None:
        """Find the encoding of an instruction's first word, the longest prefix first."""
        fitting = [form for form in self.formats if word >> (32 - form.width) == form.prefix]
        return max(fitting, key=lambda form: form.width, default=None)

    def format_named(self, name: str) -> Format:
        """Return the encoding of a name; GLOBAL and SCRATCH are FLAT's."""
        if self.scaled is not None and name == self.scaled.name:
            return self.scaled
        wanted = "FLAT" if name in ("GLOBAL", "SCRATCH") else name
        return next(form for form in self.formats if form.name == wanted)


_VOP3 = {
    "vdst": (0, 8),
    "sdst": (8, 7),
    "abs": (8, 3),
    "op_sel": (11, 4),
    "clamp": (15, 1),
    "src0": (32, 9),
    "src1": (41, 9),
    "src2": (50, 9),
    "omod": (59, 2),
    "neg": (61, 3),
}
_VOP3P = {
    "vdst": (0, 8),
    "neg_hi": (8, 3),
    "op_sel": (11, 3),
    "op_sel_hi2": (14, 1),
    "clamp": (15, 1),
    "src0": (32, 9),
    "src1": (41, 9),
    "src2": (50, 9),
    "op_sel_hi": (59, 2),
    "neg": (61, 3),
}
_MAI = {
    "vdst": (0, 8),
    "cbsz": (8, 3),
    "abid": (11, 4),
    "acc_cd": (15, 1),
    "src0": (32, 9),
    "src1": (41, 9),
    "src2": (50, 9),
    "acc": (59, 2),
    "blgp": (61, 3),
}
_SCALED = {name: (64 + low, width) for name, (low, width) in _MAI.items()} | {
    "sel": (11, 2),
    "scale0": (32, 9),
    "scale1": (41, 9),
    "sel_hi": (59, 2),
    "second": (87, 9),
}
_COMMON = (
    Format("SOP2", 0b10, 2, 1, (23, 7), {"ssrc0": (0, 8), "ssrc1": (8, 8), "sdst": (16, 7)}),
    Format("SOPK", 0b1011, 4, 1, (23, 5), {"simm": (0, 16), "sdst": (16, 7)}),
    Format("SOP1", 0b101111101, 9, 1, (8, 8), {"ssrc0": (0, 8), "sdst": (16, 7)}),
    Format("SOPC", 0b101111110, 9, 1, (16, 7), {"ssrc0": (0, 8), "ssrc1": (8, 8)}),
    Format("SOPP", 0b101111111, 9, 1, (16, 7), {"simm": (0, 16)}),
    Format("VOP2", 0b0, 1, 1, (25, 6), {"src0": (0, 9), "vsrc1": (9, 8), "vdst": (17, 8)}),
    Format("VOP1", 0b0111111, 7, 1, (9, 8), {"src0": (0, 9), "vdst": (17, 8)}),
    Format("VOPC", 0b0111110, 7, 1, (17, 8), {"src0": (0, 9), "vsrc1": (9, 8)}),
)
_DS = {"offset0": (0, 8), "offset1": (8, 8), "offset": (0, 16)}
_DS_REGISTERS = {"addr": (32, 8), "data0": (40, 8), "data1": (48, 8), "vdst": (56, 8)}
_FLAT = {"addr": (32, 8), "data": (40, 8), "saddr": (48, 7), "vdst": (56, 8), "offset": (0, 13)}
_BUFFER = {
    "offset": (0, 12),
    "vaddr": (32, 8),
    "vdata": (40, 8),
    "srsrc": (48, 5),
    "soffset": (56, 8),
}
_FLAT_940 = _FLAT | {"lds": (13, 1), "sc0": (16, 1), "nt": (17, 1), "sc1": (25, 1), "acc": (55, 1)}
_FLAT_940 |= {"segment": (14, 2)}
_FLAT_11 = _FLAT | {"dlc": (13, 1), "glc": (14, 1), "slc": (15, 1), "segment": (16, 2)}
_FLAT_11 |= {"vaddr_on": (55, 1)}
_BUFFER_940 = {"offen": (12, 1), "idxen": (13, 1), "sc0": (14, 1), "acc": (55, 1)}
_BUFFER_11 = {"slc": (12, 1), "dlc": (13, 1), "glc": (14, 1), "tfe": (53, 1)}
_BUFFER_11 |= {"offen": (54, 1), "idxen": (55, 1)}
_SMEM = {"sbase": (0, 6), "sdata": (6, 7), "offset": (32, 21), "soffset": (57, 7)}
_FLAT_90A = _FLAT | {"lds": (13, 1), "glc": (16, 1), "slc": (17, 1), "scc": (25, 1)}
_FLAT_90A |= {"segment": (14, 2), "acc": (55, 1)}
_FLAT_10 = _FLAT | {"offset": (0, 12), "dlc": (12, 1), "lds": (13, 1), "segment": (14, 2)}
_FLAT_10 |= {"glc": (16, 1), "slc": (17, 1)}
_BUFFER_90A = {"offen": (12, 1), "idxen": (13, 1), "glc": (14, 1), "acc": (55, 1)}
_BUFFER_10 = {"offen": (12, 1), "idxen": (13, 1), "glc": (14, 1), "dlc": (15, 1)}
_BUFFER_10 |= {"slc": (54, 1), "tfe": (55, 1)}
_SCOPES = {"scope": (50, 2), "temporal": (52, 3)}
_FLAT_12 = _SCOPES | {
    "segment": (24, 2),
    "saddr": (0, 7),
    "vdst": (32, 8),
    "vaddr_on": (49, 1),
    "data": (55, 8),
    "addr": (64, 8),
    "offset": (72, 24),
}
_BUFFER_12 = _SCOPES | {
    "soffset": (0, 7),
    "tfe": (22, 1),
    "vdata": (32, 8),
    "srsrc": (41, 9),
    "format": (55, 7),
    "offen": (62, 1),
    "idxen": (63, 1),
    "vaddr": (64, 8),
    "offset": (72, 24),
}
_GRAPHICS = "a graphics encoding, which gputrace does not model"

_SPECIALS = {
    106: ("vcc", 0),
    107: ("vcc", 1),
    126: ("exec", 0),
    127: ("exec", 1),
    235: ("src_shared_base", 0),
    236: ("src_shared_limit", 0),
    237: ("src_private_base", 0),
    238: ("src_private_limit", 0),
    239: ("src_pops_exiting_wave_id", 0),
    251: ("src_vccz", 0),
    252: ("src_execz", 0),
    253: ("src_scc", 0),
    254: ("src_lds_direct", 0),
}

GFX940 = Generation(
    formats=(
        *_COMMON,
        Format("VOP3", 0b110100, 6, 2, (16, 10), _VOP3),
        Format("VOP3P", 0b110100111, 9, 2, (16, 7), _VOP3P),
        Format("MAI", 0b1101001111, 10, 2, (16, 6), _MAI),
        Format(
            "SMEM",
            0b110000,
            6,
            2,
            (18, 8),
            _SMEM | {"soffset_on": (14, 1), "nv": (15, 1), "glc": (16, 1), "immediate": (17, 1)},
        ),
        Format(
            "DS", 0b110110, 6, 2, (17, 8), _DS | _DS_REGISTERS | {"gds": (16, 1), "acc": (25, 1)}
        ),
        Format("FLAT", 0b110111, 6, 2, (18, 7), _FLAT_940),
        Format(
            "MUBUF",
            0b111000,
            6,
            2,
            (18, 7),
            _BUFFER | _BUFFER_940 | {"sc1": (15, 1), "lds": (16, 1), "nt": (17, 1)},
        ),
        Format(
            "MTBUF",
            0b111010,
            6,
            2,
            (15, 4),
            _BUFFER | _BUFFER_940 | {"format": (19, 7), "sc1": (53, 1), "nt": (54, 1)},
        ),
        Format("VINTRP", 0b110101, 6, 1, (16, 2), {}, _GRAPHICS),
        Format("MIMG", 0b111100, 6, 2, (18, 7), {}, _GRAPHICS),
        Format("EXP", 0b110001, 6, 2, (4, 6), {}, _GRAPHICS),
    ),
    sgprs=102,
    specials=_SPECIALS
    | {
        102: ("flat_scratch", 0),
        103: ("flat_scratch", 1),
        104: ("xnack_mask", 0),
        105: ("xnack_mask", 1),
        124: ("m0", 0),
    },
    no_base=0x7F,
    flat_offset=(12, False),
    resource_step=4,
    vop3_literal=False,
    halves=False,
    sdwa=True,
    dpp8=False,
    behaviour=Behaviour(fused_sums=True, index_mode=True),
    spelling=spelled.GFX940,
)

GFX950 = replace(
    GFX940,
    behaviour=replace(GFX940.behaviour, small_floats="", lds_address=0x3FFFF),
    scaled=Format("VOP3PX2", 0b1101001110101100, 16, 4, (80, 7), _SCALED),
)

GFX11 = Generation(
    formats=(
        *_COMMON,
        Format("VOP3", 0b110101, 6, 2, (16, 10), _VOP3),
        Format("VOP3P", 0b11001100, 8, 2, (16, 7), _VOP3P),
        Format("SMEM", 0b111101, 6, 2, (18, 8), _SMEM | {"dlc": (13, 1), "glc": (14, 1)}),
        Format("DS", 0b110110, 6, 2, (18, 8), _DS | _DS_REGISTERS | {"gds": (17, 1)}),
        Format("FLAT", 0b110111, 6, 2, (18, 7), _FLAT_11),
        Format("MUBUF", 0b111000, 6, 2, (18, 8), _BUFFER | _BUFFER_11),
        Format("MTBUF", 0b111010, 6, 2, (15, 4), _BUFFER | _BUFFER_11 | {"format": (19, 7)}),
        Format(
            "VOPD",
            0b110010,
            6,
            2,
            (17, 9),
            {
                "src0x": (0, 9),
                "vsrc1x": (9, 8),
                "opy": (17, 5),
                "opx": (22, 4),
                "src0y": (32, 9),
                "vsrc1y": (41, 8),
                "vdsty": (49, 7),
                "vdstx": (56, 8),
            },
        ),
        Format("VINTERP", 0b11001101, 8, 2, (16, 7), {}, _GRAPHICS),
        Format("LDSDIR", 0b11001110, 8, 1, (20, 2), {}, _GRAPHICS),
        Format("MIMG", 0b111100, 6, 2, (18, 8), {}, _GRAPHICS),
        Format("EXP", 0b111110, 6, 2, (4, 6), {}, _GRAPHICS),
    ),
    sgprs=106,
    specials=_SPECIALS | {124: ("null", 0), 125: ("m0", 0)},
    no_base=124,
    flat_offset=(12, False),
    resource_step=4,
    vop3_literal=True,
    halves=True,
    sdwa=False,
    dpp8=True,
    behaviour=Behaviour(True, 30, "gfx11", atomic_denormals=False, crossbar=32),
    spelling=spelled.GFX11,
)

GFX90A = replace(
    GFX940,
    formats=(
        *(form for form in GFX940.formats if form.name not in ("FLAT", "MUBUF", "MTBUF")),
        Format("FLAT", 0b110111, 6, 2, (18, 7), _FLAT_90A),
        Format(
            "MUBUF",
            0b111000,
            6,
            2,
            (18, 7),
            _BUFFER | _BUFFER_90A | {"scc": (15, 1), "lds": (16, 1), "slc": (17, 1)},
        ),
        Format(
            "MTBUF",
            0b111010,
            6,
            2,
            (15, 4),
            _BUFFER | _BUFFER_90A | {"format": (19, 7), "scc": (53, 1), "slc": (54, 1)},
        ),
    ),
    behaviour=Behaviour(atomic_denormals=False, index_mode=True),
    spelling=spelled.GFX90A,
)

GFX10 = Generation(
    formats=(
        *_COMMON,
        Format("VOP3", 0b110101, 6, 2, (16, 10), _VOP3),
        Format("VOP3P", 0b110011000, 9, 2, (16, 7), _VOP3P),
        Format("SMEM", 0b111101, 6, 2, (18, 8), _SMEM | {"dlc": (14, 1), "glc": (16, 1)}),
        Format("DS", 0b110110, 6, 2, (18, 8), _DS | _DS_REGISTERS | {"gds": (17, 1)}),
        Format("FLAT", 0b110111, 6, 2, (18, 7), _FLAT_10),
        Format("MUBUF", 0b111000, 6, 2, (18, 8), _BUFFER | _BUFFER_10 | {"lds": (16, 1)}),
        Format(
            "MTBUF",
            0b111010,
            6,
            2,
            (16, 3),
            _BUFFER | _BUFFER_10 | {"format": (19, 7), "opcode_high": (53, 1)},
        ),
        Format("VINTRP", 0b110010, 6, 1, (16, 2), {}, _GRAPHICS),
        Format("MIMG", 0b111100, 6, 2, (18, 7), {}, _GRAPHICS),
        Format("EXP", 0b111110, 6, 2, (4, 6), {}, _GRAPHICS),
    ),
    sgprs=106,
    specials=_SPECIALS | {124: ("m0", 0), 125: ("null", 0)},
    no_base=125,
    flat_offset=(11, False),
    resource_step=4,
    vop3_literal=True,
    halves=False,
    sdwa=True,
    dpp8=True,
    behaviour=Behaviour(True, 31, "gfx10", atomic_denormals=False, crossbar=32),
    spelling=spelled.GFX10,
)

GFX12 = replace(
    GFX11,
    formats=(
        *(
            form
            for form in GFX11.formats
            if form.name not in ("SMEM", "DS", "FLAT", "MUBUF", "MTBUF", "MIMG", "EXP")
        ),
        Format(
            "SMEM",
            0b111101,
            6,
            2,
            (13, 6),
            _SMEM | {"offset": (32, 24), "scope": (21, 2), "temporal": (23, 2)},
        ),
        Format("DS", 0b110110, 6, 2, (18, 8), _DS | _DS_REGISTERS),
        Format("FLAT", 0b111011, 6, 3, (14, 8), _FLAT_12),
        Format("MUBUF", 0b110001, 6, 3, (14, 8), _BUFFER_12),
        Format("VIMAGE", 0b110100, 6, 3, (14, 8), {}, _GRAPHICS),
        Format("VSAMPLE", 0b111001, 6, 3, (14, 8), {}, _GRAPHICS),
        Format("EXP", 0b111110, 6, 2, (4, 6), {}, _GRAPHICS),
    ),
    flat_offset=(24, True),
    resource_step=1,
    behaviour=Behaviour(
        True, 30, "gfx11", small_floats="", byte_sel=True, ieee_bit=False, scc_in_private=True
    ),
    spelling=spelled.GFX12,
)

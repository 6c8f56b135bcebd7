"""One decoded instruction: its operands and modifiers, ready for an engine, and its text.

Everything here is plain immutable data; `gputrace.isa.decode` makes it. What the fields mean does
not depend on the generation: registers, special registers and constants have the same names and
values on each, whatever numbers the encodings give them.
"""

from dataclasses import dataclass
from enum import Enum


class OperandKind(Enum):
    """What an operand names."""

    SGPR = "scalar registers"
    VGPR = "vector registers"
    ACC = "accumulation registers"
    TTMP = "trap temporaries"
    SPECIAL = "a named register or aperture"
    INLINE = "a constant in the operand field"
    LITERAL = "a constant in the word after the instruction"
    IMMEDIATE = "a number that is part of the instruction"
    LABEL = "a place in the code"


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand of an instruction.

    `index` is the number of the first register of its kind (v7 has 7, ttmp3 has 3; for a SPECIAL
    the number is that of the operand field and `name` says which register it is). `count` is the
    length in dwords: 0 only for constants and labels. `type` is the type that the instruction gives
    it: a letter and a width ("f32", "i16", "u64", "b128"), with "v2" before it for packed halves
    ("v2f16", "v2f32"), "mask" for one bit a lane in a scalar register or pair. `bits` is the width
    of the whole operand.

    For constants `value` is the bit pattern of `bits` bits that the engine computes with, already
    converted: 1.0 has 0x3c00 in an f16 operand, 0x3ff0000000000000 in an f64 one; -1 is all ones.
    In a LABEL it is the byte offset, from the same origin as `Instruction.address`.

    For an INLINE constant `index` is the number of the operand field (128..248), for a LITERAL and
    an IMMEDIATE the raw bits, for a LABEL the raw 16-bit field.

    An IMMEDIATE has a `name` where LLVM writes more than a number: hwreg(HW_REG_MODE).

    SPECIAL names are LLVM's: vcc, exec, flat_scratch, xnack_mask (pairs; with count 1 they have
    _lo or _hi behind), m0, null, src_scc, src_vccz, src_execz, src_shared_base, src_shared_limit,
    src_private_base, src_private_limit, src_pops_exiting_wave_id, src_lds_direct.
    """

    kind: OperandKind
    index: int = 0
    count: int = 1
    type: str = "b32"
    bits: int = 32
    value: int = 0
    name: str = ""
    neg: bool = False
    """Negate the source (after `abs`); of packed halves the low one."""
    abs: bool = False
    """Take the source's magnitude; in v_fma_mix the operand's own."""
    sext: bool = False
    """Sign-extend the selected part (SDWA integers)."""
    select: str = ""
    """SDWA: byte_0..byte_3, word_0, word_1; empty for the whole dword."""
    op_sel: bool = False
    """Take (or write) the high half; of packed halves, the low result uses this half."""
    op_sel_hi: bool = False
    """Packed: the high result uses the high half. v_fma_mix: the operand is f16, not f32."""
    neg_hi: bool = False
    """Packed: negate what the high result uses."""

    @property
    def is_constant(self) -> bool:
        """Whether `value` holds the operand."""
        return self.kind in (OperandKind.INLINE, OperandKind.LITERAL, OperandKind.IMMEDIATE)

    def text(self) -> str:
        """Write the operand as LLVM does."""
        from gputrace.isa.text import operand_text

        return operand_text(self)


@dataclass(frozen=True, slots=True)
class Memory:
    """How a memory instruction finds its bytes: LDS, scalar, flat, scratch and buffer alike.

    `offset` is the signed byte offset of the instruction (for DS with two offsets: the first, in
    elements as encoded; `offset1` the second). A part that an instruction lacks, or that is written
    `off` or null in it, is None.
    """

    address: Operand | None = None
    """The per-lane address or index (vaddr)."""
    base: Operand | None = None
    """The scalar address (saddr, sbase) or the buffer's resource."""
    soffset: Operand | None = None
    """The scalar byte offset of SMEM and buffer instructions."""
    data: tuple[Operand, ...] = ()
    """What is stored, added, compared: in the order of the fields."""
    offset: int = 0
    offset1: int | None = None
    offen: bool = False
    idxen: bool = False
    lds: bool = False
    gds: bool = False
    glc: bool = False
    slc: bool = False
    dlc: bool = False
    scc: bool = False
    sc0: bool = False
    sc1: bool = False
    nt: bool = False
    tfe: bool = False
    format: int | None = None
    scope: int = 0
    temporal: int = 0


@dataclass(frozen=True, slots=True)
class Dpp:
    """Cross-lane read of the first source before a vector operation.

    `control` is the 9-bit dpp_ctrl (16-lane form) or, when `lanes` is not empty, unused (the
    8-lane form: `lanes[i]` is the lane of its group of eight that lane i reads).
    """

    control: int = 0
    row_mask: int = 0xF
    bank_mask: int = 0xF
    bound_ctrl: bool = False
    """Lanes that would read outside read 0; otherwise they are not written."""
    fetch_inactive: bool = False
    lanes: tuple[int, ...] = ()
    new_broadcast: bool = False
    """Whether the target calls control 0x150 row_newbcast and not row_share."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    `name` is LLVM's mnemonic in lower case without the ending that only tells the encoding (_e32,
    _e64, _dpp, _sdwa). `encoding` is the format's name as in AMD's manuals ("SOP2", "VOP3", "DS",
    "FLAT", "GLOBAL", ...) and `variant` one of "", "e32", "e64", "dpp8", "dpp", "sdwa", "e64_dpp".
    `address` and `size` count bytes; `words` are the dwords.

    `dst` are the registers written and `src` those read, in the order of LLVM's text: implicit
    ones (SCC, EXEC, M0 and an accumulator that is also the destination) are left out unless the
    text has them. Memory instructions have their parts in `memory` and repeat them in `src`.
    """

    name: str
    encoding: str
    variant: str
    address: int
    words: tuple[int, ...]
    dst: tuple[Operand, ...] = ()
    src: tuple[Operand, ...] = ()
    clamp: bool = False
    omod: int = 0
    """Output multiplier: 0 none, 1 times two, 2 times four, 3 divided by two."""
    dst_unused: str = ""
    """SDWA: what happens to the rest of the register: unused_pad, unused_sext, unused_preserve."""
    dpp: Dpp | None = None
    memory: Memory | None = None
    simm: int | None = None
    """The raw 16-bit immediate of SOPP and SOPK (signed)."""
    spelled: str = ""
    """What the immediate says in LLVM's words, such as vmcnt(0), where it is more than a number."""
    cbsz: int = 0
    abid: int = 0
    blgp: int = 0
    components: tuple["Instruction", ...] = ()
    """The two halves of a VOPD; both read before either writes."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        return 4 * len(self.words)

    @property
    def mnemonic(self) -> str:
        """LLVM's mnemonic, with the ending for the encoding."""
        ending = "dpp" if self.variant == "dpp8" else self.variant
        if not ending or (self.encoding == "VOPC" and ending == "dpp"):
            return self.name
        return f"{self.name}_{ending}"

    def text(self) -> str:
        """Write the instruction as LLVM does."""
        from gputrace.isa.text import instruction_text

        return instruction_text(self)

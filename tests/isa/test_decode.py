"""The decoder against what LLVM's disassembler says of one word of each instruction form."""

import re
import struct
from pathlib import Path
from time import perf_counter

import pytest

from gputrace.errors import DecodeError, UsageError
from gputrace.isa.decode import decoder
from gputrace.isa.instruction import Instruction, OperandKind
from gputrace.isa.meanings import MEANINGS
from gputrace.isa.semantics import trace_instruction
from tests.isa.single import Bench

TARGETS = ["gfx90a", "gfx942", "gfx1030", "gfx1100", "gfx1201"]
# Encodings that gputrace names and refuses, and words that LLVM itself prints as invalid.
REFUSED = ("image_", "exp", "lds_", "ds_direct", "ds_param", "v_interp_", "v_illegal")
INVALID = {
    ("v_readfirstlane_b32", "7ffe0400"),
    ("v_fma_mix_f32", "d3a00000"),  # gfx9's encoding, which LLVM also takes for gfx1100
    ("v_fma_mixlo_f16", "d3a10000"),
    ("v_fma_mixhi_f16", "d3a20000"),
}


# What takes vector registers only where the word of the form has scalar ones, and in which fields.
VECTORS = (
    ("v_readfirstlane|v_swap|v_permlane64|v_accvgpr_mov|v_movrels.*_e32", (1 << 8, 0)),
    ("v_permlane(x)?16_var", (0, 1 << 8 | 1 << 17)),
    ("v_readlane|v_permlane|v_accvgpr_read|v_movrels.*_e64", (0, 1 << 8)),
    ("v_mfma|v_smfmac|v_wmma|v_swmmac|v_mqsad_u32_u8", (0, 1 << 8 | 1 << 17 | 1 << 26)),
)


def with_vectors(mnemonic: str, words: list[int]) -> list[int]:
    """Put vector registers where LLVM marks scalar ones as invalid (data/*.tsv leave that out)."""
    for pattern, (first, second) in VECTORS:
        if re.match(pattern, mnemonic):
            return [words[0] | first, words[1] | second, *words[2:]]
    return words


def rows(target: str) -> list[tuple[str, int, bytes, str]]:
    """Read (mnemonic, bytes, code, text) of one form each, from LLVM 22's disassembler."""
    found = []
    path = Path(__file__).with_name("data") / f"{target}.tsv"
    for line in path.read_text().splitlines():
        mnemonic, size, first, second, *third, text = line.split("\t")
        if (mnemonic, first) not in INVALID or (target[:4], first[:2]) == ("gfx9", "d3"):
            numbers = [int(word, 16) for word in (first, second, *(third or ["0"]))]
            words = struct.pack("<3I", *with_vectors(mnemonic, numbers))
            found.append((mnemonic, int(size), words, text))
    return found


def one(target: str, *words: int) -> Instruction:
    return decoder(target).decode(struct.pack(f"<{len(words)}I", *words))


def mnemonic_of(instruction: Instruction) -> str:
    return instruction.text().split(" ")[0]


@pytest.mark.parametrize("target", TARGETS)
def test_every_form_has_llvms_name_and_length(target: str) -> None:
    wrong = []
    for mnemonic, size, code, text in rows(target):
        if mnemonic.startswith(REFUSED):
            with pytest.raises(DecodeError):
                decoder(target).decode(code)
            continue
        made = decoder(target).decode(code)
        if (mnemonic_of(made), made.size) != (mnemonic, size):
            wrong.append((text, made.text(), made.size))
    assert not wrong


@pytest.mark.parametrize("target", TARGETS)
def test_code_that_ends_early_is_refused(target: str) -> None:
    for mnemonic, size, code, _ in rows(target):
        if not mnemonic.startswith(REFUSED):
            with pytest.raises(DecodeError):
                decoder(target).decode(code[: size - 4])


def test_places_outside_the_code_are_refused() -> None:
    for offset in (-4, 2, 8):
        with pytest.raises(DecodeError):
            decoder("gfx942").decode(bytes(8), offset)


def test_unknown_target_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="gfx942"):
        decoder("gfx600")


def test_constants_take_the_bits_of_the_operands_type() -> None:
    add_f64 = one("gfx942", 0xD2800000, 0x000204F2)  # v_add_f64 v[0:1], 1.0, v[2:3]
    assert add_f64.src[0].value == 0x3FF0000000000000
    add_f32 = one("gfx942", 0x020202F2)
    assert add_f32.src[0].value == 0x3F800000
    add_f16 = one("gfx942", 0x3E0202F2)
    assert add_f16.src[0].value == 0x3C00
    minus = one("gfx942", 0xBE8001C1)  # s_mov_b64 s[0:1], -1
    assert minus.src[0].value == (1 << 64) - 1
    literal = one("gfx942", 0xBE8001FF, 0x80000000)
    assert (literal.src[0].kind, literal.src[0].value) == (OperandKind.LITERAL, 0x80000000)


def test_branch_target_counts_from_the_next_instruction() -> None:
    code = struct.pack("<2I", 0xBF800000, 0xBF82FFFE)  # s_nop; s_branch back to it
    assert decoder("gfx942").decode(code, 4).src[0].value == 0


def test_accumulation_moves_ignore_the_bits_that_choose_a_file() -> None:
    write = one("gfx942", 0xD3D94020, 0x18000101)  # v_accvgpr_write_b32 a32, v1
    assert (write.dst[0].kind, write.src[0].kind) == (OperandKind.ACC, OperandKind.VGPR)
    read = one("gfx942", 0xD3D84000, 0x18000120)  # v_accvgpr_read_b32 v0, a32
    assert (read.dst[0].kind, read.src[0].kind) == (OperandKind.VGPR, OperandKind.ACC)


def test_decode_is_fast_enough_for_kernels() -> None:
    made = decoder("gfx1100")
    code = struct.pack("<2I", 0xD6130005, 0x04120702) * 500
    best = 1.0
    for _ in range(5):
        start = perf_counter()
        for offset in range(0, len(code), 8):
            made.decode(code, offset)
        best = min(best, (perf_counter() - start) / 500)
    assert best < 200e-6


@pytest.mark.parametrize(
    ("target", "words", "reason"),
    [
        ("gfx1030", (0x7C2D00F9, 0x00139EA1), "v_cmpx_ge_f32: flags that do not go together"),
        ("gfx942", (0xD2890001, 0x00020501), "v_readlane_b32: a field src1"),  # lanes in v2
        ("gfx942", (0xD28A0001, 0x00020501), "v_writelane_b32: a field src"),
        ("gfx1100", (0xD7600001, 0x00020501), "v_readlane_b32: a field src1"),
        ("gfx942", (0xBF8A0001,), "s_barrier: a field simm"),
        ("gfx942", (0x7E020000,), "v_nop: a field vdst"),
        ("gfx942", (0xD81A0000, 0x00050302), "ds_write_b32: a field data1"),
        ("gfx942", (0xD3CD0000, 0x040A0200), "v_mfma_f32_16x16x16_f16: a field src0"),
        ("gfx1100", (0x7E0402FA, 0xFF01FF01), "v_mov_b32: a field control"),
        ("gfx90a", (0xE0501000, 0x80FF0001), "buffer_load_dword: a field srsrc"),
        ("gfx1100", (0xCA100080, 0x00020202), "v_mov_b32: a field vsrc1"),
        ("gfx1201", (0xC4050070, 0x00800001, 0x80000000), "buffer_load_b32: a negative offset"),
        ("gfx90a", (0x8680007D,), "operand number has no meaning|ssrc0"),
        ("gfx90a", (0x020000F9, 0x07060606), "v_add_f32: a field"),  # a reserved selection
    ],
)  # fmt: skip
def test_what_an_instruction_cannot_hold_is_refused_by_name(
    target: str, words: tuple[int, ...], reason: str
) -> None:
    with pytest.raises(DecodeError, match=reason):
        one(target, *words)


@pytest.mark.parametrize("target", TARGETS)
def test_every_instruction_has_limits(target: str) -> None:
    machine = decoder(target)
    for (encoding, opcode), row in machine.rows().items():
        for after in () if encoding == "VOPD" else ("", *row.variants):
            name = f"{encoding}+{after}" if after else encoding
            assert machine.limits[name, opcode].limits, (name, row.name)


def test_fields_that_nothing_reads_are_not_looked_at() -> None:
    clock = one("gfx90a", 0xC09469C4, 0xFBEC0B80)  # no address, so no offset register
    assert (clock.name, clock.memory and clock.memory.soffset) == ("s_memrealtime", None)


def test_sources_that_a_long_instruction_does_not_have_are_not_looked_at() -> None:
    # Newer compilers put registers there: v_mul_hi_u32 v1, v2, v3 with a third source.
    plain, filled = one("gfx1100", 0xD72D0001, 0x00020702), one("gfx1100", 0xD72D0001, 0x03FE0702)
    assert plain.text() == filled.text() == "v_mul_hi_u32 v1, v2, v3"


def test_loads_into_lds_of_older_targets_are_those_of_newer_ones() -> None:
    # global_load_dword v2, s[4:5] offset:8 lds, and on gfx942 an instruction of its own
    mode = Bench("gfx942").mode
    old = decoder("gfx90a").decode(bytes.fromhex("08a050dc02000400"))
    new = decoder("gfx942").decode(bytes.fromhex("0880a8dc02000400"))
    assert (old.text(), old.dst) == ("global_load_dword v2, s[4:5] offset:8 lds", ())
    assert new.text() == "global_load_lds_dword v2, s[4:5] offset:8"
    graphs = [trace_instruction(made, mode, MEANINGS) for made in (old, new)]
    one, other = ([(n.prim, n.attribute) for n in graph.nodes] for graph in graphs)
    assert one == other
    assert "lds" in {attribute for prim, attribute in one if prim == "store"}


@pytest.mark.parametrize(
    ("word", "text"),
    [(0xBF800040, "s_nop 64"), (0xBF800041, "s_nop 0x41"), (0xBF810007, "s_endpgm 7"),
     (0xBF810000, "s_endpgm")],
)  # fmt: skip
def test_immediates_are_written_as_llvm_does(word: int, text: str) -> None:
    assert decoder("gfx942").decode(word.to_bytes(4, "little")).text() == text


@pytest.mark.parametrize("target", ["gfx1100", "gfx1201"])
def test_masks_as_third_sources_go_with_dpp(target: str) -> None:
    opcode = {"v_cndmask_b32": 257, "v_sub_co_ci_u32": 289}
    for name, number in opcode.items():
        first = 0b110101 << 26 | number << 16 | 3 | (8 << 8 if "co_ci" in name else 0)
        second = 250 | 257 << 9 | 6 << 18
        words = (first, second, 0xFF08_1B05)
        made = decoder(target).decode(b"".join(word.to_bytes(4, "little") for word in words))
        carry = " s8," if "co_ci" in name else ""
        moves = "quad_perm:[3,2,1,0] row_mask:0xf bank_mask:0xf bound_ctrl:1"
        assert made.text() == f"{name}_e64_dpp v3,{carry} v5, v1, s6 {moves}"


def test_masks_of_dual_selections_are_left_out_and_nothing_else() -> None:
    # case 76512 of the campaign's seed 77
    made = decoder("gfx1201").decode(bytes.fromhex("0a5052ca6a383e7b"))
    expected = "v_dual_cndmask_b32 v123, s10, v40 :: v_dual_cndmask_b32 v62, vcc_lo, v28"
    assert made.text() == expected


def test_moves_between_accumulators_have_none_in_a_special_register() -> None:
    # case 110489 of the campaign's seed 78
    made = decoder("gfx942").decode(bytes.fromhex("efa49a7f"))
    assert made.text() == "v_accvgpr_mov_b32 a205, src_pops_exiting_wave_id"

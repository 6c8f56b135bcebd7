"""Kernel descriptors and resource words against LLVM's assembler, directive by directive."""

import shutil
import subprocess
from pathlib import Path

import pytest

from gputrace.bits import Record
from gputrace.formats import registers
from gputrace.formats.descriptor import KernelDescriptor
from gputrace.formats.registers import RegisterTable

MC = shutil.which("llvm-mc-19") or shutil.which("llvm-mc")
OBJCOPY = shutil.which("llvm-objcopy-19") or shutil.which("llvm-objcopy")
needs_llvm = pytest.mark.skipif(
    MC is None or OBJCOPY is None, reason="llvm-mc and llvm-objcopy (llvm-19) are not installed"
)

TABLE = {
    "gfx90a": registers.GFX90A,
    "gfx942": registers.GFX942,
    "gfx1030": registers.GFX10,
    "gfx1100": registers.GFX11,
    "gfx1201": registers.GFX12,
}
# Directive, value, word, field, what the field must hold. AMDGPUUsage.rst, .amdhsa_kernel.
ALL = [
    ("group_segment_fixed_size", 1234, "", "group_segment_fixed_size", 1234),
    ("private_segment_fixed_size", 4321, "", "private_segment_fixed_size", 4321),
    ("kernarg_size", 88, "", "kernarg_size", 88),
    ("user_sgpr_dispatch_ptr", 1, "", "enable_sgpr_dispatch_ptr", 1),
    ("user_sgpr_queue_ptr", 1, "", "enable_sgpr_queue_ptr", 1),
    ("user_sgpr_kernarg_segment_ptr", 1, "", "enable_sgpr_kernarg_segment_ptr", 1),
    ("user_sgpr_dispatch_id", 1, "", "enable_sgpr_dispatch_id", 1),
    ("user_sgpr_private_segment_size", 1, "", "enable_sgpr_private_segment_size", 1),
    ("uses_dynamic_stack", 1, "", "uses_dynamic_stack", 1),
    ("float_round_mode_32", 1, "PGM_RSRC1", "float_round_mode_32", 1),
    ("float_round_mode_16_64", 2, "PGM_RSRC1", "float_round_mode_16_64", 2),
    ("float_denorm_mode_32", 3, "PGM_RSRC1", "float_denorm_mode_32", 3),
    ("float_denorm_mode_16_64", 1, "PGM_RSRC1", "float_denorm_mode_16_64", 1),
    ("fp16_overflow", 1, "PGM_RSRC1", "fp16_ovfl", 1),
    ("user_sgpr_count", 14, "PGM_RSRC2", "user_sgpr", 14),
    ("system_sgpr_workgroup_id_x", 0, "PGM_RSRC2", "tgid_x_en", 0),
    ("system_sgpr_workgroup_id_y", 1, "PGM_RSRC2", "tgid_y_en", 1),
    ("system_sgpr_workgroup_id_z", 1, "PGM_RSRC2", "tgid_z_en", 1),
    ("system_sgpr_workgroup_info", 1, "PGM_RSRC2", "tg_size_en", 1),
    ("system_vgpr_workitem_id", 2, "PGM_RSRC2", "tidig_comp_cnt", 2),
    ("exception_fp_ieee_invalid_op", 1, "PGM_RSRC2", "excp_en", 0x01),
    ("exception_fp_denorm_src", 1, "PGM_RSRC2", "excp_en", 0x02),
    ("exception_fp_ieee_div_zero", 1, "PGM_RSRC2", "excp_en", 0x04),
    ("exception_fp_ieee_overflow", 1, "PGM_RSRC2", "excp_en", 0x08),
    ("exception_fp_ieee_underflow", 1, "PGM_RSRC2", "excp_en", 0x10),
    ("exception_fp_ieee_inexact", 1, "PGM_RSRC2", "excp_en", 0x20),
    ("exception_int_div_zero", 1, "PGM_RSRC2", "excp_en", 0x40),
]
BEFORE_GFX12 = [
    ("dx10_clamp", 0, "PGM_RSRC1", "dx10_clamp", 0),
    ("ieee_mode", 1, "PGM_RSRC1", "ieee_mode", 1),
]
CDNA = [
    ("next_free_vgpr", 40, "PGM_RSRC1", "vgprs", 4),
    ("next_free_sgpr", 60, "PGM_RSRC1", "sgprs", 8),
    ("tg_split", 1, "PGM_RSRC3", "tg_split", 1),
    ("accum_offset", 24, "PGM_RSRC3", "accum_offset", 5),
    ("user_sgpr_kernarg_preload_length", 3, "", "kernarg_preload_length", 3),
]
GFX10_UP = [
    ("wavefront_size32", 0, "", "enable_wavefront_size32", 0),
    ("wavefront_size32", 1, "", "enable_wavefront_size32", 1),
    ("workgroup_processor_mode", 1, "PGM_RSRC1", "wgp_mode", 1),
    ("memory_ordered", 0, "PGM_RSRC1", "mem_ordered", 0),
    ("memory_ordered", 1, "PGM_RSRC1", "mem_ordered", 1),
    ("forward_progress", 1, "PGM_RSRC1", "fwd_progress", 1),
    ("next_free_vgpr", 40, "PGM_RSRC1", "vgprs", 4),
]
SHARED = [("shared_vgpr_count", 3, "PGM_RSRC3", "shared_vgpr_cnt", 3)]
ABSOLUTE = [
    ("user_sgpr_private_segment_buffer", 1, "", "enable_sgpr_private_segment_buffer", 1),
    ("user_sgpr_flat_scratch_init", 1, "", "enable_sgpr_flat_scratch_init", 1),
    ("system_sgpr_private_segment_wavefront_offset", 1, "PGM_RSRC2", "scratch_en", 1),
]
ARCHITECTED = [("enable_private_segment", 1, "PGM_RSRC2", "scratch_en", 1)]
CASES = {
    "gfx90a": ALL + BEFORE_GFX12 + CDNA + ABSOLUTE,
    "gfx942": ALL + BEFORE_GFX12 + CDNA + ARCHITECTED,
    "gfx1030": ALL + BEFORE_GFX12 + GFX10_UP + ABSOLUTE + SHARED,
    "gfx1100": ALL + BEFORE_GFX12 + GFX10_UP + ARCHITECTED + SHARED,
    "gfx1201": ALL
    + GFX10_UP
    + ARCHITECTED
    + [("round_robin_scheduling", 1, "PGM_RSRC1", "wg_rr_en", 1)],
}


def _directives(target: str, name: str, value: int) -> dict[str, int]:
    given = {"next_free_vgpr": 32, "next_free_sgpr": 16}
    if target in ("gfx90a", "gfx942", "gfx950"):
        given["accum_offset"] = 8
    if name == "shared_vgpr_count":
        given["wavefront_size32"] = 0  # shared VGPRs exist for waves of 64 only
    if name == "user_sgpr_kernarg_preload_length":
        given["user_sgpr_kernarg_segment_ptr"] = 1
    return given | {name: value}


def _assemble(folder: Path, target: str, kernels: list[dict[str, int]]) -> bytes:
    assert MC is not None
    assert OBJCOPY is not None
    text = [".amdhsa_code_object_version 5", ".section .rodata"]
    for index, directives in enumerate(kernels):
        text.append(f".amdhsa_kernel k{index}")
        text += [f"  .amdhsa_{name} {value}" for name, value in directives.items()]
        text.append(".end_amdhsa_kernel")
    (folder / "k.s").write_text("\n".join(text) + "\n")
    triple = "-triple=amdgcn-amd-amdhsa"
    subprocess.run(
        [MC, triple, f"-mcpu={target}", "-filetype=obj", "k.s", "-o", "k.o"],
        cwd=folder,
        check=True,
    )
    subprocess.run(
        [OBJCOPY, "-O", "binary", "--only-section=.rodata", "k.o", "k.bin"],
        cwd=folder,
        check=True,
    )
    return (folder / "k.bin").read_bytes()


def _resource(table: RegisterTable, descriptor: KernelDescriptor, word: str) -> Record:
    if not word:
        return descriptor
    layout = table.layout(f"COMPUTE_{word}")
    assert layout is not None
    return layout.decode([getattr(descriptor, f"compute_{word.lower()}")])


@needs_llvm
@pytest.mark.parametrize("target", CASES)
def test_every_directive_of_the_assembler_is_found_in_its_field(
    target: str, tmp_path: Path
) -> None:
    cases = CASES[target]
    data = _assemble(tmp_path, target, [_directives(target, row[0], row[1]) for row in cases])
    for index, (name, value, word, field, expected) in enumerate(cases):
        descriptor = KernelDescriptor.from_bytes(data, 64 * index)
        found = getattr(_resource(TABLE[target], descriptor, word), field)
        assert found == expected, f"{target} .amdhsa_{name} {value}: {word} {field} is {found}"
        assert descriptor.unknown == 0
        for resource in ("PGM_RSRC1", "PGM_RSRC2", "PGM_RSRC3"):
            record = _resource(TABLE[target], descriptor, resource)
            assert record.unknown == 0, f"{target} .amdhsa_{name}: {record}"


def test_user_sgprs_are_packed_in_the_documented_order() -> None:
    descriptor = KernelDescriptor(
        enable_sgpr_private_segment_buffer=1,
        enable_sgpr_kernarg_segment_ptr=1,
        enable_sgpr_private_segment_size=1,
        kernarg_preload_length=5,
    )
    assert descriptor.user_sgprs() == {
        "private_segment_buffer": (0, 4),
        "kernarg_segment_ptr": (4, 2),
        "private_segment_size": (6, 1),
        "kernarg_preload": (7, 5),
    }
    assert descriptor.properties == 0x49


def test_an_entry_may_lie_before_its_descriptor() -> None:
    data = bytearray(64)
    data[16:24] = (-256).to_bytes(8, "little", signed=True)
    assert KernelDescriptor.from_bytes(data).kernel_code_entry_byte_offset == -256


def test_bits_that_nobody_named_are_kept() -> None:
    data = bytes(range(64))
    descriptor = KernelDescriptor.from_bytes(data)
    assert descriptor.to_bytes() == data
    assert descriptor.unknown

"""The kernel descriptor of a code object, 64 bytes.

Source: LLVM `AMDGPUUsage.rst`, Kernel Descriptor, and `llvm/Support/AMDHSAKernelDescriptor.h`. What
its three resource words mean depends on the target: see the PGM_RSRC records of `registers`.
"""

from gputrace.bits import Record, bits, s64, u32

DESCRIPTOR_BYTES = 64
CODE_ALIGNMENT = 256
"""Bytes; a kernel's entry address is a multiple of it."""
PRELOAD_PROLOG_BYTES = 256
"""With preloaded arguments, firmware enters this far behind the entry."""


class KernelDescriptor(
    Record, words=16, source="AMDHSAKernelDescriptor.h struct kernel_descriptor_t"
):
    """What a dispatch must know of a kernel: segments, entry, resources, initial registers."""

    group_segment_fixed_size: int = u32(0, "bytes of static LDS", default=0)
    private_segment_fixed_size: int = u32(1, "bytes of scratch of a work-item", default=0)
    kernarg_size: int = u32(2, "bytes", default=0)
    kernel_code_entry_byte_offset: int = s64(4, "from the descriptor's own address", default=0)
    compute_pgm_rsrc3: int = u32(11, default=0)
    compute_pgm_rsrc1: int = u32(12, default=0)
    compute_pgm_rsrc2: int = u32(13, default=0)
    enable_sgpr_private_segment_buffer: int = bits(14, 0, 0, "4 SGPRs", default=0)
    enable_sgpr_dispatch_ptr: int = bits(14, 1, 1, "2 SGPRs", default=0)
    enable_sgpr_queue_ptr: int = bits(14, 2, 2, "2 SGPRs", default=0)
    enable_sgpr_kernarg_segment_ptr: int = bits(14, 3, 3, "2 SGPRs", default=0)
    enable_sgpr_dispatch_id: int = bits(14, 4, 4, "2 SGPRs", default=0)
    enable_sgpr_flat_scratch_init: int = bits(14, 5, 5, "2 SGPRs", default=0)
    enable_sgpr_private_segment_size: int = bits(14, 6, 6, "1 SGPR", default=0)
    enable_wavefront_size32: int = bits(14, 10, 10, "waves of 32 instead of 64", default=0)
    uses_dynamic_stack: int = bits(14, 11, 11, "scratch size is a guess", default=0)
    kernarg_preload_length: int = bits(14, 22, 16, "dwords", default=0)
    kernarg_preload_offset: int = bits(14, 31, 23, "dwords", default=0)

    @property
    def properties(self) -> int:
        """Give the 16 bits of kernel_code_properties."""
        return self.encode()[14] & 0xFFFF

    def user_sgprs(self) -> dict[str, tuple[int, int]]:
        """Give first register and count of each user SGPR item, in the order of the registers.

        Source: AMDGPUUsage.rst, Initial Kernel Execution State. `kernarg_preload` counts what the
        descriptor asks for, as firmware that can preload does.
        """
        places: dict[str, tuple[int, int]] = {}
        at = 0
        for item, count in USER_SGPR_ITEMS:
            if getattr(self, f"enable_sgpr_{item}"):
                places[item] = (at, count)
                at += count
        if self.kernarg_preload_length:
            places["kernarg_preload"] = (at, self.kernarg_preload_length)
        return places


USER_SGPR_ITEMS = (
    ("private_segment_buffer", 4),
    ("dispatch_ptr", 2),
    ("queue_ptr", 2),
    ("kernarg_segment_ptr", 2),
    ("dispatch_id", 2),
    ("flat_scratch_init", 2),
    ("private_segment_size", 1),
)
"""What may be in user SGPRs, with the number of registers, in their order."""

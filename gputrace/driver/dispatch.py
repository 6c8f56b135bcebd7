"""What a launch puts into registers or into a dispatch packet, from descriptor and shape.

Sources: LLVM AMDGPUUsage.rst (Kernel Dispatch, Initial Kernel Execution State), Mesa si_compute.c
and radv_cmd_buffer.c (registers of a compute dispatch), tinygrad ops_amd.py.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from gputrace.driver.kernargs import Geometry
from gputrace.driver.scratch import Scratch
from gputrace.families import Family
from gputrace.formats.aql import FenceScope, KernelDispatch
from gputrace.formats.descriptor import KernelDescriptor
from gputrace.formats.packets import Packet
from gputrace.formats.pm4 import SH_BASE, DispatchDirect, SetShReg

_AXES = "XYZ"
_TRAP_PRESENT = 1 << 6  # COMPUTE_PGM_RSRC2: firmware sets it where a trap handler is


class RegisterImage:
    """Values for COMPUTE_* registers of one family, by name."""

    def __init__(self, family: Family) -> None:
        self._table = family.registers
        self._values: dict[int, int] = {}

    def set(self, name: str, value: int) -> None:
        """Give a register its value."""
        self._values[self._table.address(f"COMPUTE_{name}")] = value

    def fields(self, name: str, **fields: int) -> int:
        """Return the value of a register made of fields. Raises FieldError for what is too big."""
        layout = self._table.layout(f"COMPUTE_{name}")
        assert layout is not None
        return layout(**fields).encode()[0]

    def address(self, name: str, address: int) -> None:
        """Put an address that is a multiple of 256 into a pair of registers."""
        self.set(f"{name}_LO", address >> 8 & 0xFFFF_FFFF)
        self.set(f"{name}_HI", address >> 40)

    def packets(self) -> Iterator[Packet]:
        """Yield the packets that write all registers, one for each run of neighbours."""
        numbers = sorted(self._values)
        for _, run in groupby(enumerate(numbers), key=lambda item: item[1] - item[0]):
            places = [number for _, number in run]
            values = [self._values[number] for number in places]
            yield SetShReg(offset=places[0] - SH_BASE, values=tuple(values))


def user_values(
    descriptor: KernelDescriptor, items: Mapping[str, int | Iterable[int]]
) -> dict[int, int]:
    """Return the user SGPRs that a descriptor asks for, by number.

    `items` holds an integer or dwords for each item. Preloaded arguments are left out: the
    kernel's prolog loads them when it is entered at its beginning.
    """
    values: dict[int, int] = {}
    for name, (first, count) in descriptor.user_sgprs().items():
        if name == "kernarg_preload":
            continue
        item = items[name]
        words = [item >> 32 * n & 0xFFFF_FFFF for n in range(count)] if isinstance(item, int) \
            else list(item)  # fmt: skip
        values |= dict(enumerate(words, first))
    return values


def pm4_dispatch(
    family: Family,
    descriptor: KernelDescriptor,
    entry: int,
    shape: Geometry,
    scratch: Scratch,
    user: Mapping[int, int],
) -> list[Packet]:
    """Return the packets that launch a kernel from a PM4 stream."""
    image = RegisterImage(family)
    image.address("PGM", entry)
    lds = descriptor.group_segment_fixed_size + shape.dynamic_lds
    granules = image.fields("PGM_RSRC2", lds_size=-(-lds // family.lds_granule))
    rsrc1 = descriptor.compute_pgm_rsrc1
    if family.priv_for_context_save:
        rsrc1 |= image.fields("PGM_RSRC1", priv=1)
    image.set("PGM_RSRC1", rsrc1)
    image.set("PGM_RSRC2", descriptor.compute_pgm_rsrc2 & ~_TRAP_PRESENT | granules)
    image.set("PGM_RSRC3", descriptor.compute_pgm_rsrc3)
    image.set("RESOURCE_LIMITS", 0)
    image.set("TMPRING_SIZE", scratch.tmpring)
    if family.flat_scratch == "architected":
        image.address("DISPATCH_SCRATCH_BASE", scratch.base)
    for number, value in user.items():
        image.set(f"USER_DATA_{number}", value)
    _set_shape(image, shape)
    start = {"compute_shader_en": 1, "force_start_at_000": 1}
    if any(shape.remainders):
        start["partial_tg_en"] = 1
    if descriptor.enable_wavefront_size32:
        start["cs_w32_en"] = 1
    x, y, z = shape.groups
    initiator = image.fields("DISPATCH_INITIATOR", **start)
    return [*image.packets(), DispatchDirect(dim_x=x, dim_y=y, dim_z=z, initiator=initiator)]


def _set_shape(image: RegisterImage, shape: Geometry) -> None:
    for axis, block, rest in zip(_AXES, shape.block, shape.remainders, strict=True):
        # With partial groups on one axis the others take their whole size as the partial one.
        partial = (rest or block) if any(shape.remainders) else 0
        threads = image.fields(
            f"NUM_THREAD_{axis}", num_thread_full=block, num_thread_partial=partial
        )
        image.set(f"NUM_THREAD_{axis}", threads)
        image.set(f"START_{axis}", 0)
        image.set(f"RESTART_{axis}", 0)


def aql_dispatch(
    descriptor: KernelDescriptor,
    descriptor_address: int,
    shape: Geometry,
    lane_bytes: int,
    *,
    kernarg_address: int = 0,
    completion_signal: int = 0,
) -> KernelDispatch:
    """Return the packet that launches a kernel from an AQL queue after all earlier packets."""
    return KernelDispatch(
        barrier=True,
        acquire=FenceScope.SYSTEM,
        release=FenceScope.SYSTEM,
        dimensions=shape.dimensions,
        workgroup_size_x=shape.block[0],
        workgroup_size_y=shape.block[1],
        workgroup_size_z=shape.block[2],
        grid_size_x=shape.threads[0],
        grid_size_y=shape.threads[1],
        grid_size_z=shape.threads[2],
        private_segment_size=lane_bytes,
        group_segment_size=descriptor.group_segment_fixed_size + shape.dynamic_lds,
        kernel_object=descriptor_address,
        kernarg_address=kernarg_address,
        completion_signal=completion_signal,
    )

"""From registers to what the shader engines are told to run."""

from collections.abc import Mapping, Sequence
from typing import Any

from gputrace.devices.emulated.effects import EngineStop, refuse
from gputrace.families import Family
from gputrace.isa.launch import Dimensions, KernelLaunch

Registers = Mapping[int, int]

_REMEMBERED = 1024  # programs and rings of scratch that were looked at
_AXES = ("X", "Y", "Z")
_LOCAL = ("GRBM_GFX_INDEX", "SCRATCH_REG0")
_KERNEL_ONLY = ("COMPUTE_VMID", "COMPUTE_DISPATCH_END", "COMPUTE_NOWHERE")
_MUST_BE_ZERO = (
    "PIPELINESTAT_ENABLE", "PERFCOUNT_ENABLE", "THREAD_TRACE_ENABLE",
    "RESTART_X", "RESTART_Y", "RESTART_Z", "RESTART_X2", "RESTART_Y2", "RESTART_Z2",
)  # fmt: skip
_PROGRAM = {
    "PGM_RSRC1": ("debug_mode", "cdbg_user", "fp16_ovfl"),
    "PGM_RSRC2": ("excp_en", "excp_en_msb", "skip_usgpr0", "dynamic_vgpr"),
    "PGM_RSRC3": ("trap_on_start", "trap_on_end", "shared_vgpr_cnt"),
}
"""Fields of a program's registers that change what it does and are not modelled."""
_INITIATOR = (
    "compute_shader_en", "partial_tg_en", "force_start_at_000", "use_thread_dimensions",
    "order_mode", "tunnel_enable", "cs_w32_en", "disable_disp_prempt_en",
)  # fmt: skip


class Dispatcher:
    """Reads a dispatch out of the registers of one queue."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self._good: set[tuple[int, int, int]] = set()
        self._rings: dict[int, tuple[int, int]] = {}
        table = family.registers
        named = {table.name(number): number for number in table.addresses.values()}
        self._known = {
            number
            for name, number in named.items()
            if name in _LOCAL
            or (name and name.startswith("COMPUTE_") and name not in _KERNEL_ONLY)
        }

        self._zero = {
            name: table.addresses[name]
            for name in (f"COMPUTE_{one}" for one in _MUST_BE_ZERO)
            if name in table.addresses
        }
        self._masks = frozenset(
            number for name, number in table.addresses.items()
            if name.startswith("COMPUTE_STATIC_THREAD_MGMT_SE")
        )

    def knows(self, number: int) -> bool:
        """Whether a register, by its dword number, may be written and read by a queue."""
        return number in self._known

    def is_unit_mask(self, number: int) -> bool:
        """Whether a register, by its dword number, masks compute units of a shader engine."""
        return number in self._masks

    def from_registers(
        self, registers: Sequence[Registers], size: Dimensions, initiator: int
    ) -> KernelLaunch | None:
        """Return what DISPATCH_DIRECT launches, None for an empty grid.

        The dies of a node share one grid; where their registers differ, those of the first count.
        """
        state = _State(self.family, registers[0])
        start = self._initiator(state, initiator)
        if 0 in size:
            return None
        for name, number in self._zero.items():
            if registers[0].get(number):
                raise refuse(f"a dispatch with {name} {registers[0][number]:#x}")
        if not any(registers[0].get(number, -1) for number in self._masks):
            raise refuse("a dispatch with all compute units masked")
        return self._launch(state, size, start)

    def check_program(self, rsrc1: int, rsrc2: int, rsrc3: int) -> None:
        """Raise EngineStop for what a program asks of the shader engines and they do not model."""
        if (rsrc1, rsrc2, rsrc3) in self._good:
            return
        for (name, fields), value in zip(_PROGRAM.items(), (rsrc1, rsrc2, rsrc3), strict=True):
            layout = self.family.registers.layout(f"COMPUTE_{name}")
            assert layout is not None
            record: Any = layout.decode([value])
            for field in fields:
                if getattr(record, field, 0):
                    raise refuse(f"a program with {field} {getattr(record, field):#x} in {name}")
        if len(self._good) >= _REMEMBERED:
            self._good.clear()
        self._good.add((rsrc1, rsrc2, rsrc3))

    def _initiator(self, state: "_State", value: int) -> dict[str, int]:
        record = state.decode("DISPATCH_INITIATOR", value)
        found = {field.name: int(getattr(record, field.name)) for field in record.FIELDS}
        odd = [name for name, bit in found.items() if bit and name not in _INITIATOR]
        if odd or record.unknown:
            raise refuse(f"a dispatch with {', '.join(odd) or 'reserved bits'} in its initiator")
        if not found["compute_shader_en"]:
            raise EngineStop(f"initiator {value:#x} does not enable the compute shader")
        return found

    def _launch(self, state: "_State", size: Dimensions, start: dict[str, int]) -> KernelLaunch:
        family = self.family
        names = [f"NUM_THREAD_{axis}" for axis in _AXES]
        threads = [state.decode(name, state[name]) for name in names]
        if any(getattr(one, "interleave_bits", 0) for one in threads):
            raise refuse("a dispatch with interleave_bits in COMPUTE_NUM_THREAD")
        group = [int(one.num_thread_full) for one in threads]
        if 0 in group or group[0] * group[1] * group[2] > family.max_flat_workgroup:
            raise EngineStop(f"a work-group of {group[0]} x {group[1]} x {group[2]} work-items")
        first, counts = [0, 0, 0], list(size)
        if start["use_thread_dimensions"]:
            counts = [-(-count // item) for count, item in zip(counts, group, strict=True)]
        if not start["force_start_at_000"]:
            # The packet's dimensions are ends, not counts, when a dispatch starts elsewhere.
            first = [state[f"START_{axis}"] for axis in _AXES]
            counts = [max(0, end - one) for end, one in zip(counts, first, strict=True)]
        partial = [0, 0, 0]
        if start["partial_tg_en"]:
            partial = [int(one.num_thread_partial) for one in threads]
        self.check_program(state["PGM_RSRC1"], state["PGM_RSRC2"], state["PGM_RSRC3"])
        rsrc2 = state.decode("PGM_RSRC2", state["PGM_RSRC2"])
        waves, wave_bytes = self.scratch(state["TMPRING_SIZE"])
        return KernelLaunch(
            target=family.name,
            entry=state.address("PGM"),
            rsrc1=state["PGM_RSRC1"],
            rsrc2=state["PGM_RSRC2"],
            rsrc3=state["PGM_RSRC3"],
            wave_size=32 if start.get("cs_w32_en") else max(family.waves),
            user_data=tuple(state[f"USER_DATA_{n}"] for n in range(int(rsrc2.user_sgpr))),
            groups=(counts[0], counts[1], counts[2]),
            group_size=(group[0], group[1], group[2]),
            partial=(partial[0], partial[1], partial[2]),
            first_group=(first[0], first[1], first[2]),
            lds_bytes=int(rsrc2.lds_size) * family.lds_granule,
            scratch_base=state.address("DISPATCH_SCRATCH_BASE"),
            scratch_wave_bytes=wave_bytes,
            scratch_waves=waves,
            lds_aperture=family.lds_aperture,
            scratch_aperture=family.scratch_aperture,
        )

    def scratch(self, value: int) -> tuple[int, int]:
        """Return the waves that may own scratch and the bytes of each, from TMPRING_SIZE."""
        if value not in self._rings:
            if len(self._rings) >= _REMEMBERED:
                self._rings.clear()
            self._rings[value] = self._scratch(value)
        return self._rings[value]

    def _scratch(self, value: int) -> tuple[int, int]:
        ring: Any = self.family.registers.decode(
            self.family.registers.address("COMPUTE_TMPRING_SIZE"), value
        )
        waves = int(ring.waves)
        if self.family.scratch_waves_scope == "engine":
            waves *= self.family.shape.engines
        return waves, int(ring.wavesize) * self.family.scratch_wavesize_unit


class _State:
    """Registers by their names, without the COMPUTE_ in front."""

    def __init__(self, family: Family, registers: Registers) -> None:
        self._table, self._registers = family.registers, registers

    def __getitem__(self, name: str) -> int:
        return self._registers.get(self._table.address(f"COMPUTE_{name}"), 0)

    def address(self, name: str) -> int:
        """Return the address in a pair of registers that count 256 bytes."""
        return (self[f"{name}_LO"] | self[f"{name}_HI"] << 32) << 8

    def decode(self, name: str, value: int) -> Any:
        """Return the fields of a register's value."""
        layout = self._table.layout(f"COMPUTE_{name}")
        assert layout is not None
        return layout.decode([value])

"""From registers and packets to what the shader engines are told to run."""

from collections.abc import Mapping, Sequence

from gputrace.devices.emulated.effects import refuse

_SHADER = range(0x2E00, 0x2E80)
_SCRATCH_REGISTERS = range(0xC040, 0xC048)

Registers = Mapping[int, int]


class Dispatcher:
    """Reads a dispatch out of the registers of one queue."""

    def knows(self, number: int) -> bool:
        """Whether a register, by its dword number, may be written and read by a queue."""
        return number in _SHADER or number in _SCRATCH_REGISTERS

    def from_registers(
        self, registers: Sequence[Registers], size: tuple[int, int, int], initiator: int
    ) -> object | None:
        """Return what DISPATCH_DIRECT launches, None for an empty grid."""
        if 0 in size:
            return None
        raise refuse(f"a dispatch with initiator {initiator:#x}")

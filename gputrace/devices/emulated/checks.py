"""Control bits that the emulation does not model: refused by name wherever a packet has them."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from gputrace.devices.emulated.effects import EngineStop, refuse
from gputrace.formats import pm4, sdma
from gputrace.formats.packets import Packet

_UNMODELLED = frozenset(
    {
        # PM4: predication, other engines, schedulers, other address spaces, privilege
        "predicate", "engine", "engine_sel", "cp_sync", "mes_interrupt_pipe", "mes_action",
        "pq_exe_status", "execute", "wait_sync", "pws_enable", "offload_enable", "offload_polling",
        "pipestat_mode", "range_is_pa", "vmid_shift", "vmid", "inherit_vmid", "privileged", "mode",
        "aid_id", "soc_clock",
        # PM4 and SDMA: what the caches hold would be lost
        "gl2_discard",
        # SDMA: encryption, byte swaps, compression, other address spaces and dies
        "tmz", "encrypt", "swap", "src_swap", "dst_swap", "dst1_swap", "dst2_swap", "priv", "gpa",
        "die", "domain", "bridge", "data_format", "read_compression", "write_compression",
        "all_dies", "control_19",
    }
)  # fmt: skip
"""Fields that mean nothing here or change what a packet does: they must be zero."""


def _question(kind: type[Packet]) -> tuple[tuple[str, ...], Callable[[Packet], Any]]:
    # The names of a layout that must be zero, and what fetches their values.
    names = [field.name for field in kind.FIELDS if field.name in _UNMODELLED]
    # Two names at least, so that the getter returns a tuple.
    return tuple(names), attrgetter("unknown", "unknown", *names)


_QUESTIONS = {
    kind: _question(kind)
    for dialect in (*pm4.DIALECTS, *sdma.DIALECTS)
    for kind in (pm4.Filler, *dialect.all)
}


def check(packet: Packet) -> None:
    """Raise EngineStop when a packet has bits set that are not modelled."""
    names, values = _QUESTIONS[type(packet)]
    found = values(packet)
    if any(found):
        set_names = [name for name, value in zip(names, found[2:], strict=True) if value]
        if set_names:
            raise refuse(f"{packet.VENDOR_NAME} with {' and '.join(set_names)}")
        raise refuse(f"{packet.VENDOR_NAME} with reserved bits {packet.unknown:#x}")


def aligned(address: int, size: int, packet: str) -> int:
    """Return the address, or stop: the hardware would drop its low bits and hit something else."""
    if address % size:
        reason = f"{packet}: {address:#x} is not a multiple of {size}"
        raise EngineStop(reason, address, hardware="drops the low bits of the address")
    return address


def known(kind: Any, value: int, what: str) -> Any:
    """Return a member of an enumeration; a value that it lacks is refused."""
    # A decoded field keeps values that its enumeration lacks as plain integers.
    if not isinstance(value, kind):
        raise refuse(f"{what} {int(value):#x}")
    return value


def shown(value: int) -> str:
    """Return the name of an enumeration's member, or a number."""
    return getattr(value, "name", None) or f"{int(value):#x}"

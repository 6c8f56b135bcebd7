"""How a run ended, in the words of the device."""

from dataclasses import replace
from typing import Any

from gputrace.kfd.port import Fault, Registers, Stall
from gputrace.trace.events import Outcome


def of_fault(fault: Fault, text: str) -> Outcome:
    """Return the outcome of a run that a fault ended; `text` is for people."""
    return _outcome("fault", fault, text, fault.access or "")


def of_stall(stall: Stall, text: str, *, alone: bool) -> Outcome:
    """Return the outcome of a run that hung, with the stall that explains it.

    `alone` says that the CPU would have stored nothing more.
    """
    return replace(_outcome("hang", stall, text, ""), proven=stall.proves_hang(alone=alone))


def details(
    place: int, pc: int | None, workgroup: tuple[int, int, int] | None, registers: Registers
) -> dict[str, Any]:
    """Return what an outcome keeps of where a packet and a wave stand; nothing that is unknown."""
    found = {
        "place": place,
        "pc": pc,
        "workgroup": workgroup,
        "registers": {name: list(words) for name, words in registers.items()} or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _outcome(result: str, found: Fault | Stall, text: str, access: str) -> Outcome:
    return Outcome(
        result,
        text,
        queue=found.queue,
        packet=found.packet,
        address=-1 if found.address is None else found.address,
        access=access,
        kernel=found.kernel or "",
        wave=-1 if found.wave is None else found.wave,
        details=details(found.place, found.pc, found.workgroup, found.registers),
    )

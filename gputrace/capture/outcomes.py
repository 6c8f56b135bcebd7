"""How a run ended, in the words of the device."""

from gputrace.kfd.port import Fault, Stall
from gputrace.trace.events import Outcome


def of_fault(fault: Fault, text: str) -> Outcome:
    """Return the outcome of a run that a fault ended; `text` is for people."""
    return _outcome("fault", fault, text, fault.access or "")


def of_stall(stall: Stall, text: str) -> Outcome:
    """Return the outcome of a run that hung, with the stall that explains it."""
    return _outcome("hang", stall, text, "")


def _outcome(result: str, found: Fault | Stall, text: str, access: str) -> Outcome:
    place = {"place": found.place, "pc": found.pc, "workgroup": found.workgroup}
    return Outcome(
        result,
        text,
        queue=found.queue,
        packet=found.packet,
        address=-1 if found.address is None else found.address,
        access=access,
        kernel=found.kernel or "",
        wave=-1 if found.wave is None else found.wave,
        details={name: value for name, value in place.items() if value is not None},
    )

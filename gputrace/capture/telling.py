"""What is said of a capture: what may be lost of it, and what it cost."""

from pathlib import Path

from gputrace.trace.events import Cost
from gputrace.trace.text import amount

EXPIRE = Path("/proc/sys/vm/dirty_expire_centisecs")


def losses(option: str, *, given: bool) -> str:
    """Say which doorbells may be lost; `option` is what makes each wait for the disk."""
    if given:
        return "durable: each doorbell waits for the disk"
    try:
        seconds = f"about {int(EXPIRE.read_text()) / 100:g} s of doorbells"
    except (OSError, ValueError):
        seconds = "some seconds of doorbells"
    return (
        "if the program dies no doorbell that was rung is lost; if the machine dies, up to "
        f"{seconds} are (none with {option})"
    )


def costs(cost: Cost, seconds: float) -> str:
    """Say what a capture cost in a run that took so many seconds."""
    return (
        f"capture cost {cost.nanoseconds / 1e9:.3f} s of {seconds:.3f} s, compared "
        f"{amount(cost.scanned)} of memory, added {cost.stalls} stalls"
    )

"""Make the device that a name asks for."""

from gputrace.devices.emulated import EmulatedKfd
from gputrace.devices.kfd import RealKfd
from gputrace.devices.names import parse_name
from gputrace.errors import UsageError
from gputrace.kfd.port import Kfd


def make_device(text: str) -> Kfd:
    """Return the device with this name, not opened yet. Raises UsageError for a wrong name."""
    name = parse_name(text)
    if name.scheme == "kfd":
        return RealKfd(name.index)
    options = name.options
    if options.get("check", "pages") != "pages":
        raise UsageError(f"device {text!r}: check=bytes is not there yet, use check=pages")
    vram, schedule = options.get("vram"), options.get("schedule", 0)
    return EmulatedKfd(
        name.target,
        name.count,
        vram=None if vram is None else int(vram),
        schedule=int(schedule),
        name=text,
    )

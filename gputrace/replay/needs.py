"""What a trace needs of a device, compared with what the device has, before anything is done."""

from collections import Counter
from collections.abc import Iterator

from gputrace.devices.emulated import EmulatedKfd
from gputrace.families import by_target_version
from gputrace.formats import drm
from gputrace.formats.ioctl import RECORDS, AllocFlag, AllocMemoryOfGpu
from gputrace.kfd.port import Kfd
from gputrace.trace import events
from gputrace.trace.source import Source


def reasons(source: Source, device: Kfd) -> list[str]:
    """Return why a trace cannot be replayed on a device: every reason, one line each."""
    found: Counter[str] = Counter()
    for _, event in source.numbered():
        match event:
            case events.Header():
                found.update(_header(event, device))
            case events.Ioctl():
                found.update(_call(event, device))
            case events.Unsupported():
                found[f"{event.what}: {event.reason}"] += 1
            case events.Lost() if event.restored:
                found[f"lost with a damaged block: {event.text}"] += 1
            case events.Checkpoint() if not isinstance(device, EmulatedKfd):
                found[f"it begins in the middle of a run, which {device.name} cannot"] += 1
            case events.Checkpoint(complete=False):
                found[f"the checkpoint that it begins with is not complete: {event.text}"] += 1
            case events.Map(target=target) if target != "kfd" and not target.startswith("fd:"):
                found[f"a mapping of {target}"] += 1
    return [text if count == 1 else f"{text} ({count} times)" for text, count in found.items()]


def _header(header: events.Header, device: Kfd) -> Iterator[str]:
    gpus = device.topology.gpus
    if not gpus:
        yield f"{device.name} has no GPU"
        return
    target = by_target_version(gpus[0]["gfx_target_version"]).name
    if header.family and header.family != target:
        yield (
            f"it was recorded on {header.family}, whose packets and code {target} does not take; "
            "replay on another target is not there yet"
        )
    needed = header.device.get("gpus", 1)
    if isinstance(needed, int) and needed > len(gpus):
        yield f"it was recorded on {needed} GPUs, {device.name} has {len(gpus)}"


def _call(event: events.Ioctl, device: Kfd) -> Iterator[str]:
    if event.target != "kfd" and event.request & 0xFF in drm.QUESTIONS:
        return  # it changes nothing that a GPU could see
    if event.target != "kfd":
        yield f"the call {event.request & 0xFF:#x} of a render node"
    elif event.record not in RECORDS:
        yield f"the call {event.record or hex(event.request)}, which this version does not know"
    elif event.record == "AllocMemoryOfGpu" and not event.errno:
        made = AllocMemoryOfGpu.from_bytes(event.after)
        largest = max((node.memory for node in device.topology.gpus), default=0)
        if made.flags & AllocFlag.VRAM and made.size > largest:
            yield f"a buffer of {made.size:#x} bytes, more than the {largest:#x} of its memory"

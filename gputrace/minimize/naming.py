"""Names for a trace whose program gave none: buffers by their kind, kernels by their code."""

from collections.abc import Iterator

from gputrace.formats.descriptor import DESCRIPTOR_BYTES
from gputrace.formats.ioctl import AllocMemoryOfGpu, FreeMemoryOfGpu
from gputrace.kfd.labels import Label
from gputrace.replay.describe import Describer
from gputrace.submitted.image import Image
from gputrace.submitted.stream import Stream
from gputrace.trace.events import Event, Ioctl, Name
from gputrace.trace.source import Source

Named = tuple[int, Name]
"""A name, and the number of the event behind which it is known; empty where it is taken away."""
_DESCRIPTOR = ".kd"


def given_names(source: Source, end: int) -> Iterator[Named]:
    """Yield a name for each buffer and launched kernel, up to the event `end` (-1: all).

    They are those that `dump` shows, and known before the launch.
    """
    stream = Stream(Image(source))
    describer, known, buffers = Describer(stream.image), set[Name](), dict[int, Label]()
    for number, event in source.numbered():
        if 0 <= end <= number:
            return
        submission = stream.apply(number, event)
        describer.apply(event)
        yield from ((number, name) for name in _buffer(describer, event, buffers))
        for placed in submission.packets if submission is not None else ():
            launch = describer.launch(placed)
            for name in _kernel(describer, launch.entry) if launch is not None else ():
                if name not in known:
                    known.add(name)
                    yield number - 1, name


def _buffer(describer: Describer, event: Event, buffers: dict[int, Label]) -> Iterator[Name]:
    match event:
        case Ioctl(record="AllocMemoryOfGpu", errno=0):
            made = AllocMemoryOfGpu.from_bytes(event.after)
            label = describer.labels.at(made.va_addr)
            if label is not None:
                buffers[made.handle] = label
                yield Name(label.address, label.size, label.what, label.name)
        case Ioctl(record="FreeMemoryOfGpu", errno=0):
            label = buffers.pop(FreeMemoryOfGpu.from_bytes(event.before).handle, None)
            if label is not None:
                yield Name(label.address, label.size, label.what, "")


def _kernel(describer: Describer, entry: int) -> Iterator[Name]:
    loaded = describer.launches.code_around(entry)
    kernel = loaded.kernel(entry) if loaded is not None else None
    if loaded is None or loaded.code is None or kernel is None:
        return
    name, place = kernel.name, loaded.code.symbols.get(kernel.name)
    yield Name(entry, place.size if place is not None else 1, "kernel", name)
    descriptor = loaded.base + kernel.descriptor_address
    yield Name(descriptor, DESCRIPTOR_BYTES, "symbol", name + _DESCRIPTOR)

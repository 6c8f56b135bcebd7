"""Names for a trace whose program gave none: buffers by their kind, kernels by their code."""

from collections.abc import Iterator

from gputrace.formats.ioctl import AllocMemoryOfGpu
from gputrace.replay.describe import Describer
from gputrace.replay.stream import Stream
from gputrace.trace.events import Event, Ioctl, Name
from gputrace.trace.source import Source

Named = tuple[int, Name]
"""A name, and the number of the event behind which it is known."""


def given_names(source: Source, end: int) -> Iterator[Named]:
    """Yield a name for each buffer and launched kernel, up to the event `end` (-1: all).

    They are those that `dump` shows, and known before the launch.
    """
    stream = Stream(source)
    describer, known = Describer(stream.image), set[Name]()
    for number, event in source.numbered():
        if 0 <= end <= number:
            return
        submission = stream.apply(number, event)
        describer.apply(event)
        name = _buffer(describer, event)
        if name is not None:
            yield number, name
        for placed in submission.packets if submission is not None else ():
            launch = describer.launch(placed)
            name = _kernel(describer, launch.entry) if launch is not None else None
            if name is not None and name not in known:
                known.add(name)
                yield number - 1, name


def _buffer(describer: Describer, event: Event) -> Name | None:
    if not isinstance(event, Ioctl) or event.record != "AllocMemoryOfGpu" or event.errno:
        return None
    label = describer.labels.at(AllocMemoryOfGpu.from_bytes(event.after).va_addr)
    return Name(label.address, label.size, label.what, label.name) if label is not None else None


def _kernel(describer: Describer, entry: int) -> Name | None:
    loaded = describer.launches.code_around(entry)
    kernel = loaded.kernel(entry) if loaded is not None else None
    if loaded is None or loaded.code is None or kernel is None:
        return None
    place = loaded.code.symbols.get(kernel.name)
    return Name(entry, place.size if place is not None else 1, "kernel", kernel.name)

"""Stores of the program's other threads that are found only after the device has worked."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from gputrace.capture.memory import Store

LATE = "threads stored while the device worked: the steps of their stores are upper bounds"
"""What a trace says once when that has happened."""


@dataclass(slots=True)
class LateStores:
    """What was found at once: `cpu` by threads, `unknown` by threads or by the GPU."""

    cpu: list[Store] = field(default_factory=list)
    unknown: list[Store] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.cpu or self.unknown)


def copies(found: Iterable[Store]) -> Iterable[Store]:
    """Yield stores with bytes of their own: a view is good until memory is looked at again."""
    for address, data in found:
        yield address, memoryview(bytes(data))

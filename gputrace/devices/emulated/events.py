"""The events of a process, as the kernel keeps them.

Source: Linux drivers/gpu/drm/amd/amdkfd/kfd_events.c. A signal event owns the slot of the event
page whose index is its id; the GPU writes the slot and interrupts, and the kernel looks which
slots changed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from errno import EINVAL, ENOSPC

from gputrace.errors import KfdError
from gputrace.formats.ioctl import (
    EVENT_PAGE_BYTES,
    EVENT_SLOTS,
    FIRST_NONSIGNAL_EVENT,
    UNSIGNALLED,
    EventType,
    HwExceptionData,
    MemoryExceptionData,
    WaitResult,
)

_SLOTTED = (EventType.SIGNAL, EventType.DEBUG_EVENT)


@dataclass(eq=False, slots=True)
class Event:
    """One event; `age` counts how often it was set."""

    event_id: int
    kind: int
    auto_reset: bool
    signalled: bool = False
    age: int = 1
    destroyed: bool = False
    data: MemoryExceptionData | HwExceptionData | None = None
    waiters: list["Waiter"] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Waiter:
    """One event of one wait."""

    event: Event
    ageing: bool
    activated: bool = False


class Wait:
    """A WAIT_EVENTS call under way."""

    def __init__(self, waiters: Sequence[Waiter], wait_for_all: bool) -> None:
        self.waiters, self.wait_for_all = tuple(waiters), wait_for_all

    @property
    def result(self) -> WaitResult | None:
        """How the wait ended, or None while it goes on."""
        if any(waiter.event.destroyed for waiter in self.waiters):
            return WaitResult.FAIL
        active = sum(waiter.activated for waiter in self.waiters)
        enough = len(self.waiters) if self.wait_for_all else min(1, len(self.waiters))
        return WaitResult.COMPLETE if active >= enough else None

    def leave(self) -> None:
        """Stop waiting."""
        for waiter in self.waiters:
            if waiter in waiter.event.waiters:
                waiter.event.waiters.remove(waiter)


class EventTable:
    """All events of the process and the page that their slots lie in."""

    def __init__(self) -> None:
        self.page: memoryview | None = None
        self._events: dict[int, Event] = {}
        self._next_other = FIRST_NONSIGNAL_EVENT

    def adopt_page(self, page: memoryview) -> None:
        """Take the event page: `page` is its bytes. Every slot becomes unsignalled."""
        if self.page is not None:
            raise KfdError("CREATE_EVENT", EINVAL, {}, "the event page is set already")
        if len(page) < EVENT_PAGE_BYTES:
            reason = f"the event page has {len(page)} bytes, {EVENT_PAGE_BYTES} are needed"
            raise KfdError("CREATE_EVENT", EINVAL, {}, reason)
        self.page = page[:EVENT_PAGE_BYTES].cast("Q")
        for slot in range(EVENT_SLOTS):
            self.page[slot] = UNSIGNALLED

    def create(self, kind: int, auto_reset: bool) -> Event:
        """Make an event. A signal event takes the lowest free slot from 1 on."""
        if kind in _SLOTTED:
            event_id = next((n for n in range(1, EVENT_SLOTS) if n not in self._events), 0)
            if not event_id:
                raise KfdError("CREATE_EVENT", ENOSPC, {"event_type": kind}, "all slots are used")
            assert self.page is not None
            self.page[event_id] = UNSIGNALLED
        else:
            event_id, self._next_other = self._next_other, self._next_other + 1
        event = self._events[event_id] = Event(event_id, kind, auto_reset)
        return event

    def find(self, event_id: int, ioctl: str) -> Event:
        """Return an event, or raise what the kernel answers for an id that it does not know."""
        event = self._events.get(event_id)
        if event is None:
            raise KfdError(ioctl, EINVAL, {"event_id": event_id}, "no such event")
        return event

    def destroy(self, event_id: int) -> None:
        """Forget an event; who waits for it fails."""
        event = self.find(event_id, "DESTROY_EVENT")
        event.destroyed = True
        del self._events[event_id]

    def set_by_cpu(self, event_id: int) -> None:
        """Set a signal event on behalf of the client."""
        self._of_cpu(event_id, "SET_EVENT")
        self.set(self._events[event_id])

    def reset_by_cpu(self, event_id: int) -> None:
        """Take a signal back on behalf of the client."""
        self._of_cpu(event_id, "RESET_EVENT").signalled = False

    def _of_cpu(self, event_id: int, ioctl: str) -> Event:
        event = self.find(event_id, ioctl)
        if event.kind != EventType.SIGNAL:
            raise KfdError(ioctl, EINVAL, {"event_id": event_id}, "not a signal event")
        return event

    def set(self, event: Event) -> None:
        """Signal an event; with auto_reset a waiter that is there consumes it."""
        event.signalled = not (event.auto_reset and event.waiters)
        event.age += 1
        for waiter in event.waiters:
            waiter.activated = True
        event.waiters.clear()

    def interrupt(self, context: int) -> list[int]:
        """Take an interrupt from the GPU; return the events that it set.

        A context that names a written slot sets that event; any other makes the kernel look at
        every slot.
        """
        if self.page is None:
            return []
        named = self._events.get(context)
        if named is not None and named.kind in _SLOTTED and self.page[context] != UNSIGNALLED:
            written: Iterable[Event] = (named,)
        else:
            written = (
                event
                for event_id, event in sorted(self._events.items())
                if event_id < EVENT_SLOTS and self.page[event_id] != UNSIGNALLED
            )
        found = list(written)
        for event in found:
            self.page[event.event_id] = UNSIGNALLED
            self.set(event)
        return [event.event_id for event in found]

    def exception(self, kind: EventType, data: MemoryExceptionData | HwExceptionData) -> None:
        """Set every event of an exception type with the data that its waiters get."""
        for event in self._events.values():
            if event.kind == kind:
                event.data = data
                self.set(event)

    def wait(self, wanted: Sequence[tuple[int, int]], wait_for_all: bool) -> Wait:
        """Begin to wait for (event id, last age) pairs; an age of 0 means that age is ignored."""
        events = [self.find(event_id, "WAIT_EVENTS") for event_id, _ in wanted]
        waiters = []
        for event, (_, age) in zip(events, wanted, strict=True):
            waiter = Waiter(event, ageing=bool(age) and event.kind == EventType.SIGNAL)
            waiter.activated = event.signalled
            event.signalled = event.signalled and not event.auto_reset
            if waiter.ageing and event.age != age:
                waiter.activated = True
            if not waiter.activated:
                event.waiters.append(waiter)
            waiters.append(waiter)
        return Wait(waiters, wait_for_all)

"""What is alive on a recorded device, as the events that would make it again."""

from bisect import bisect_left
from collections.abc import Iterable

from gputrace.formats import ioctl
from gputrace.formats.ioctl import RECORDS, AllocFlag
from gputrace.trace import events

_SETTINGS = {
    "SetMemoryPolicy", "SetScratchBackingVa", "SetTrapHandler", "RuntimeEnable", "SetXnackMode",
}
"""Calls whose effect lasts; of those not named here or below, none does."""

SCRATCH = "scratch of "
"""Begins the names that the driver core gives to scratch memory."""

Key = tuple[str | int, ...]


class _OnGpus:
    """The calls that map a buffer on GPUs and unmap it, without those that later ones undid."""

    def __init__(self) -> None:
        self.calls: dict[Key, tuple[bool, frozenset[int]]] = {}
        """Whether each maps, and the GPUs."""

    def add(self, key: Key, maps: bool, gpus: frozenset[int]) -> list[Key]:
        """Take a call; return the keys of those that are not needed any more."""
        before = self.calls | {key: (maps, gpus)}
        mapped_by: dict[int, Key] = {}
        for each, (maps, gpus) in before.items():
            for gpu in gpus:
                if maps:
                    mapped_by.setdefault(gpu, each)
                else:
                    mapped_by.pop(gpu, None)
        self.calls, mapped = {}, frozenset[int]()
        for each, (maps, gpus) in before.items():
            if maps and each in mapped_by.values():
                mapped |= gpus
            elif not maps and mapped & gpus:
                mapped -= gpus
            else:
                continue
            self.calls[each] = maps, gpus
        return [each for each in before if each not in self.calls]


class Live:
    """Follows events and keeps those without which later ones could not happen.

    In the order in which they came, which respects what needs what.
    """

    def __init__(self) -> None:
        self._kept: dict[Key, events.Event] = {}
        self._on_gpus: dict[int, _OnGpus] = {}  # by handle; of what was ever mapped there
        self._exports: dict[int, events.Ioctl] = {}  # by descriptor; what made the last such one
        self._count = 0

    def apply(self, event: events.Event) -> None:
        """Take an event into account."""
        match event:
            case events.Open():
                self._kept["open", event.target] = event
            case events.Reserve():
                self._kept["reserve", event.address] = event
            case events.Release():
                self._release(event)
            case events.Map():
                self._kept["map", event.address] = event
            case events.Unmap():
                self._kept.pop(("map", event.address), None)
            case events.Name():
                self._kept.pop(("name", event.address), None)
                if event.name:
                    self._kept["name", event.address] = event
            case events.QueueMap():
                self._kept["queue map", event.queue] = event
            case events.EventMap():
                self._kept["event map", event.event] = event
                if not event.live:
                    del self._kept["event map", event.event]
            case events.Ioctl() if not event.errno and event.target == "kfd":
                self._call(event)

    @property
    def wave_sync(self) -> bool:
        """Whether a queue has global wave sync."""
        made = [event for key, event in self._kept.items() if key[0] == "AllocQueueGws"]
        calls = (event for event in made if isinstance(event, events.Ioctl))
        return any(ioctl.AllocQueueGws.from_bytes(call.after).num_gws for call in calls)

    @property
    def orphaned(self) -> bool:
        """Whether memory is alive whose dma-buf was made of a buffer that is gone."""
        exports = (event for key, event in self._kept.items() if key[0] == "export")
        handles = [
            ioctl.ExportDmabuf.from_bytes(event.before).handle
            for event in exports
            if isinstance(event, events.Ioctl)
        ]
        return any(("alloc", handle) not in self._kept for handle in handles)

    def setup(self) -> list[events.Event]:
        """Return what makes everything again."""
        return list(self._kept.values())

    def unseen(self, seen: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return address and size of each allocation on a device that none of these touches.

        What a queue keeps for itself is left out, as it begins anew with the queue, and so is
        scratch memory, which has no meaning between two kernels, and what was never mapped on a
        GPU: nothing has written it.
        """
        ranges, kept, found = sorted(seen), set[int](), list[tuple[int, int]]()
        for event in self._kept.values():
            if isinstance(event, events.Ioctl) and event.record == "CreateQueue":
                queue = ioctl.CreateQueue.from_bytes(event.after)
                kept |= {queue.eop_buffer_address, queue.ctx_save_restore_address}
            elif isinstance(event, events.Name) and event.name.startswith(SCRATCH):
                kept.add(event.address)
        for event in self._kept.values():
            if not isinstance(event, events.Ioctl) or event.record != "AllocMemoryOfGpu":
                continue
            made = ioctl.AllocMemoryOfGpu.from_bytes(event.after)
            at = bisect_left(ranges, (made.va_addr + made.size, 0)) - 1
            touched = at >= 0 and made.va_addr < sum(ranges[at])
            own = made.flags & (AllocFlag.VRAM | AllocFlag.GTT)
            if own and not touched and made.va_addr not in kept and made.handle in self._on_gpus:
                found.append((made.va_addr, made.size))
        return found

    def _release(self, event: events.Release) -> None:
        self._kept.pop(("reserve", event.address), None)
        inside = range(event.address, event.address + event.size)
        for key in [key for key in self._kept if key[0] == "map" and key[1] in inside]:
            del self._kept[key]

    def _call(self, event: events.Ioctl) -> None:
        layout = RECORDS.get(event.record)
        if layout is None:
            return
        answer = layout.from_bytes(event.after)
        match answer:
            case ioctl.AllocMemoryOfGpu():
                self._kept["alloc", answer.handle] = event
            case ioctl.ExportDmabuf():
                self._exports[answer.dmabuf_fd] = event
            case ioctl.ImportDmabuf():
                # The descriptor may have been closed since, and its number used again.
                if answer.dmabuf_fd in self._exports:
                    self._kept["export", answer.handle] = self._exports[answer.dmabuf_fd]
                self._kept["alloc", answer.handle] = event
            case ioctl.MapMemoryToGpu() | ioctl.UnmapMemoryFromGpu():
                self._map_on_gpus(answer, event)
            case ioctl.FreeMemoryOfGpu():
                self._drop_memory(answer.handle)
            case ioctl.CreateQueue():
                self._kept["queue", answer.queue_id] = event
            case ioctl.DestroyQueue():
                for what in ("queue", "queue map", "UpdateQueue", "SetCuMask", "AllocQueueGws"):
                    self._kept.pop((what, answer.queue_id), None)
            case ioctl.UpdateQueue() | ioctl.SetCuMask() | ioctl.AllocQueueGws():
                self._replace((event.record, answer.queue_id), event)
            case ioctl.CreateEvent():
                self._kept["event", answer.event_id] = event
            case ioctl.SetEvent() | ioctl.ResetEvent():
                self._replace(("event state", answer.event_id), event)
            case ioctl.DestroyEvent():
                for what in ("event", "event state"):
                    self._kept.pop((what, answer.event_id), None)
            case ioctl.AcquireVm():
                self._kept.setdefault((event.record, answer.gpu_id), event)  # others need it
            case _ if event.record in _SETTINGS:
                self._replace((event.record, getattr(answer, "gpu_id", 0)), event)

    def _replace(self, key: Key, event: events.Event) -> None:
        # The last one counts, and comes after what has come since the one before.
        self._kept.pop(key, None)
        self._kept[key] = event

    def _drop_memory(self, handle: int) -> None:
        for what in ("alloc", "export"):
            self._kept.pop((what, handle), None)
        gone = self._on_gpus.pop(handle, None)
        for key in gone.calls if gone is not None else ():
            del self._kept[key]

    def _map_on_gpus(
        self, answer: ioctl.MapMemoryToGpu | ioctl.UnmapMemoryFromGpu, event: events.Ioctl
    ) -> None:
        self._count += 1
        key = "on gpus", answer.handle, self._count
        self._kept[key] = event
        calls = self._on_gpus.setdefault(answer.handle, _OnGpus())
        maps = isinstance(answer, ioctl.MapMemoryToGpu)
        for old in calls.add(key, maps, _gpus(event)):
            del self._kept[old]


def _gpus(event: events.Ioctl) -> frozenset[int]:
    # The ids of the GPUs that a call maps a buffer on, or unmaps it from.
    listed = next((p.before for p in event.payloads if p.field == "device_ids_array_ptr"), b"")
    done = ioctl.MapMemoryToGpu.from_bytes(event.before).n_success  # both have it there
    places = range(4 * done, len(listed), 4)
    return frozenset(int.from_bytes(listed[at : at + 4], "little") for at in places)

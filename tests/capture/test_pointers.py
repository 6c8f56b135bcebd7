"""What stands behind the pointers of an ioctl is read by its count, and within bounds."""

import pytest

from gputrace.bits import Record
from gputrace.capture.pointers import read_pointed
from gputrace.formats.ioctl import (
    CreateEvent,
    GetProcessAperturesNew,
    MapMemoryToGpu,
    SetCuMask,
    WaitEvents,
)

MEBIBYTE = 1 << 20


def asked(record: Record, access: str = "r") -> dict[str, tuple[int, int]]:
    def read(address: int, size: int) -> bytes:
        asked_for.append((address, size))
        return bytes(min(size, 8))

    asked_for: list[tuple[int, int]] = []
    found = read_pointed(record, access, read)  # type: ignore[arg-type]
    return dict(zip(found, asked_for, strict=True))


def test_as_much_is_read_as_the_call_says() -> None:
    made = MapMemoryToGpu(handle=1, device_ids_array_ptr=0x1000, n_devices=3)
    assert asked(made) == {"device_ids_array_ptr": (0x1000, 12)}
    mask = SetCuMask(queue_id=0, num_cu_mask=64, cu_mask_ptr=0x3000)
    assert asked(mask) == {"cu_mask_ptr": (0x3000, 8)}
    # 56 bytes for each node: struct kfd_process_device_apertures.
    told = GetProcessAperturesNew(kfd_process_device_apertures_ptr=0x2000, num_of_nodes=2)
    assert asked(told, "w") == {"kfd_process_device_apertures_ptr": (0x2000, 112)}
    assert asked(told, "r") == {}


@pytest.mark.parametrize("count", [0xFFFF_FFFF, MEBIBYTE // 4 + 1])
def test_a_count_that_no_call_has_reads_no_more_than_the_limit(count: int) -> None:
    made = MapMemoryToGpu(handle=1, device_ids_array_ptr=0x1000, n_devices=count)
    assert asked(made) == {"device_ids_array_ptr": (0x1000, MEBIBYTE)}
    wait = WaitEvents(events_ptr=0x1000, num_events=count)
    assert asked(wait) == {"events_ptr": (0x1000, MEBIBYTE)}


@pytest.mark.parametrize(
    "record",
    [MapMemoryToGpu(handle=1, device_ids_array_ptr=0, n_devices=3),
     MapMemoryToGpu(handle=1, device_ids_array_ptr=0x1000, n_devices=0),
     CreateEvent(event_type=0)],
)  # fmt: skip
def test_nothing_is_read_where_nothing_is(record: Record) -> None:
    assert asked(record) == {}

"""The memory ioctls refuse what the kernel refuses, with its errno."""

from errno import EBUSY, EINVAL, ENOMEM, EPERM

import pytest

from gputrace.errors import KfdError
from gputrace.formats.ioctl import AllocFlag, CreateEvent, EventType, FreeMemoryOfGpu

VRAM = AllocFlag.VRAM | AllocFlag.WRITABLE


def refused(bench, reason, call, *arguments):
    with pytest.raises(KfdError, match=reason) as caught:
        call(*arguments)
    return caught.value.errno


def test_what_is_mapped_is_not_freed(bench):
    record = bench.allocate(4096)
    bench.map_gpu(record.handle)
    free = FreeMemoryOfGpu(handle=record.handle)
    assert refused(bench, "still mapped", bench.kfd.ioctl, free) == EBUSY
    bench.unmap_gpu(record.handle)
    bench.kfd.ioctl(free)
    assert refused(bench, "no such buffer", bench.kfd.ioctl, free) == EINVAL


def test_memory_ends_where_the_device_has_no_more(make_bench):
    bench = make_bench(vram=1 << 20)
    first = bench.allocate(1 << 19, VRAM)
    assert refused(bench, "of VRAM are left", bench.allocate, 1 << 20, VRAM) == ENOMEM
    bench.allocate(1 << 19, VRAM)
    assert refused(bench, "of VRAM are left", bench.allocate, 4096, VRAM) == ENOMEM
    bench.kfd.ioctl(FreeMemoryOfGpu(handle=first.handle))
    bench.allocate(1 << 19, VRAM)


def test_two_buffers_are_not_mapped_at_one_address(bench):
    first = bench.allocate(8192)
    bench.next = first.va_addr + 4096
    second = bench.allocate(4096)
    bench.map_gpu(first.handle)
    assert refused(bench, "mapped at these addresses", bench.map_gpu, second.handle) == EINVAL


def test_the_event_page_stays(bench):
    page = bench.allocate(32768)
    bench.map_gpu(page.handle)
    bench.kfd.ioctl(CreateEvent(event_page_offset=page.handle, event_type=EventType.SIGNAL))
    bench.unmap_gpu(page.handle)
    free = FreeMemoryOfGpu(handle=page.handle)
    assert refused(bench, "event page", bench.kfd.ioctl, free) == EPERM

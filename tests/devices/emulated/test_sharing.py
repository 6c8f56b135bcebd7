"""dma-bufs: memory with several handles; and compute unit masks."""

import ctypes
from errno import EBADF, EFAULT, EINVAL

import pytest

from gputrace.errors import KfdError
from gputrace.formats import pm4
from gputrace.formats.ioctl import (
    AllocFlag,
    ExportDmabuf,
    FreeMemoryOfGpu,
    GetDmabufInfo,
    ImportDmabuf,
    SetCuMask,
)
from tests.devices.emulated.test_dispatch import S_ENDPGM, program


@pytest.fixture
def shared(bench):
    """A buffer, its record, and a dma-buf of it."""
    record = bench.allocate(8192)
    bench.map_gpu(record.handle)
    answer = bench.kfd.ioctl(ExportDmabuf(handle=record.handle))
    return record, answer.dmabuf_fd


def imported(bench, descriptor):
    record = bench.kfd.ioctl(
        ImportDmabuf(va_addr=bench.next, gpu_id=bench.gpu_id, dmabuf_fd=descriptor)
    )
    bench.next += 1 << 16
    bench.map_gpu(record.handle)
    return record


def test_two_addresses_show_the_same_bytes(bench, shared):
    _, descriptor = shared
    second = imported(bench, descriptor)
    mapping = bench.kfd.map(fd=descriptor, offset=4096, size=4096)
    ring = bench.queue()
    ring.put(pm4.WriteData(address=second.va_addr + 4096, data=(7,)))
    bench.run()
    assert mapping.view[0] == 7
    info = bench.kfd.ioctl(GetDmabufInfo(dmabuf_fd=descriptor))
    assert (info.size, info.gpu_id, info.flags) == (8192, bench.gpu_id, AllocFlag.GTT)


@pytest.mark.parametrize(("start", "size"), [(8192, 4096), (4096, 4096), (0, 12288), (1 << 40, 1)])
def test_only_whole_buffers_can_be_mapped_at_a_render_node(bench, start, size):
    # A mapping beyond the file of all memory would end the process at the first touch.
    record = bench.allocate(8192)
    with pytest.raises(KfdError, match="no buffer of that size is there") as caught:
        bench.kfd.map(fd=bench.fd, offset=record.mmap_offset + start, size=size)
    assert caught.value.errno == EINVAL
    assert bench.kfd.map(fd=bench.fd, offset=record.mmap_offset, size=4096).size == 4096
    bench.kfd.ioctl(FreeMemoryOfGpu(handle=record.handle))
    with pytest.raises(KfdError, match="no buffer of that size is there"):
        bench.kfd.map(fd=bench.fd, offset=record.mmap_offset, size=4096)


def test_memory_outlives_the_handle_that_made_it(bench, shared):
    first, descriptor = shared
    second = imported(bench, descriptor)
    bench.unmap_gpu(first.handle)
    bench.kfd.ioctl(FreeMemoryOfGpu(handle=first.handle))
    mapping = bench.kfd.map(fd=descriptor, offset=0, size=8192)
    mapping.view[0] = 5
    ring, data = bench.queue(), bench.memory(4096)
    ring.put(pm4.DmaData(source=second.va_addr, destination=data.address, byte_count=4))
    bench.run()
    assert data.view[0] == 5


def test_what_is_no_dmabuf_is_refused(bench, shared):
    record, descriptor = shared
    for call, code in (
        (GetDmabufInfo(dmabuf_fd=bench.fd), EBADF),
        (ExportDmabuf(handle=record.handle + 100), EINVAL),
        (ImportDmabuf(va_addr=12345, gpu_id=bench.gpu_id, dmabuf_fd=descriptor), EINVAL),
    ):
        with pytest.raises(KfdError) as refused:
            bench.kfd.ioctl(call)
        assert refused.value.errno == code
    with pytest.raises(KfdError):
        bench.kfd.map(fd=descriptor, offset=4096, size=8192)


def mask(bench, queue_id, value, bits=64):
    space = ctypes.create_string_buffer(value.to_bytes(bits // 8, "little"), bits // 8)
    pointer = ctypes.addressof(space)
    return bench.kfd.ioctl(SetCuMask(queue_id=queue_id, num_cu_mask=bits, cu_mask_ptr=pointer))


def test_a_mask_without_units_holds_waves_for_ever(bench):
    code, ring, data = bench.memory(4096), bench.queue(), bench.memory(4096)
    code.view[:4] = S_ENDPGM["gfx1100"].to_bytes(4, "little")
    mask(bench, 0, 0)
    ring.put(
        *program(bench, code.address),
        pm4.DispatchDirect(dim_x=1, initiator=0x8005),
        pm4.ReleaseMemGfx11(
            address=data.address, data=1, data_sel=pm4.ReleaseData.LOW_32
        ),
    )
    bench.run()
    (stall,) = bench.kfd.stalls()
    assert (stall.kind, "leaves no unit" in stall.text) == ("never", True)
    mask(bench, 0, 3)
    bench.run()
    assert data.view[0] == 1


@pytest.mark.parametrize(
    ("queue_id", "value", "bits", "code"),
    [(0, 1, 32, EINVAL), (0, 3, 24, EINVAL), (9, 3, 32, EFAULT)],
)
def test_a_mask_that_cannot_be_is_refused(bench, queue_id, value, bits, code):
    bench.queue()
    with pytest.raises(KfdError) as refused:
        mask(bench, queue_id, value, bits)
    assert refused.value.errno == code

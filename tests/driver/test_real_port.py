"""The driver on the kernel's port, whose system calls an emulated KFD answers.

Everything between the driver and the system calls is the real thing: request words, raw argument
bytes, errno, mappings at fixed addresses over reservations, doorbells as stores to memory.
"""

import errno
import fcntl
import os
from pathlib import Path

import numpy as np
import pytest

from gputrace import driver
from gputrace.devices.emulated import EmulatedKfd
from gputrace.devices.kfd import RealKfd
from gputrace.errors import KfdError, UsageError
from gputrace.families import FAMILIES
from gputrace.formats.aql import KernelDispatch
from gputrace.formats.ioctl import by_request
from gputrace.kfd import host
from tests.driver.test_launch import built


class Kernel:
    """Answers for /dev/kfd; every third call is interrupted once."""

    def __init__(self, target, monkeypatch, tmp_path):
        self.emulated = EmulatedKfd(target)
        self.emulated.open()
        (tmp_path / "dri").mkdir()
        self.node = tmp_path / "kfd"
        self.node.write_bytes(b"")
        self.calls = self.interrupted = 0
        self.faults = {}
        for node in self.emulated.topology.gpus:
            path = tmp_path / "dri" / f"renderD{node.render_minor}"
            os.symlink(f"/proc/self/fd/{self.emulated.open_render(node.render_minor)}", path)
        self.map_shared = host.map_shared
        self.files = {}  # what a process keeps for life, but not from one test to the next
        monkeypatch.setattr("gputrace.devices.kfd._Shared.files", self.files)
        monkeypatch.setattr("gputrace.driver.session._event_pages", {})
        monkeypatch.setattr(fcntl, "ioctl", self.ioctl)
        monkeypatch.setattr(host, "map_shared", self.mmap)
        monkeypatch.setattr("gputrace.devices.kfd.read_topology",
                            lambda where: self.emulated.topology)  # fmt: skip

    def ioctl(self, fd, request, data, mutate):
        assert os.readlink(f"/proc/self/fd/{fd}") == str(self.node)
        assert mutate
        self.calls += 1
        if self.calls % 3 == 0:
            self.interrupted += 1
            raise OSError(errno.EINTR, "interrupted")
        found = by_request(request)
        record = found.record.from_bytes(data)
        name = type(record).__name__
        if name == "AcquireVm":  # the same file, another descriptor of it
            own = self.emulated.open_render(self.emulated.topology.gpus[0].render_minor)
            assert os.path.samestat(os.fstat(record.drm_fd), os.fstat(own))
            record = record.replace(drm_fd=own)
        if name in self.faults:
            raise OSError(self.faults[name], "refused")
        try:
            answer = self.emulated.ioctl(record)
        except KfdError as problem:
            raise OSError(problem.errno, "refused") from None
        data[:] = answer.to_bytes()
        return 0

    def mmap(self, fd, offset, size, address, protection, *, near=0):
        if os.readlink(f"/proc/self/fd/{fd}") != str(self.node):
            return self.map_shared(fd, offset, size, address, protection, near=near)
        place = self.emulated._kfd_offset(self.emulated._process, offset, size)
        return self.map_shared(self.emulated._process.pool.fd, place, size, address, protection)


@pytest.fixture(params=FAMILIES)
def kernel(request, monkeypatch, tmp_path):
    made = Kernel(request.param, monkeypatch, tmp_path)
    yield made
    for descriptor in made.files.values():
        os.close(descriptor)
    made.emulated.close()


@pytest.fixture
def port(kernel, tmp_path):
    return RealKfd(0, tmp_path, Path("/nowhere"))


def test_everything_goes_through_the_system_calls(kernel, port):
    with driver.open_kfd(port) as device:
        kernel_ = device.load(built(device.target))["saxpy"]
        x, y = device.alloc(256, name="x"), device.alloc(256, "userptr")
        x.write(np.arange(64, dtype=np.float32))
        for kind in ("pm4", "aql"):
            queue = device.compute_queue(kind)
            queue.launch(kernel_, 1, 64, [y, x, 0.5, 64]).wait(10.0)
        copies, back = device.copy_queue(), device.alloc(256, "gtt")
        copies.copy(back, y)
        copies.signal().wait(10.0)
        assert np.array_equal(back.view(np.float32), np.arange(64, dtype=np.float32))
    assert kernel.interrupted > 10
    assert not kernel.emulated._process.queues
    assert len(kernel.emulated._process.buffers) <= 1  # the event page goes with the process


def test_a_fault_comes_as_an_event_and_names_what_was_going_on(kernel, port):
    with driver.open_kfd(port) as device:
        queue, buffer = device.compute_queue("pm4"), device.alloc(4096, name="gone")
        queue.write(buffer, b"abcd")
        buffer.free()
        with pytest.raises(driver.DeviceFault, match="page fault") as caught:
            queue.signal().wait(10.0)
        assert caught.value.address == buffer.address
        assert "compute 0" in str(caught.value)


def test_an_error_that_the_queue_itself_tells_ends_a_wait(kernel, port, monkeypatch):
    # Where KFD says nothing, the packet processor's word in the queue's own signal is all.
    monkeypatch.setattr("gputrace.driver.device.DRAIN_SECONDS", 0.02)
    with driver.open_kfd(port) as device:
        queue = device.compute_queue("aql")
        empty = KernelDispatch(
            dimensions=1, workgroup_size_x=64, grid_size_x=0, kernel_object=4096
        )
        queue.submit([empty], "nonsense")
        with pytest.raises(driver.DeviceFault, match=r"stopped: INVALID_DIMENSIONS; at nonsense"):
            queue.signal().wait(10.0)


def test_a_wait_that_never_ends_is_a_timeout_and_no_proof(port, monkeypatch):
    monkeypatch.setattr("gputrace.driver.device.DRAIN_SECONDS", 0.02)
    with driver.open_kfd(port) as device:
        queue, gate = device.compute_queue("pm4"), device.timeline("gate")
        queue.wait(gate.at(1))
        queue.write(device.alloc(4096), b"abcd")
        with pytest.raises(driver.WaitTimeout, match="at wait for") as caught:
            queue.signal().wait(0.05)
        assert not isinstance(caught.value, driver.ProvenHang)


def test_an_errno_of_the_kernel_reaches_the_caller_with_the_arguments(kernel, port):
    with driver.open_kfd(port) as device:
        kernel.faults["AllocMemoryOfGpu"] = errno.ENOMEM
        with pytest.raises(KfdError, match=r"ALLOC_MEMORY_OF_GPU\(.*size=0x1000") as caught:
            device.alloc(4096)
        assert caught.value.errno == errno.ENOMEM
        kernel.faults.clear()
        assert device.alloc(4096).size == 4096


def test_a_forked_child_is_told_to_open_for_itself(port):
    with driver.open_kfd(port) as device:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                device.alloc(4096)
                os.write(writer, b"went through")
            except UsageError as problem:
                os.write(writer, str(problem).encode())
            finally:
                os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        with os.fdopen(reader, "rb") as pipe:
            assert b"open the device after the fork" in pipe.read()

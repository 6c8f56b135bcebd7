"""The real KFD's port, against files and a stand-in for the ioctl system call."""

import errno
import fcntl
import os
from pathlib import Path

import numpy as np
import pytest

from gputrace.devices.kfd import RealKfd
from gputrace.errors import KfdError, UsageError
from gputrace.formats.ioctl import AllocMemoryOfGpu, GetVersion
from gputrace.kfd.port import Progress, Protection


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """A /dev and a sysfs with nothing but files in them."""
    devices, sysfs = tmp_path / "dev", tmp_path / "sys"
    (devices / "dri").mkdir(parents=True)
    (devices / "kfd").write_bytes(bytes(8192))
    (devices / "dri" / "renderD128").write_bytes(bytes(8192))
    (sysfs / "nodes" / "0").mkdir(parents=True)
    (sysfs / "generation_id").write_text("1\n")
    (sysfs / "system_properties").write_text("platform_id 7\n")
    (sysfs / "nodes" / "0" / "gpu_id").write_text("4711\n")
    (sysfs / "nodes" / "0" / "properties").write_text("gfx_target_version 90402\n")
    return devices, sysfs


@pytest.fixture
def kfd(roots):
    device = RealKfd(0, *roots)
    device.open()
    yield device
    device.close()


def test_topology_comes_from_sysfs(kfd):
    assert [node.target for node in kfd.topology.gpus] == ["gfx942"]
    assert kfd.name == "kfd:0"


@pytest.mark.parametrize(
    ("files", "driver"),
    [({"version": "6.10.5\n"}, "amdgpu 6.10.5"),
     ({"version": "6.10.5\n", "srcversion": "0123ABC\n"}, "amdgpu 6.10.5"),
     ({"srcversion": "0123ABC\n"}, "amdgpu srcversion 0123ABC"), ({}, None)],
)  # fmt: skip
def test_versions_are_those_of_kernel_module_and_interface(
    roots, monkeypatch, tmp_path, files, driver
):
    module = tmp_path / "module" / "amdgpu"
    module.mkdir(parents=True)
    for name, text in files.items():
        (module / name).write_text(text)

    def ioctl(fd, request, data, mutate):
        data[:] = (1).to_bytes(4, "little") + (14).to_bytes(4, "little")

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    found = RealKfd(0, *roots, module).versions
    assert found.get("driver") == driver
    assert (found["kernel"], found["kfd"]) == (f"Linux {os.uname().release}", "1.14")


def test_versions_of_a_machine_without_the_device_are_those_of_its_kernel(tmp_path):
    missing = tmp_path / "missing"
    assert set(RealKfd(0, missing, missing, missing).versions) == {"kernel"}


def test_a_second_open_is_busy_and_close_may_be_repeated(kfd):
    with pytest.raises(KfdError) as caught:
        kfd.open()
    assert caught.value.errno == errno.EBUSY
    kfd.close()
    kfd.close()
    with pytest.raises(UsageError, match="not open"):
        kfd.ioctl(GetVersion())


def test_a_missing_node_is_named(tmp_path):
    with pytest.raises(KfdError, match=r"open\(path=.*kfd"):
        RealKfd(0, tmp_path, tmp_path).open()


def test_an_ioctl_is_called_again_after_signals(kfd, monkeypatch):
    calls = []

    def ioctl(fd, request, data, mutate):
        calls.append(request)
        if len(calls) < 4:
            raise OSError(errno.EINTR if len(calls) % 2 else errno.EAGAIN, "again")
        data[:] = (1).to_bytes(4, "little") + (17).to_bytes(4, "little")
        return 0

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    answer = kfd.ioctl(GetVersion())
    assert (answer.major_version, answer.minor_version) == (1, 17)
    assert calls == [0x80084B01] * 4


def test_an_error_carries_name_errno_and_fields(kfd, monkeypatch):
    def ioctl(fd, request, data, mutate):
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    with pytest.raises(KfdError, match=r"ALLOC_MEMORY_OF_GPU.*size=0x1000") as caught:
        kfd.ioctl(AllocMemoryOfGpu(va_addr=0x10000, size=4096, gpu_id=4711, flags=1))
    assert caught.value.errno == errno.ENOMEM


def test_a_file_refuses_the_ioctl_itself(kfd):
    with pytest.raises(KfdError) as caught:
        kfd.ioctl(GetVersion())
    assert caught.value.errno == errno.ENOTTY


def test_mapping_over_a_reservation_and_back(kfd, roots):
    descriptor = kfd.open_render(128)
    assert kfd.open_render(128) == descriptor
    address = kfd.reserve(8192)
    mapping = kfd.map(fd=descriptor, offset=4096, size=4096, address=address)
    assert mapping.address == address
    mapping.view[:4] = b"abcd"
    assert (roots[0] / "dri" / "renderD128").read_bytes()[4096:4100] == b"abcd"
    held = np.frombuffer(mapping.view, np.uint8)
    with pytest.raises(UsageError, match="in use"):
        kfd.unmap(mapping)
    assert held[0] == ord("a")
    del held
    kfd.unmap(mapping)
    with pytest.raises(KfdError):  # still reserved: nothing else may take it
        kfd.reserve(4096, address)
    kfd.release(address, 8192)
    assert kfd.reserve(8192, address) == address
    kfd.release(address, 8192)


def test_a_read_only_mapping_gives_a_read_only_view(kfd):
    mapping = kfd.map(fd="kfd", offset=0, size=4096, protection=Protection.READ)
    assert mapping.view.readonly
    kfd.unmap(mapping)
    kfd.release(mapping.address, 4096)


def test_a_doorbell_is_one_store_at_its_address(kfd):
    mapping = kfd.map(fd="kfd", offset=0, size=4096)
    kfd.doorbell(mapping.address + 8, 0x1122334455667788)
    assert bytes(mapping.view[8:16]) == bytes.fromhex("8877665544332211")
    kfd.doorbell(mapping.address + 16, 0xAABBCCDD, 32)
    assert bytes(mapping.view[16:24]) == bytes.fromhex("ddccbbaa00000000")
    kfd.unmap(mapping)
    kfd.release(mapping.address, 4096)


def test_idle_ends_at_its_deadline(kfd):
    assert kfd.idle(None) is Progress.ADVANCED
    assert kfd.idle(kfd.clock() - 1) is Progress.EXPIRED


def test_a_process_opens_each_node_once_and_keeps_it(roots):
    first, second = RealKfd(0, *roots), RealKfd(1, *roots)
    first.open()
    before = len(os.listdir("/proc/self/fd"))
    second.open()
    assert first.open_render(128) == second.open_render(128)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    first.close()
    second.close()
    third = RealKfd(0, *roots)
    third.open()
    third.open_render(128)
    third.close()
    assert len(os.listdir("/proc/self/fd")) == before + 1


def test_a_fork_is_refused_by_name(kfd):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            kfd.ioctl(GetVersion())
            os.write(writer, b"went through")
        except UsageError as problem:
            os.write(writer, str(problem).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as pipe:
        assert b"open the device after the fork" in pipe.read()

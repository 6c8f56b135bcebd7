"""The ioctl declarations against the kernel header: by its published figures, and by gcc."""

import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from gputrace.bits import Record
from gputrace.formats import drm, ioctl
from gputrace.formats.ioctl import AllocFlag, Direction, MmapOffset, MmapType

# Number, bytes, request word: read from the kernel header of interface 1.17 with pahole and cpp.
FIGURES = {
    "GET_VERSION": (0x01, 8, 0x80084B01),
    "CREATE_QUEUE": (0x02, 96, 0xC0604B02),
    "DESTROY_QUEUE": (0x03, 8, 0xC0084B03),
    "SET_MEMORY_POLICY": (0x04, 32, 0x40204B04),
    "GET_CLOCK_COUNTERS": (0x05, 40, 0xC0284B05),
    "GET_PROCESS_APERTURES": (0x06, 400, 0x81904B06),
    "UPDATE_QUEUE": (0x07, 24, 0x40184B07),
    "CREATE_EVENT": (0x08, 32, 0xC0204B08),
    "DESTROY_EVENT": (0x09, 8, 0x40084B09),
    "SET_EVENT": (0x0A, 8, 0x40084B0A),
    "RESET_EVENT": (0x0B, 8, 0x40084B0B),
    "WAIT_EVENTS": (0x0C, 24, 0xC0184B0C),
    "DBG_REGISTER_DEPRECATED": (0x0D, 8, 0x40084B0D),
    "DBG_UNREGISTER_DEPRECATED": (0x0E, 8, 0x40084B0E),
    "DBG_ADDRESS_WATCH_DEPRECATED": (0x0F, 16, 0x40104B0F),
    "DBG_WAVE_CONTROL_DEPRECATED": (0x10, 16, 0x40104B10),
    "SET_SCRATCH_BACKING_VA": (0x11, 16, 0xC0104B11),
    "GET_TILE_CONFIG": (0x12, 40, 0xC0284B12),
    "SET_TRAP_HANDLER": (0x13, 24, 0x40184B13),
    "GET_PROCESS_APERTURES_NEW": (0x14, 16, 0xC0104B14),
    "ACQUIRE_VM": (0x15, 8, 0x40084B15),
    "ALLOC_MEMORY_OF_GPU": (0x16, 40, 0xC0284B16),
    "FREE_MEMORY_OF_GPU": (0x17, 8, 0x40084B17),
    "MAP_MEMORY_TO_GPU": (0x18, 24, 0xC0184B18),
    "UNMAP_MEMORY_FROM_GPU": (0x19, 24, 0xC0184B19),
    "SET_CU_MASK": (0x1A, 16, 0x40104B1A),
    "GET_QUEUE_WAVE_STATE": (0x1B, 24, 0xC0184B1B),
    "GET_DMABUF_INFO": (0x1C, 32, 0xC0204B1C),
    "IMPORT_DMABUF": (0x1D, 24, 0xC0184B1D),
    "ALLOC_QUEUE_GWS": (0x1E, 16, 0xC0104B1E),
    "SMI_EVENTS": (0x1F, 8, 0xC0084B1F),
    "SVM": (0x20, 24, 0xC0184B20),
    "SET_XNACK_MODE": (0x21, 4, 0xC0044B21),
    "CRIU_OP": (0x22, 56, 0xC0384B22),
    "AVAILABLE_MEMORY": (0x23, 16, 0xC0104B23),
    "EXPORT_DMABUF": (0x24, 16, 0xC0104B24),
    "RUNTIME_ENABLE": (0x25, 16, 0xC0104B25),
    "DBG_TRAP": (0x26, 32, 0xC0204B26),
    "CREATE_PROCESS": (0x27, 0, 0x00004B27),
    "PROFILER": (0x28, 16, 0xC0104B28),
    "IPC_IMPORT_HANDLE": (0x80, 48, 0xC0304B80),
    "IPC_EXPORT_HANDLE": (0x81, 32, 0xC0204B81),
    "DBG_TRAP_DEPRECATED": (0x82, 40, 0xC0284B82),
    "CROSS_MEMORY_COPY": (0x83, 48, 0xC0304B83),
    "RLC_SPM": (0x84, 32, 0xC0204B84),
    "PC_SAMPLE": (0x85, 32, 0xC0204B85),
    "PROFILER_DKMS": (0x86, 40, 0xC0284B86),
}

HEADER = Path("/usr/include/linux/kfd_ioctl.h")
RECORDS = [
    value
    for value in vars(ioctl).values()
    if isinstance(value, type) and issubclass(value, Record) and value is not Record
]
# Nested unions and structs: what the C expression for a field of ours is, where names differ.
NESTED = {
    ("MemoryExceptionData", name): f"memory_exception_data.{path}"
    for name, path in {
        "NotPresent": "failure.NotPresent",
        "ReadOnly": "failure.ReadOnly",
        "NoExecute": "failure.NoExecute",
        "imprecise": "failure.imprecise",
        "va": "va",
        "gpu_id": "gpu_id",
        "ErrorType": "ErrorType",
    }.items()
} | {
    ("HwExceptionData", name): f"hw_exception_data.{name}"
    for name in ("reset_type", "reset_cause", "memory_lost", "gpu_id")
}
# Fields that cut a member of the struct further, or that newer headers only have.
NOT_MEMBERS = {"target_xcc", "payload_0", "payload_1", "payload_2"}
NEWER = {"sdma_engine_id", "metadata_ring_size", "misc_process_flag"}


@pytest.mark.parametrize("name", FIGURES)
def test_number_size_and_request_are_the_kernels(name: str) -> None:
    nr, size, request = FIGURES[name]
    declared = ioctl.IOCTLS[nr]
    assert (declared.name, declared.size, declared.request) == (name, size, request)
    assert ioctl.by_request(request) is declared
    assert ioctl.request_size(request) == size


def test_the_table_has_no_other_ioctl() -> None:
    assert {row.name for row in ioctl.IOCTLS.values()} == set(FIGURES)


def _struct(record: type[Record]) -> str:
    if record.__name__ in ("MemoryExceptionData", "HwExceptionData"):
        return "struct kfd_event_data"
    found = re.search(r"kfd_ioctl\.h (struct \w+)", record.SOURCE)
    return found[1] if found else ""


def _probe(header: str) -> str:
    lines = []
    for record in RECORDS:
        struct = _struct(record)
        if not struct or f"{struct} {{" not in header:
            continue
        lines.append(f'printf("size {record.__name__} %zu\\n", sizeof({struct}));')
        for field in record.FIELDS:
            name = field.name
            member = NESTED.get((record.__name__, name), name)
            if name in NOT_MEMBERS or (name in NEWER and not re.search(rf"\b{name};", header)):
                continue
            at = f"offsetof({struct}, {member}), sizeof((({struct} *)0)->{member})"
            lines.append(f'printf("field {record.__name__}.{name} %zu %zu\\n", {at});')
    for name in re.findall(r"#define (AMDKFD_IOC_\w+)", header):
        lines.append(f'printf("request {name[11:]} %lu 0\\n", (unsigned long){name});')
    for name, value in re.findall(r"#define KFD_IOC_ALLOC_MEM_FLAGS_(\w+)\s+\((.*)\)", header):
        number = value.replace("1 <<", "1u <<")
        lines.append(f'printf("flag {name} %u 0\\n", {number});')
    body = "\n".join(lines)
    return (
        f"#include <linux/kfd_ioctl.h>\n#include <stddef.h>\n#include <stdio.h>\n"
        f"int main(void) {{\n{body}\nreturn 0; }}\n"
    )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[int, ...]]:
    if not HEADER.exists():
        pytest.skip(f"{HEADER} is not installed (linux-libc-dev)")
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    folder = tmp_path_factory.mktemp("kfd")
    (folder / "probe.c").write_text(_probe(HEADER.read_text()))
    # The header wants drm.h of another package, but only for the fixed-width types.
    (folder / "drm").mkdir()
    (folder / "drm" / "drm.h").write_text("#include <linux/types.h>\n")
    subprocess.run(["gcc", "-I.", "-o", "probe", "probe.c"], cwd=folder, check=True)
    out = subprocess.run([folder / "probe"], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in out.splitlines()]
    return {(kind, name): tuple(map(int, values)) for kind, name, *values in rows}


def test_the_header_on_this_machine_agrees(
    compiled: dict[tuple[str, str], tuple[int, ...]],
) -> None:
    records = {record.__name__: record for record in RECORDS}
    seen = 0
    for (kind, name), values in compiled.items():
        if kind == "field":
            record, _, field_name = name.partition(".")
            field = records[record].BY_NAME[field_name]
            offset, size = values
            wide = field.width if field_name != "queue_percentage" else 32
            assert (field.lo, wide) == (offset * 8, size * 8), name
            seen += 1
        elif kind == "flag":
            assert AllocFlag[name] == values[0]
    assert seen > 100


def test_the_header_on_this_machine_has_the_same_sizes_and_requests(
    compiled: dict[tuple[str, str], tuple[int, ...]],
) -> None:
    declared = {row.name: row for row in ioctl.IOCTLS.values()}
    short = 88  # CREATE_QUEUE before interface 1.17
    for (kind, name), values in compiled.items():
        if kind == "size":
            size = getattr(ioctl, name).WORDS * 4
            assert values[0] == size or (name, values[0]) == ("CreateQueue", short)
        elif kind == "request":
            row = declared[name]
            assert values[0] in (row.request, row.request_for(short) if row.nr == 2 else -1), name


def test_a_request_carries_the_length_of_its_tail() -> None:
    svm = ioctl.Svm(
        start_addr=0x10000, size=0x1000, op=ioctl.SvmOp.SET_ATTR, nattr=2, attributes=(5, 1, 2, 7)
    )
    assert ioctl.request_of(svm) == 0xC0284B20
    assert ioctl.Svm.from_bytes(svm.to_bytes()) == svm
    with pytest.raises(ValueError, match="at most 16383 bytes"):
        ioctl.IOCTLS[0x20].request_for(1 << 14)


def test_other_request_words_are_no_ioctl_of_ours() -> None:
    assert ioctl.by_request(0xC0286416) is None  # a DRM request: type letter d
    assert ioctl.by_request(0xC0284B99) is None


def test_unsupported_ioctls_say_why() -> None:
    unsupported = {row.name for row in ioctl.IOCTLS.values() if row.unsupported}
    assert {"CRIU_OP", "DBG_TRAP", "CREATE_PROCESS", "PC_SAMPLE"} <= unsupported
    assert "CREATE_QUEUE" not in unsupported


def test_directions_are_those_of_the_request_words() -> None:
    assert ioctl.IOCTLS[0x01].direction is Direction.R
    assert ioctl.IOCTLS[0x27].direction is Direction.NONE


def test_event_data_has_one_size_for_all_types() -> None:
    assert {record.WORDS * 4 for record in ioctl.EVENT_DATA.values()} == {48}
    assert ioctl.EventData.WORDS * 4 == 48
    packed = ioctl.pack([ioctl.EventData(event_id=3), ioctl.EventData(event_id=4)])
    assert ioctl.SignalEventData.from_bytes(packed, 48).event_id == 4


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (MmapOffset(MmapType.DOORBELL, 0xFFFF, 0x18), 0xFFFF_C000_0000_0018),
        (MmapOffset(MmapType.EVENTS), 0x8000_0000_0000_0000),
        (MmapOffset(MmapType.MMIO, 1), 0x0000_4000_0000_0000),
    ],
)
def test_mmap_offsets_hold_type_gpu_and_bytes(offset: MmapOffset, value: int) -> None:
    assert offset.encode() == value
    assert MmapOffset.decode(value) == offset
    assert MmapOffset.decode(value - (1 << 64) if value >> 63 else value) == offset


def test_mmap_offset_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="16 bits"):
        MmapOffset(MmapType.MMIO, 0x10000).encode()
    with pytest.raises(ValueError, match="46 bits"):
        MmapOffset(MmapType.MMIO, 0, 1 << 46).encode()


def test_a_doorbell_offset_splits_at_the_process_slice() -> None:
    value = MmapOffset(MmapType.DOORBELL, 0x1234, 0x1008).encode()
    assert ioctl.doorbell_parts(value) == (value - 0x1008, 0x1008)


def test_exception_codes_count_from_one() -> None:
    assert ioctl.ExceptionCode.QUEUE_WAVE_ABORT.mask == 1
    assert ioctl.ExceptionCode.PROCESS_DEVICE_REMOVE.mask == 1 << 48


@pytest.mark.parametrize("module", [ioctl, drm])
def test_the_manual_says_what_every_field_means(module: ModuleType) -> None:
    records = [one for one in vars(module).values() if isinstance(one, type)]
    records = [one for one in records if issubclass(one, Record) and one is not Record]
    unsaid = [(one.__name__, f.name) for one in records for f in one.FIELDS if not f.meaning]
    assert len(records) > 2
    assert not unsaid

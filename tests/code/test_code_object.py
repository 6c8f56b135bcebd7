"""Code objects that clang made, read against pyelftools, and damaged ones."""

import random
import struct
from io import BytesIO
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from gputrace.code import CodeObject
from gputrace.errors import DecodeError, UsageError

DATA = Path(__file__).parent / "data"
TARGETS = ("gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1201")
OBJECTS = (*TARGETS, "gfx942-v4", "gfx11-generic-v6")


def stored(name: str) -> bytes:
    return (DATA / f"{name}.co").read_bytes()


@pytest.mark.parametrize("name", OBJECTS)
def test_segments_and_symbols_are_those_that_pyelftools_sees(name: str) -> None:
    parsed = CodeObject.parse(stored(name))
    witness = ELFFile(BytesIO(stored(name)))
    segments = [s for s in witness.iter_segments() if s["p_type"] == "PT_LOAD"]
    assert [(s.vaddr, s.memsize, s.data) for s in parsed.segments] == [
        (s["p_vaddr"], s["p_memsz"], s.data()) for s in segments
    ]
    names = {
        s.name: (s["st_value"], s["st_size"])
        for s in witness.get_section_by_name(".dynsym").iter_symbols()
        if s.name and s["st_shndx"] != "SHN_UNDEF"
    }
    assert {key: (parsed.symbols[key].address, parsed.symbols[key].size) for key in names} == names


@pytest.mark.parametrize("name", OBJECTS)
def test_kernels_have_their_descriptors_and_arguments(name: str) -> None:
    parsed = CodeObject.parse(stored(name))
    assert set(parsed.kernels) == {"saxpy", "through", "reverse", "spill"}
    saxpy = parsed.kernels["saxpy"]
    assert [(a.offset, a.size, a.value_kind) for a in saxpy.metadata.explicit_args] == [
        (0, 8, "global_buffer"),
        (8, 8, "global_buffer"),
        (16, 4, "by_value"),
        (20, 4, "by_value"),
    ]
    # Before V5 this kernel finds its group size in the dispatch packet.
    assert any(a.hidden for a in saxpy.metadata.args) == (parsed.abi >= 5)
    for kernel in parsed.kernels.values():
        assert kernel.entry_address == parsed.symbols[kernel.name].address
        assert kernel.descriptor.kernarg_size == kernel.metadata.kernarg_size
        assert kernel.descriptor.group_segment_fixed_size == kernel.metadata.group_size
        assert kernel.descriptor.private_segment_fixed_size == kernel.metadata.private_size
        wave = 32 if kernel.descriptor.enable_wavefront_size32 else 64
        assert kernel.metadata.wave_size == wave
    assert parsed.kernels["reverse"].metadata.group_size == 256
    assert parsed.kernels["reverse"].metadata.reqd_workgroup_size == (64, 1, 1)
    assert parsed.kernels["spill"].metadata.private_size >= 64


@pytest.mark.parametrize("name", TARGETS)
def test_the_target_is_the_compilers(name: str) -> None:
    parsed = CodeObject.parse(stored(name))
    assert (parsed.target, parsed.abi) == (name, 5)
    assert parsed.runs_on(name)
    assert not parsed.runs_on("gfx1031")


def test_features_tell_what_the_object_demands() -> None:
    assert CodeObject.parse(stored("gfx90a")).features == {"xnack": "off", "sramecc": "any"}
    assert CodeObject.parse(stored("gfx942")).features == {"xnack": "any", "sramecc": "any"}
    assert CodeObject.parse(stored("gfx1100")).features == {}


def test_older_and_newer_versions_and_generic_targets() -> None:
    assert CodeObject.parse(stored("gfx942-v4")).abi == 4
    generic = CodeObject.parse(stored("gfx11-generic-v6"))
    assert (generic.target, generic.abi) == ("gfx11-generic", 6)
    assert generic.runs_on("gfx1100")
    assert not generic.runs_on("gfx1201")


@pytest.mark.parametrize("name", OBJECTS)
def test_relocated_pointers_point_at_the_global(name: str) -> None:
    base = 0x7000_0000_0000
    parsed = CodeObject.parse(stored(name))
    image = parsed.image(base)
    assert len(image) == parsed.memory_size
    pointers, counter = parsed.symbols["pointers"].address, parsed.symbols["counter"].address
    assert struct.unpack_from("<QQ", image, pointers) == (base + counter,) * 2
    assert struct.unpack_from("<I", image, counter) == (7,)


def _relocations_at(data: bytes) -> int:
    section = ELFFile(BytesIO(data)).get_section_by_name(".rela.dyn")
    return int(section["sh_offset"])


def test_a_relocation_may_name_a_symbol_of_another_object() -> None:
    data = bytearray(stored("gfx942"))
    at = _relocations_at(data)
    offset, _, addend = struct.unpack_from("<QQq", data, at)
    # R_AMDGPU_ABS64 of symbol 0, which is the undefined one without a name.
    struct.pack_into("<QQq", data, at, offset, 3, 0x10)
    parsed = CodeObject.parse(bytes(data))
    with pytest.raises(UsageError, match="needs symbol '', which is missing"):
        parsed.image(0x1000)
    image = parsed.image(0x1000, {"": 0x5000})
    assert struct.unpack_from("<Q", image, offset) == (0x5010,)
    assert addend != 0x10


def test_a_relocation_by_symbol_adds_its_address() -> None:
    data = bytearray(stored("gfx942"))
    at = _relocations_at(data)
    (offset,) = struct.unpack_from("<Q", data, at)
    names = [s.name for s in ELFFile(BytesIO(data)).get_section_by_name(".dynsym").iter_symbols()]
    struct.pack_into("<QQq", data, at, offset, names.index("saxpy.kd") << 32 | 3, 4)
    parsed = CodeObject.parse(bytes(data))
    expected = 0x1000 + parsed.symbols["saxpy.kd"].address + 4
    assert struct.unpack_from("<Q", parsed.image(0x1000), offset) == (expected,)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        (8, 10, "kind of relocation is not handled"),
        (0, 1 << 40, "in no segment"),
        (8, 3 | 999 << 32, "no such symbol"),
    ],
)
def test_relocations_that_make_no_sense_are_refused(field: int, value: int, text: str) -> None:
    data = bytearray(stored("gfx942"))
    struct.pack_into("<Q", data, _relocations_at(data) + field, value)
    with pytest.raises(DecodeError, match=text):
        CodeObject.parse(bytes(data))


@pytest.mark.parametrize("name", TARGETS)
def test_an_object_without_section_headers_loads_the_same(name: str) -> None:
    data = bytearray(stored(name))
    data[40:48] = bytes(8)  # e_shoff
    stripped, whole = CodeObject.parse(bytes(data)), CodeObject.parse(stored(name))
    assert stripped.kernels == whole.kernels
    assert stripped.image(0x1000)[0x200:] == whole.image(0x1000)[0x200:]


def test_what_is_no_usable_code_object_is_refused_by_name() -> None:
    with pytest.raises(DecodeError, match="no ELF file"):
        CodeObject.parse(b"x" * 100)
    with pytest.raises(DecodeError, match="file header"):
        CodeObject.parse(b"")
    data = bytearray(stored("gfx942"))
    cases = (
        (18, b"\x3e\0", "the ELF machine is 62"),
        (16, b"\x01\0", "not linked"),
        (7, b"\0", "not for amdhsa"),
        (8, b"\0", "ABI 0 is not handled"),
        (48, b"\x20", "machine 0x20; known targets are gfx90a"),
    )
    for offset, value, text in cases:
        wrong = data[:offset] + value + data[offset + len(value) :]
        with pytest.raises(UsageError, match=text):
            CodeObject.parse(bytes(wrong))


def _try(data: bytes) -> bool:
    try:
        parsed = CodeObject.parse(data)
        if parsed.memory_size < 1 << 24:
            parsed.image(0x1000)
    except (DecodeError, UsageError):
        return False
    return True


def test_a_file_cut_anywhere_gives_declared_errors_only() -> None:
    data = stored("gfx942")
    opened = [_try(data[:size]) for size in range(0, len(data), 37)]
    assert not any(opened[: len(opened) // 2])


def test_flipped_bits_give_declared_errors_only() -> None:
    rng = random.Random(20)
    outcomes = set()
    for name in ("gfx942", "gfx1100"):
        data = stored(name)
        for _ in range(700):
            wrong = bytearray(data)
            for _ in range(rng.choice((1, 1, 4))):
                # Headers, notes and tables are at the start; code is not looked at.
                wrong[rng.randrange(rng.choice((64, 0x900, len(wrong))))] ^= 1 << rng.randrange(8)
            outcomes.add(_try(bytes(wrong)))
    assert outcomes == {True, False}

"""SDMA packets that copy rectangles and images."""

from collections.abc import Sequence

from gputrace.bits import Record, Role, bits, tail, u32, u64
from gputrace.formats.sdma.packet import (
    ALL,
    SDMA_4_4,
    SDMA_5_2,
    SDMA_6_0,
    SDMA_7_0,
    V4,
    V5,
    V5_UP,
    V5_V6,
    V6,
    V7,
    Packet,
)

TILED = "images with tiled layouts are not modelled"
MINUS_ONE = "whether its counts are minus one is not documented"
OLD_FORM = "the forms for images of older parts are not modelled"


def _data_count(packet: Record) -> int:
    return packet.dwords - 10


class CopySubWindow(Packet, words=13, op=1, sub=4, source=V4 + "SDMA_PKT_COPY_LINEAR_SUBWIN"):
    """Copy a box out of one linear image into another; the fields that every version has.

    Coordinates, pitches and the box count elements; pitches and the box are minus one.
    """

    tmz: bool = bits(0, 18, 18, "encrypted memory zone", default=0, kind=bool)
    element_size: int = bits(0, 31, 29, "log2 of the bytes of an element", default=0)
    source: int = bits(
        1, 63, 2, "dword aligned", shift=2, role=Role(uses="address", length="source_bytes")
    )
    src_x: int = bits(3, 13, 0, "left")
    src_y: int = bits(3, 29, 16, "top", default=0)
    src_z: int = bits(4, 10, 0, "front", default=0)
    src_pitch: int = bits(4, 31, 13, "elements of a row, minus one")
    src_slice_pitch: int = bits(5, 27, 0, "elements of a slice, minus one")
    destination: int = bits(
        6,
        63,
        2,
        "dword aligned",
        shift=2,
        role=Role(uses="address", length="destination_bytes", access="w"),
    )
    dst_x: int = bits(8, 13, 0, "left")
    dst_y: int = bits(8, 29, 16, "top", default=0)
    dst_z: int = bits(9, 10, 0, "front", default=0)
    dst_pitch: int = bits(9, 31, 13, "elements of a row, minus one")
    dst_slice_pitch: int = bits(10, 27, 0, "elements of a slice, minus one")
    rect_x: int = bits(11, 13, 0, "elements across, minus one")
    rect_y: int = bits(11, 29, 16, "rows, minus one", default=0)
    rect_z: int = bits(12, 10, 0, "slices, minus one", default=0)

    def _reach(self, x: int, y: int, z: int, pitch: int, slice_pitch: int) -> int:
        # bytes from the base to the end of the box's last element
        last = (z + self.rect_z) * (slice_pitch + 1) + (y + self.rect_y) * (pitch + 1)
        return (last + x + self.rect_x + 1) << self.element_size

    @property
    def source_bytes(self) -> int:
        """Bytes from the source's base to the end of the box."""
        return self._reach(self.src_x, self.src_y, self.src_z, self.src_pitch, self.src_slice_pitch)

    @property
    def destination_bytes(self) -> int:
        """Bytes from the destination's base to the end of the box."""
        return self._reach(self.dst_x, self.dst_y, self.dst_z, self.dst_pitch, self.dst_slice_pitch)


class CopySubWindowV4(
    CopySubWindow,
    op=1,
    sub=4,
    dialects=(SDMA_4_4,),
    concept="CopySubWindow",
    source=V4 + "SDMA_PKT_COPY_LINEAR_SUBWIN, ROCr sdma_registers.h",
):
    """Copy a box out of one linear image into another."""

    dst_swap: int = bits(12, 17, 16, "byte order of the target; 0: as it is", default=0)
    src_swap: int = bits(12, 25, 24, "byte order of the source; 0: as it is", default=0)


class CopySubWindowV5(
    CopySubWindowV4,
    op=1,
    sub=4,
    dialects=V5_V6,
    concept="CopySubWindow",
    source=V6 + "SDMA_PKT_COPY_LINEAR_SUBWIN, ROCr sdma_registers.h",
):
    """Copy a box out of one linear image into another."""

    cpv: bool = bits(0, 19, 19, "cache policies are valid", default=0, kind=bool)
    src_z: int = bits(4, 12, 0, "front", default=0)
    dst_z: int = bits(9, 12, 0, "front", default=0)
    rect_z: int = bits(12, 12, 0, "slices, minus one", default=0)
    dst_policy: int = bits(12, 20, 18, "cache policy, when cpv", default=0)
    src_policy: int = bits(12, 28, 26, "cache policy, when cpv", default=0)


class CopySubWindowV7(
    CopySubWindow,
    op=1,
    sub=4,
    dialects=(SDMA_7_0,),
    concept="CopySubWindow",
    source=V7 + "SDMA_PKT_COPY_LINEAR_SUBWIN",
):
    """Copy a box out of one linear image into another."""

    src_x: int = bits(3, 15, 0, "left")
    src_y: int = bits(3, 31, 16, "top", default=0)
    src_z: int = bits(4, 13, 0, "front", default=0)
    src_pitch: int = bits(4, 31, 16, "elements of a row, minus one")
    src_slice_pitch: int = bits(5, 31, 0, "elements of a slice, minus one")
    dst_x: int = bits(8, 15, 0, "left")
    dst_y: int = bits(8, 31, 16, "top", default=0)
    dst_z: int = bits(9, 13, 0, "front", default=0)
    dst_pitch: int = bits(9, 31, 16, "elements of a row, minus one")
    dst_slice_pitch: int = bits(10, 31, 0, "elements of a slice, minus one")
    rect_x: int = bits(11, 15, 0, "elements across, minus one")
    rect_y: int = bits(11, 31, 16, "rows, minus one", default=0)
    rect_z: int = bits(12, 13, 0, "slices, minus one", default=0)
    dst_mall: int = bits(12, 21, 20, "memory-attached last level policy", default=0)
    src_mall: int = bits(12, 29, 28, "memory-attached last level policy", default=0)


class CopyTiled(
    Packet,
    words=13,
    op=1,
    sub=1,
    dialects=ALL,
    fixed={"broadcast": 0},
    source=V4 + "SDMA_PKT_COPY_TILED",
    unsupported=TILED,
):
    """Copy between a tiled image and a linear one."""

    tmz: bool = bits(0, 18, 18, "encrypted memory zone", default=0, kind=bool)
    broadcast: bool = bits(0, 27, 27, "two destinations", default=0, kind=bool)
    detile: bool = bits(0, 31, 31, "from tiled to linear", default=0, kind=bool)
    tiled: int = u64(1, "tiled image", role=Role(uses="address", access="rw"))
    linear: int = u64(8, "linear image", role=Role(uses="address", access="rw"))


class CopyLinearToTwoTiled(
    Packet,
    words=16,
    op=1,
    sub=1,
    dialects=ALL,
    fixed={"broadcast": 1},
    source=V4 + "SDMA_PKT_COPY_L2T_BROADCAST",
    unsupported=TILED,
):
    """Copy a linear image into two tiled ones."""

    tmz: bool = bits(0, 18, 18, "encrypted memory zone", default=0, kind=bool)
    broadcast: bool = bits(0, 27, 27, "two destinations", default=1, kind=bool)
    tiled_0: int = u64(1, "tiled image", role=Role(uses="address", access="w"))
    tiled_1: int = u64(3, "tiled image", role=Role(uses="address", access="w"))
    linear: int = u64(11, "linear image", role=Role(uses="address"))


class CopyTiledSubWindow(
    Packet,
    words=14,
    op=1,
    sub=5,
    dialects=(SDMA_4_4,),
    source=V4 + "SDMA_PKT_COPY_TILED_SUBWIN",
    unsupported=TILED,
):
    """Copy a box between a tiled image and a linear one."""

    tmz: bool = bits(0, 18, 18, "encrypted memory zone", default=0, kind=bool)
    detile: bool = bits(0, 31, 31, "from tiled to linear", default=0, kind=bool)
    tiled: int = u64(1, "tiled image", role=Role(uses="address", access="rw"))
    linear: int = u64(7, "linear image", role=Role(uses="address", access="rw"))


class CopyTiledSubWindowV5(
    CopyTiledSubWindow,
    op=1,
    sub=5,
    dialects=V5_UP,
    fixed={"dcc": 0},
    concept="CopyTiledSubWindow",
    source=V6 + "SDMA_PKT_COPY_TILED_SUBWIN",
    unsupported=TILED,
):
    """Copy a box between a tiled image and a linear one."""

    dcc: bool = bits(0, 19, 19, "compressed; metadata follow", default=0, kind=bool)


class CopyTiledSubWindowDcc(
    CopyTiledSubWindow,
    words=17,
    op=1,
    sub=5,
    dialects=V5_V6,
    fixed={"dcc": 1},
    source=V6 + "SDMA_PKT_COPY_TILED_SUBWIN",
    unsupported=TILED,
):
    """Copy a box between a compressed tiled image and a linear one."""

    dcc: bool = bits(0, 19, 19, "compressed; metadata follow", default=1, kind=bool)
    metadata: int = u64(14, "metadata", role=Role(uses="address", access="rw"))


class CopyTiledSubWindowDccV7(
    CopyTiledSubWindow,
    words=15,
    op=1,
    sub=5,
    dialects=(SDMA_7_0,),
    fixed={"dcc": 1},
    concept="CopyTiledSubWindowDcc",
    source=V7 + "SDMA_PKT_COPY_TILED_SUBWIN",
    unsupported=TILED,
):
    """Copy a box between a compressed tiled image and a linear one."""

    dcc: bool = bits(0, 19, 19, "a dword about compression follows", default=1, kind=bool)


class CopyTiledToTiled(
    Packet,
    words=15,
    op=1,
    sub=6,
    dialects=(SDMA_4_4,),
    source=V4 + "SDMA_PKT_COPY_T2T",
    unsupported=TILED,
):
    """Copy a box between tiled images."""

    tmz: bool = bits(0, 18, 18, "encrypted memory zone", default=0, kind=bool)
    source: int = u64(1, "tiled image", role=Role(uses="address"))
    destination: int = u64(7, "tiled image", role=Role(uses="address", access="w"))


class CopyTiledToTiledV5(
    CopyTiledToTiled,
    op=1,
    sub=6,
    dialects=V5_UP,
    fixed={"dcc": 0},
    concept="CopyTiledToTiled",
    source=V6 + "SDMA_PKT_COPY_T2T",
    unsupported=TILED,
):
    """Copy a box between tiled images."""

    dcc: bool = bits(0, 19, 19, "compressed; metadata follow", default=0, kind=bool)


class CopyTiledToTiledDcc(
    CopyTiledToTiled,
    words=18,
    op=1,
    sub=6,
    dialects=V5_V6,
    fixed={"dcc": 1},
    source=V6 + "SDMA_PKT_COPY_T2T",
    unsupported=TILED,
):
    """Copy a box between tiled images of which one is compressed."""

    dcc: bool = bits(0, 19, 19, "compressed; metadata follow", default=1, kind=bool)
    metadata: int = u64(15, "metadata", role=Role(uses="address", access="rw"))


class CopyTiledToTiledDccV7(
    CopyTiledToTiled,
    words=16,
    op=1,
    sub=6,
    dialects=(SDMA_7_0,),
    fixed={"dcc": 1},
    concept="CopyTiledToTiledDcc",
    source=V7 + "SDMA_PKT_COPY_T2T",
    unsupported=TILED,
):
    """Copy a box between tiled images of which one is compressed."""

    dcc: bool = bits(0, 19, 19, "a dword about compression follows", default=1, kind=bool)


class CopyStruct(
    Packet,
    words=8,
    op=1,
    sub=3,
    dialects=ALL,
    source=V4 + "SDMA_PKT_COPY_STRUCT",
    unsupported="structured buffers are not modelled",
):
    """Copy between a structured buffer and a linear one."""

    tmz: bool = bits(0, 18, 18, "encrypted memory zone", default=0, kind=bool)
    detile: bool = bits(0, 31, 31, "from structured to linear", default=0, kind=bool)
    structured: int = u64(1, "structured buffer", role=Role(uses="address", access="rw"))
    start_index: int = bits(3, 31, 0, "first structure", default=0)
    count: int = bits(4, 31, 0, "structures")
    stride: int = bits(5, 10, 0, "bytes of a structure")
    linear: int = u64(6, "linear buffer", role=Role(uses="address", access="rw"))


class CopySubWindowLarge(
    Packet,
    words=20,
    op=1,
    sub=36,
    dialects=(SDMA_7_0,),
    source=V7 + "SDMA_PKT_COPY_LINEAR_SUBWIN_LARGE",
    unsupported=MINUS_ONE,
):
    """Copy a box out of one linear image into another, with 32-bit coordinates."""

    tmz: bool = bits(0, 18, 18, "encrypted memory zone", default=0, kind=bool)
    source: int = u64(1, "image", role=Role(uses="address"))
    src_x: int = u32(3, "left")
    src_y: int = u32(4, "top")
    src_z: int = u32(5, "front")
    src_pitch: int = u32(6, "row")
    src_slice_pitch: int = bits(7, 47, 0, "slice")
    destination: int = u64(9, "image", role=Role(uses="address", access="w"))
    dst_x: int = u32(11, "left")
    dst_y: int = u32(12, "top")
    dst_z: int = u32(13, "front")
    dst_pitch: int = u32(14, "row")
    dst_slice_pitch: int = bits(15, 47, 0, "slice")
    rect_x: int = u32(17, "across")
    rect_y: int = u32(18, "rows")
    rect_z: int = u32(19, "slices")


class CopySubWindowLargeV5(
    CopySubWindowLarge,
    op=1,
    sub=36,
    dialects=V5_V6,
    concept="CopySubWindowLarge",
    source=V6 + "SDMA_PKT_COPY_LINEAR_SUBWIN_LARGE, PAL gfx10_merged_sdma_packets.h",
    unsupported=MINUS_ONE,
):
    """Copy a box out of one linear image into another, with 32-bit coordinates."""

    cpv: bool = bits(0, 19, 19, "cache policies are valid", default=0, kind=bool)


class WriteTiled(
    Packet,
    words=9,
    op=2,
    sub=1,
    dialects=ALL,
    source=V4 + "SDMA_PKT_WRITE_TILED",
    unsupported=TILED,
):
    """Write dwords from the packet to a tiled image."""

    tmz: bool = bits(0, 18, 18, "encrypted memory zone", default=0, kind=bool)
    destination: int = u64(1, "tiled image", role=Role(uses="address", access="w"))
    count: int = bits(8, 19, 0, "dwords minus one", default=_data_count)
    data: tuple[int, ...] = tail("dwords to write, at least one")

    @classmethod
    def length(cls, words: Sequence[int], at: int) -> int:
        """Return the dwords of the packet at `at`."""
        return 9 + (words[at + 8] & 0xFFFFF) + 1


class CopyLinearBc(
    Packet,
    words=7,
    op=1,
    sub=16,
    dialects=V5_V6,
    source=V5 + "SDMA_PKT_COPY_LINEAR_BC",
    unsupported=OLD_FORM,
):
    """Copy bytes, in the form that older parts had."""

    source: int = u64(3, "byte address", role=Role(uses="address"))
    destination: int = u64(5, "byte address", role=Role(uses="address", access="w"))


class CopyTiledBc(
    Packet,
    words=12,
    op=1,
    sub=17,
    dialects=(SDMA_5_2,),
    source=V5 + "SDMA_PKT_COPY_TILED_BC",
    unsupported=OLD_FORM,
):
    """Copy between a tiled image and a linear one, in the form that older parts had."""

    detile: bool = bits(0, 31, 31, "from tiled to linear", default=0, kind=bool)
    tiled: int = u64(1, "tiled image", role=Role(uses="address", access="rw"))
    linear: int = u64(8, "linear image", role=Role(uses="address", access="rw"))


class CopyTiledBcV6(
    CopyTiledBc,
    words=13,
    op=1,
    sub=17,
    dialects=(SDMA_6_0,),
    concept="CopyTiledBc",
    source=V6 + "SDMA_PKT_COPY_TILED_BC",
    unsupported=OLD_FORM,
):
    """Copy between a tiled image and a linear one, in the form that older parts had."""


class CopySubWindowBc(
    Packet,
    words=13,
    op=1,
    sub=20,
    dialects=V5_V6,
    source=V5 + "SDMA_PKT_COPY_LINEAR_SUBWIN_BC",
    unsupported=OLD_FORM,
):
    """Copy a box out of one linear image into another, in the form that older parts had."""

    source: int = u64(1, "image", role=Role(uses="address"))
    destination: int = u64(6, "image", role=Role(uses="address", access="w"))


class CopyTiledSubWindowBc(
    Packet,
    words=14,
    op=1,
    sub=21,
    dialects=V5_V6,
    source=V5 + "SDMA_PKT_COPY_TILED_SUBWIN_BC",
    unsupported=OLD_FORM,
):
    """Copy a box between a tiled image and a linear one, in the form that older parts had."""

    detile: bool = bits(0, 31, 31, "from tiled to linear", default=0, kind=bool)
    tiled: int = u64(1, "tiled image", role=Role(uses="address", access="rw"))
    linear: int = u64(7, "linear image", role=Role(uses="address", access="rw"))


class CopyTiledToTiledBc(
    Packet,
    words=15,
    op=1,
    sub=22,
    dialects=V5_V6,
    source=V5 + "SDMA_PKT_COPY_T2T_BC",
    unsupported=OLD_FORM,
):
    """Copy a box between tiled images, in the form that older parts had."""

    source: int = u64(1, "tiled image", role=Role(uses="address"))
    destination: int = u64(7, "tiled image", role=Role(uses="address", access="w"))


class WriteTiledBc(
    Packet,
    words=9,
    op=2,
    sub=17,
    dialects=V5_V6,
    source=V5 + "SDMA_PKT_WRITE_TILED_BC",
    unsupported=OLD_FORM,
):
    """Write dwords from the packet to a tiled image, in the form that older parts had."""

    destination: int = u64(1, "tiled image", role=Role(uses="address", access="w"))
    count: int = bits(8, 21, 2, "dwords minus one, as WRITE_TILED has it", default=_data_count)
    data: tuple[int, ...] = tail("dwords to write, at least one")

    @classmethod
    def length(cls, words: Sequence[int], at: int) -> int:
        """Return the dwords of the packet at `at`."""
        return 9 + (words[at + 8] >> 2 & 0xFFFFF) + 1

"""SDMA packets that move data: copies, fills, writes."""

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
    V5_V6,
    V6,
    V7,
    Packet,
)

POLICY = "cache policy, when cpv"
MALL = "memory-attached last level policy"
UNSENT = "no client is known to send it"


class CopyLinear(Packet, words=7, op=1, source=V4 + "SDMA_PKT_COPY_LINEAR"):
    """Copy bytes; the fields that every version has."""

    tmz: bool = bits(0, 18, 18, "encrypted memory zone", default=0, kind=bool)
    broadcast: bool = bits(0, 27, 27, "two destinations", default=0, kind=bool)
    count: int = bits(1, 29, 0, "bytes minus one; engine 4.4.2 has 22 bits of it")
    source: int = u64(3, "byte address", role=Role(uses="address", length="size"))
    destination: int = u64(5, "byte address", role=Role(uses="address", length="size", access="w"))

    @property
    def size(self) -> int:
        """Bytes that are copied."""
        return self.count + 1


class CopyLinearV4(
    CopyLinear,
    op=1,
    dialects=(SDMA_4_4,),
    fixed={"broadcast": 0},
    concept="CopyLinear",
    source=V4 + "SDMA_PKT_COPY_LINEAR, ROCr sdma_registers.h",
):
    """Copy bytes."""

    encrypt: bool = bits(0, 16, 16, "encrypt", default=0, kind=bool)
    dst_swap: int = bits(2, 17, 16, "byte order of the target; 0: as it is", default=0)
    src_swap: int = bits(2, 25, 24, "byte order of the source; 0: as it is", default=0)


class CopyLinearV5(
    CopyLinearV4,
    op=1,
    dialects=V5_V6,
    fixed={"broadcast": 0},
    concept="CopyLinear",
    source=V6 + "SDMA_PKT_COPY_LINEAR, PAL gfx10_merged_sdma_packets.h",
):
    """Copy bytes."""

    cpv: bool = bits(0, 19, 19, "cache policies are valid", default=0, kind=bool)
    backwards: bool = bits(0, 25, 25, "from the last byte to the first", default=0, kind=bool)
    dst_policy: int = bits(2, 20, 18, POLICY, default=0)
    src_policy: int = bits(2, 28, 26, POLICY, default=0)


class CopyLinearV7(
    CopyLinear,
    op=1,
    dialects=(SDMA_7_0,),
    fixed={"broadcast": 0, "dcc": 0},
    concept="CopyLinear",
    source=V7 + "SDMA_PKT_COPY_LINEAR",
):
    """Copy bytes."""

    dcc: bool = bits(0, 19, 19, "a dword about compression follows", default=0, kind=bool)
    backwards: bool = bits(0, 25, 25, "from the last byte to the first", default=0, kind=bool)
    dst_mall: int = bits(2, 21, 20, MALL, default=0)
    src_mall: int = bits(2, 29, 28, MALL, default=0)


class CopyLinearDcc(
    CopyLinearV7,
    words=8,
    op=1,
    dialects=(SDMA_7_0,),
    fixed={"broadcast": 0, "dcc": 1},
    source=V7 + "SDMA_PKT_COPY_LINEAR, sdma_v7_0.c sdma_v7_0_emit_copy_buffer",
):
    """Copy bytes of which some may be compressed; all zero in the last dword: plain bytes."""

    data_format: int = bits(7, 5, 0, "data format", default=0)
    number_type: int = bits(7, 11, 9, "number type", default=0)
    read_compression: int = bits(7, 17, 16, "0 bypass, 2 decompress", default=0)
    write_compression: int = bits(7, 19, 18, "0 bypass, 1 compress, 2 uncompressed", default=0)
    max_compressed_block: int = bits(7, 25, 24, "largest compressed block", default=0)
    max_uncompressed_block: int = bits(7, 26, 26, "largest uncompressed block", default=0)


class CopyBroadcast(Packet, words=9, op=1, source=V4 + "SDMA_PKT_COPY_BROADCAST_LINEAR"):
    """Copy bytes to two places; the fields that every version has."""

    tmz: bool = bits(0, 18, 18, "encrypted memory zone", default=0, kind=bool)
    broadcast: bool = bits(0, 27, 27, "two destinations", default=1, kind=bool)
    count: int = bits(1, 29, 0, "bytes minus one; engine 4.4.2 has 22 bits of it")
    source: int = u64(3, "byte address", role=Role(uses="address", length="size"))
    destination: int = u64(5, "byte address", role=Role(uses="address", length="size", access="w"))
    destination_2: int = u64(
        7, "byte address", role=Role(uses="address", length="size", access="w")
    )

    @property
    def size(self) -> int:
        """Bytes that are copied to each place."""
        return self.count + 1


class CopyBroadcastV4(
    CopyBroadcast,
    op=1,
    dialects=(SDMA_4_4,),
    fixed={"broadcast": 1},
    concept="CopyBroadcast",
    source=V4 + "SDMA_PKT_COPY_BROADCAST_LINEAR",
):
    """Copy bytes to two places."""

    encrypt: bool = bits(0, 16, 16, "encrypt", default=0, kind=bool)
    dst2_swap: int = bits(2, 9, 8, "byte order of the second target", default=0)
    dst1_swap: int = bits(2, 17, 16, "byte order of the first target", default=0)
    src_swap: int = bits(2, 25, 24, "byte order of the source", default=0)


class CopyBroadcastV5(
    CopyBroadcastV4,
    op=1,
    dialects=V5_V6,
    fixed={"broadcast": 1},
    concept="CopyBroadcast",
    source=V6 + "SDMA_PKT_COPY_BROADCAST_LINEAR",
):
    """Copy bytes to two places."""

    cpv: bool = bits(0, 19, 19, "cache policies are valid", default=0, kind=bool)
    dst2_policy: int = bits(2, 12, 10, POLICY, default=0)
    dst1_policy: int = bits(2, 20, 18, POLICY, default=0)
    src_policy: int = bits(2, 28, 26, POLICY, default=0)


class CopyBroadcastV7(
    CopyBroadcast,
    op=1,
    dialects=(SDMA_7_0,),
    fixed={"broadcast": 1},
    concept="CopyBroadcast",
    source=V7 + "SDMA_PKT_COPY_BROADCAST_LINEAR",
):
    """Copy bytes to two places."""

    dst2_mall: int = bits(2, 13, 12, MALL, default=0)
    dst1_mall: int = bits(2, 21, 20, MALL, default=0)
    src_mall: int = bits(2, 29, 28, MALL, default=0)


class ConstantFill(Packet, words=5, op=11, source=V4 + "SDMA_PKT_CONSTANT_FILL"):
    """Fill memory with a byte or a dword; the fields that every version has."""

    fill_size: int = bits(0, 31, 30, "0 byte, 2 dword", default=2)
    destination: int = u64(1, "byte address", role=Role(uses="address", length="size", access="w"))
    data: int = u32(3, "value")

    @property
    def size(self) -> int:
        """Bytes that are filled."""
        count: int = getattr(self, "count", 0)
        mask = 3 if self.fill_size == 2 else 0
        return (count | mask) + 1


class ConstantFillV4(
    ConstantFill,
    op=11,
    dialects=(SDMA_4_4,),
    concept="ConstantFill",
    source=V4 + "SDMA_PKT_CONSTANT_FILL",
):
    """Fill memory with a byte or a dword."""

    swap: int = bits(0, 17, 16, "byte order", default=0)
    count: int = bits(4, 21, 0, "bytes minus one, also when dwords are filled")


class ConstantFillV5(
    ConstantFillV4,
    op=11,
    dialects=(SDMA_5_2,),
    concept="ConstantFill",
    source=V5 + "SDMA_PKT_CONSTANT_FILL, PAL gfx10_merged_sdma_packets.h",
):
    """Fill memory with a byte or a dword."""

    policy: int = bits(0, 26, 24, POLICY, default=0)
    cpv: bool = bits(0, 28, 28, "cache policy is valid", default=0, kind=bool)


class ConstantFillV6(
    ConstantFill,
    op=11,
    dialects=(SDMA_6_0,),
    concept="ConstantFill",
    source=V6 + "SDMA_PKT_CONSTANT_FILL",
):
    """Fill memory with a byte or a dword."""

    swap: int = bits(0, 17, 16, "byte order", default=0)
    policy: int = bits(0, 26, 24, POLICY, default=0)
    cpv: bool = bits(0, 28, 28, "cache policy is valid", default=0, kind=bool)
    count: int = bits(4, 29, 0, "bytes minus one, also when dwords are filled")


class ConstantFillV7(
    ConstantFill,
    op=11,
    dialects=(SDMA_7_0,),
    concept="ConstantFill",
    source=V7 + "SDMA_PKT_CONSTANT_FILL, sdma_v7_0.c sdma_v7_0_emit_fill_buffer",
):
    """Fill memory with a byte or a dword."""

    nopte_comp: bool = bits(0, 16, 16, "no compression by page table", default=0, kind=bool)
    sys: bool = bits(0, 20, 20, "system memory", default=0, kind=bool)
    snoop: bool = bits(0, 22, 22, "snoop the host's caches", default=0, kind=bool)
    gpa: bool = bits(0, 23, 23, "guest physical address", default=0, kind=bool)
    mall: int = bits(0, 27, 26, MALL, default=0)
    count: int = bits(4, 29, 0, "bytes minus one, also when dwords are filled")


def _data_count(packet: Record) -> int:
    return packet.dwords - 5


class WriteLinear(Packet, words=4, op=2, source=V4 + "SDMA_PKT_WRITE_UNTILED"):
    """Write dwords from the packet to memory; the fields that every version has."""

    tmz: bool = bits(0, 18, 18, "encrypted memory zone", default=0, kind=bool)
    destination: int = u64(1, "dword aligned", role=Role(uses="address", length="size", access="w"))
    count: int = bits(3, 19, 0, "dwords minus one", default=_data_count)
    data: tuple[int, ...] = tail("dwords to write, at least one")

    @property
    def size(self) -> int:
        """Bytes that are written."""
        return 4 * len(self.data)

    @classmethod
    def length(cls, words: Sequence[int], at: int) -> int:
        """Return the dwords of the packet at `at`."""
        return 4 + (words[at + 3] & 0xFFFFF) + 1


class WriteLinearV4(
    WriteLinear,
    op=2,
    dialects=(SDMA_4_4, SDMA_5_2),
    concept="WriteLinear",
    source=V4 + "SDMA_PKT_WRITE_UNTILED",
):
    """Write dwords from the packet to memory."""

    encrypt: bool = bits(0, 16, 16, "encrypt", default=0, kind=bool)
    swap: int = bits(3, 25, 24, "byte order", default=0)


class WriteLinearV6(
    WriteLinearV4,
    op=2,
    dialects=(SDMA_6_0,),
    concept="WriteLinear",
    source=V6 + "SDMA_PKT_WRITE_UNTILED",
):
    """Write dwords from the packet to memory."""

    cpv: bool = bits(0, 28, 28, "cache policy is valid", default=0, kind=bool)
    policy: int = bits(3, 28, 26, POLICY, default=0)


class WriteLinearV7(
    WriteLinear,
    op=2,
    dialects=(SDMA_7_0,),
    concept="WriteLinear",
    source=V7 + "SDMA_PKT_WRITE_UNTILED",
):
    """Write dwords from the packet to memory."""

    nopte_comp: bool = bits(0, 16, 16, "no compression by page table", default=0, kind=bool)
    sys: bool = bits(3, 20, 20, "system memory", default=0, kind=bool)
    snoop: bool = bits(3, 22, 22, "snoop the host's caches", default=0, kind=bool)
    gpa: bool = bits(3, 23, 23, "guest physical address", default=0, kind=bool)
    mall: int = bits(3, 29, 28, MALL, default=0)


class DataFillMulti(
    Packet,
    words=6,
    op=11,
    sub=1,
    dialects=ALL,
    source=V4 + "SDMA_PKT_DATA_FILL_MULTI",
    unsupported=UNSENT,
):
    """Fill several places at a fixed distance."""

    memlog_clear: bool = bits(0, 31, 31, "clear the log", default=0, kind=bool)
    byte_stride: int = u32(1, "from one place to the next")
    dma_count: int = u32(2, "places")
    destination: int = u64(3, "byte address", role=Role(uses="address", access="w"))
    byte_count: int = bits(5, 25, 0, "bytes for each")


class ConstantFillPage(
    Packet,
    words=5,
    op=11,
    sub=4,
    dialects=(SDMA_7_0,),
    source=V7 + "SDMA_PKT_CONSTANT_FILL_PAGE",
    unsupported=UNSENT,
):
    """Fill pages with a value."""

    fill_size: int = bits(0, 31, 30, "0 byte, 2 dword", default=2)
    data: int = u32(1, "value")
    page_unit: int = bits(2, 3, 0, "size of a page")
    page_count: int = bits(2, 31, 16, "pages")
    destination: int = u64(3, "byte address", role=Role(uses="address", access="w"))


class DecompressLinear(
    Packet,
    words=4,
    op=11,
    sub=3,
    dialects=(SDMA_7_0,),
    source=V7 + "SDMA_PKT_DECOMPRESS_BLT_LINEAR",
    unsupported=UNSENT,
):
    """Decompress bytes where they are."""

    tmz: bool = bits(0, 18, 18, "encrypted memory zone", default=0, kind=bool)
    address: int = bits(
        1, 63, 8, "256-byte aligned", shift=8, role=Role(uses="address", access="rw")
    )
    count: int = bits(3, 31, 8, "256-byte blocks")


class DecompressSubWindow(
    Packet,
    words=9,
    op=11,
    sub=2,
    dialects=(SDMA_7_0,),
    source=V7 + "SDMA_PKT_DECOMPRESS_BLT_SUBWIN",
    unsupported=UNSENT,
):
    """Decompress a box of a tiled image where it is."""

    tmz: bool = bits(0, 18, 18, "encrypted memory zone", default=0, kind=bool)
    address: int = bits(
        1, 63, 8, "256-byte aligned", shift=8, role=Role(uses="address", access="rw")
    )

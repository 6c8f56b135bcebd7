"""The topology of a machine with emulated GPUs, from the facts of their family.

One CPU node, then the GPUs, all of one family and peers of one another: every pair is linked, by
XGMI where the family has engines for it and over PCIe otherwise. Source of the properties: Linux
drivers/gpu/drm/amd/amdkfd/kfd_topology.c and kfd_crat.c.
"""

from types import MappingProxyType

from gputrace.families import Family
from gputrace.kfd.topology import Node, Properties, Topology

FIRST_RENDER_MINOR = 128
HEAP_SYSTEM, HEAP_PUBLIC = 0, 1
LINK_PCIE, LINK_XGMI = 2, 11
LINK_ENABLED = 1
CACHE_DATA, CACHE_INSTRUCTION, CACHE_GPU = 1, 2, 8
SYSTEM_BYTES = 16 << 30
NOT_EMULATED = 0x0800_0000 | 0x0007_8000
"""Bits of `capability` for SVM and debugging, which the emulated KFD refuses (kfd_sysfs.h)."""


def _freeze(**properties: int) -> Properties:
    return MappingProxyType(properties)


def _link(kind: int, start: int, end: int) -> Properties:
    wide = kind == LINK_XGMI
    return _freeze(
        type=kind,
        version_major=0,
        version_minor=0,
        node_from=start,
        node_to=end,
        weight=15 if wide else 20,
        min_latency=0,
        max_latency=0,
        min_bandwidth=50_000 if wide else 312,
        max_bandwidth=50_000 if wide else 32_000,
        recommended_transfer_size=0,
        recommended_sdma_engine_id_mask=0,
        flags=LINK_ENABLED,
    )


def _cache(level: int, size: int, line: int, kind: int) -> Properties:
    return _freeze(
        processor_id_low=0x8000_0000,
        level=level,
        size=size >> 10,
        cache_line_size=line,
        cache_lines_per_tag=1,
        association=16,
        latency=0,
        type=kind | CACHE_GPU,
        sibling_map=1,
    )


def _caches(family: Family) -> tuple[Properties, ...]:
    facts = family.caches
    rows = [
        (1, facts.l1, facts.l1_line, CACHE_DATA),
        (1, 16 << 10, facts.scalar_line, CACHE_DATA),
        (1, 64 << 10, facts.scalar_line, CACHE_INSTRUCTION),
        (2, facts.l2, facts.l2_line, CACHE_DATA),
        (3, facts.mall, facts.l2_line, CACHE_DATA),
    ]
    return tuple(_cache(*row) for row in rows if row[1])


def _gpu_links(
    family: Family, index: int, count: int
) -> tuple[tuple[Properties, ...], tuple[Properties, ...]]:
    # Links of their own, and paths to peers over the PCIe links of both.
    kind = LINK_XGMI if family.copies.xgmi else LINK_PCIE
    host = _link(LINK_PCIE, index, 0)
    peers = tuple(_link(kind, index, other) for other in range(1, count + 1) if other != index)
    return ((host, *peers), ()) if kind == LINK_XGMI else ((host,), peers)


def gpu_id(index: int, target_version: int) -> int:
    """Return a 16-bit id that is never 0 and differs between the GPUs of a machine."""
    return (target_version * 2654435761 >> 7 & 0x7FF0 | 0x8000) + index


def _gpu(family: Family, index: int, count: int, vram: int) -> Node:
    (links, paths), caches = _gpu_links(family, index, count), _caches(family)
    properties = dict(family.node_properties())
    properties |= {
        "capability": properties["capability"] & ~NOT_EMULATED,
        "mem_banks_count": 1,
        "caches_count": len(caches),
        "io_links_count": len(links),
        "p2p_links_count": len(paths),
        "location_id": index << 8,
        "domain": 0,
        "drm_render_minor": FIRST_RENDER_MINOR + index - 1,
        "hive_id": family.device_id << 32 | 1 if family.copies.xgmi and count > 1 else 0,
        "unique_id": family.device_id << 32 | index,
    }
    bank = _freeze(
        heap_type=HEAP_PUBLIC,
        size_in_bytes=vram,
        flags=0,
        width=family.card.memory_width,
        mem_clk_max=family.card.memory_mhz,
    )
    return Node(
        index=index,
        gpu_id=gpu_id(index, family.target_version),
        name=family.card.node_name,
        properties=MappingProxyType(properties),
        mem_banks=(bank,),
        caches=caches,
        io_links=links,
        p2p_links=paths,
    )


def emulated_topology(family: Family, count: int = 1, vram: int | None = None) -> Topology:
    """Return a CPU node and `count` GPUs of a family; `vram` bytes each, by default the card's."""
    links = tuple(_link(LINK_PCIE, 0, index) for index in range(1, count + 1))
    cpu = Node(
        index=0,
        gpu_id=0,
        name="",
        properties=_freeze(
            cpu_cores_count=1,
            simd_count=0,
            mem_banks_count=1,
            caches_count=0,
            io_links_count=len(links),
            p2p_links_count=0,
            cpu_core_id_base=0,
            simd_id_base=0,
            max_engine_clk_ccompute=2400,
        ),
        mem_banks=(
            _freeze(
                heap_type=HEAP_SYSTEM, size_in_bytes=SYSTEM_BYTES, flags=0, width=64, mem_clk_max=0
            ),
        ),
        io_links=links,
    )
    size = family.card.vram_bytes if vram is None else vram
    gpus = tuple(_gpu(family, index, count, size) for index in range(1, count + 1))
    system = _freeze(platform_oem=0, platform_id=0, platform_rev=0)
    return Topology((cpu, *gpus), 1, system)

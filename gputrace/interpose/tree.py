"""The files that a program reads to learn which GPUs there are, written below a folder.

The preloaded library looks paths of /sys, /proc and /dev up in this tree. Sources of the layout:
Linux drivers/gpu/drm/amd/amdkfd/kfd_topology.c, amdgpu_discovery.c (ip_discovery), drm_sysfs.c.
"""

from pathlib import Path

from gputrace.families import Family, by_target_version
from gputrace.kfd.topology import Node, Topology

TOPOLOGY = "sys/devices/virtual/kfd/kfd/topology"
DRM_MAJOR = 226
_VENDOR = 0x1002
_HARDWARE_IDS = {"gc": 11, "sdma": 42, "nbif": 108}  # amdgpu soc15_hw_ip.h GC, SDMA0, NBIF _HWID


def write_tree(root: Path, topology: Topology) -> None:
    """Write the files of all nodes below `root`, which must be empty."""
    files = {f"{TOPOLOGY}/{name}": text for name, text in topology.files().items()}
    files |= {
        "proc/modules": "amdgpu 8192000 3 - Live 0x0000000000000000\n",
        "sys/module/amdgpu/refcnt": "3\n",
        "sys/module/amdgpu/initstate": "live\n",
        "dev/kfd": "",
    }
    for node in topology.gpus:
        files |= _render_files(node)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "sys/module/amdgpu/holders").mkdir()
    _make_lists(root / TOPOLOGY, topology)
    kfd_class = root / "sys/class/kfd"
    kfd_class.mkdir(parents=True)
    (kfd_class / "kfd").symlink_to("../../devices/virtual/kfd/kfd")


def _render_files(node: Node) -> dict[str, str]:
    name, minor = f"renderD{node.render_minor}", node.render_minor
    family = by_target_version(node["gfx_target_version"])
    files = {f"dev/dri/{name}": "", f"dev/dri/card{minor - 128}": ""}
    for device in (f"sys/class/drm/{name}/device", f"sys/dev/char/{DRM_MAJOR}:{minor}/device"):
        files |= {f"{device}/{path}": text for path, text in _device_files(node, family).items()}
    return files


def _device_files(node: Node, family: Family) -> dict[str, str]:
    place = node["location_id"]
    slot = f"{node['domain']:04x}:{place >> 8:02x}:{place >> 3 & 31:02x}.{place & 7}"
    files = {
        "vendor": f"{_VENDOR:#06x}\n",
        "device": f"{node['device_id']:#06x}\n",
        "revision": "0x00\n",
        "subsystem_vendor": f"{_VENDOR:#06x}\n",
        "subsystem_device": f"{node['device_id']:#06x}\n",
        "uevent": f"DRIVER=amdgpu\nPCI_SLOT_NAME={slot}\n",
        "power_dpm_force_performance_level": "auto\n",
        f"drm/renderD{node.render_minor}/dev": f"{DRM_MAJOR}:{node.render_minor}\n",
        f"drm/card{node.render_minor - 128}/dev": f"{DRM_MAJOR}:{node.render_minor - 128}\n",
    }
    for block, number in _HARDWARE_IDS.items():
        version = getattr(family.ip_versions, block)
        for instance in range(_instances(block, family)):
            for part, value in zip(("major", "minor", "revision"), version, strict=True):
                files[f"ip_discovery/die/0/{number}/{instance}/{part}"] = f"{value}\n"
    return files


def _instances(block: str, family: Family) -> int:
    if block == "gc":
        return family.xccs
    return family.copies.pcie + family.copies.xgmi if block == "sdma" else 1


def _make_lists(topology: Path, given: Topology) -> None:
    # A kind that a node has none of is still a folder.
    for node in given.nodes:
        for kind in ("mem_banks", "caches", "io_links", "p2p_links"):
            (topology / f"nodes/{node.index}/{kind}").mkdir(exist_ok=True)

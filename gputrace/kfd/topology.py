"""The nodes of a machine as KFD shows them in sysfs, read from its text.

Source: Linux drivers/gpu/drm/amd/amdkfd/kfd_topology.c, the *_show functions. Every property is
kept, known or not: names and values are the kernel's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from gputrace.errors import UsageError

SYSFS = Path("/sys/class/kfd/kfd/topology")
TEXT_LIMIT = 1 << 16  # sysfs gives a page; a tree that came from elsewhere may hold anything
LISTS = ("mem_banks", "caches", "io_links", "p2p_links")

Properties = Mapping[str, int]


def parse_properties(text: str) -> Properties:
    """Read "name value" lines; a value may be decimal or 0x hexadecimal. Raises UsageError."""
    found: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split()
        if not parts:
            continue
        # sibling_map is a list of bytes: its first word is enough to tell siblings apart.
        if len(parts) != 2 and parts[0] != "sibling_map":
            raise UsageError(f"line {number}: expected a name and a value, found {line!r}")
        try:
            found[parts[0]] = int(parts[1].split(",")[0], 0) if len(parts) > 1 else 0
        except ValueError:
            raise UsageError(f"line {number}: {parts[1]!r} is not a number") from None
    return MappingProxyType(found)


def print_properties(properties: Properties) -> str:
    """Write properties the way sysfs does; `parse_properties` reads them back."""
    return "".join(f"{name} {value}\n" for name, value in properties.items())


def target_name(version: int) -> str:
    """Return the LLVM name of a gfx_target_version: 90402 is gfx942, 90010 gfx90a."""
    major, minor, stepping = version // 10000, version // 100 % 100, version % 100
    return f"gfx{major}{minor:x}{stepping:x}"


@dataclass(frozen=True, slots=True)
class Node:
    """One node: CPUs or a GPU. Indexing gives a property; a missing one is KeyError."""

    index: int
    gpu_id: int
    name: str
    properties: Properties
    mem_banks: tuple[Properties, ...] = ()
    caches: tuple[Properties, ...] = ()
    io_links: tuple[Properties, ...] = ()
    p2p_links: tuple[Properties, ...] = ()

    def __getitem__(self, name: str) -> int:
        return self.properties[name]

    def get(self, name: str, default: int = 0) -> int:
        """Return a property, or `default` where the kernel does not print it."""
        return self.properties.get(name, default)

    @property
    def is_gpu(self) -> bool:
        """Whether queues can be made on this node."""
        return self.gpu_id != 0

    @property
    def target(self) -> str:
        """The LLVM name of the GPU, such as "gfx942"."""
        return target_name(self.properties["gfx_target_version"])

    @property
    def xccs(self) -> int:
        """How many accelerator dies share a queue; 1 where the kernel does not say."""
        return max(1, self.get("num_xcc", 1))

    @property
    def render_minor(self) -> int:
        """The N of /dev/dri/renderDN."""
        return self.properties["drm_render_minor"]

    @property
    def memory(self) -> int:
        """Bytes of memory of its own, public and private."""
        return sum(bank["size_in_bytes"] for bank in self.mem_banks)


@dataclass(frozen=True, slots=True)
class Topology:
    """All nodes in the kernel's order, which is the order of the apertures too."""

    nodes: tuple[Node, ...]
    generation: int = 1
    system: Properties = field(default_factory=lambda: MappingProxyType({}))

    @property
    def gpus(self) -> tuple[Node, ...]:
        """The nodes that are GPUs."""
        return tuple(node for node in self.nodes if node.is_gpu)

    def gpu(self, gpu_id: int) -> Node:
        """Return the node with this gpu_id. Raises KeyError."""
        for node in self.nodes:
            if node.gpu_id == gpu_id and gpu_id:
                return node
        raise KeyError(gpu_id)

    def files(self) -> dict[str, str]:
        """Return the tree of text files that sysfs would show, by path below its root."""
        files = {
            "generation_id": f"{self.generation}\n",
            "system_properties": print_properties(self.system),
        }
        for node in self.nodes:
            here = f"nodes/{node.index}"
            files[f"{here}/gpu_id"] = f"{node.gpu_id}\n"
            files[f"{here}/name"] = f"{node.name}\n"
            files[f"{here}/properties"] = print_properties(node.properties)
            for kind in LISTS:
                for index, entry in enumerate(getattr(node, kind)):
                    files[f"{here}/{kind}/{index}/properties"] = print_properties(entry)
        return files


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(TEXT_LIMIT + 1)
    except OSError as problem:
        raise UsageError(f"{path}: {problem.strerror}") from None
    if len(raw) > TEXT_LIMIT:
        raise UsageError(f"{path}: longer than {TEXT_LIMIT} bytes")
    return raw.decode("utf-8", "replace")


def _properties(path: Path) -> Properties:
    try:
        return parse_properties(_text(path))
    except UsageError as problem:
        message = str(problem)
        raise UsageError(message if str(path) in message else f"{path}: {message}") from None


def _number(path: Path) -> int:
    text = _text(path).strip()
    try:
        return int(text, 0)
    except ValueError:
        raise UsageError(f"{path}: expected a number, found {text!r}") from None


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    """Entries whose names are numbers, in numeric order: a listing would put 10 before 2."""
    if not folder.is_dir():
        return []
    return sorted((int(entry.name), entry) for entry in folder.iterdir() if entry.name.isdecimal())


def _read_node(index: int, folder: Path) -> Node:
    lists = {
        kind: tuple(_properties(entry / "properties") for _, entry in _numbered(folder / kind))
        for kind in LISTS
    }
    name = folder / "name"
    return Node(
        index=index,
        gpu_id=_number(folder / "gpu_id"),
        name=_text(name).strip() if name.exists() else "",
        properties=_properties(folder / "properties"),
        **lists,
    )


def read_topology(root: Path = SYSFS) -> Topology:
    """Read the tree below `root`, again when its generation changes meanwhile. Raises UsageError.

    A node that a device cgroup hides cannot be read: it is left out, as the kernel intends.
    """
    if not root.exists():
        raise UsageError(
            f"{root} is not there: the amdgpu driver is not loaded; "
            "emulated devices, such as emu:gfx942, do without"
        )
    for _ in range(16):
        generation = _number(root / "generation_id")
        nodes = []
        for index, folder in _numbered(root / "nodes"):
            try:
                nodes.append(_read_node(index, folder))
            except UsageError as problem:
                if "not permitted" not in str(problem):
                    raise
        system = _properties(root / "system_properties")
        if _number(root / "generation_id") == generation:
            return Topology(tuple(nodes), generation, system)
    raise UsageError(f"{root}: the topology does not settle")

"""Reading a sysfs tree: numeric order, every property, damaged and hidden files."""

from pathlib import Path

import pytest

from gputrace.errors import UsageError
from gputrace.kfd.topology import (
    Node,
    Topology,
    parse_properties,
    print_properties,
    read_topology,
    target_name,
)


def tree(root: Path, topology: Topology) -> Path:
    for name, text in topology.files().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def machine() -> Topology:
    cpu = Node(0, 0, "", {"cpu_cores_count": 8, "simd_count": 0})
    gpus = tuple(
        Node(
            index,
            0x1000 + index,
            "aqua vanjaram",
            {"gfx_target_version": 90402, "num_xcc": 8, "drm_render_minor": 127 + index},
            mem_banks=({"heap_type": 1, "size_in_bytes": 1 << 30},),
            io_links=tuple({"type": 2, "node_to": to} for to in range(12)),
        )
        for index in range(1, 12)
    )
    return Topology((cpu, *gpus), 3, {"platform_id": 7})


def test_a_written_tree_is_read_back_whole(tmp_path):
    assert read_topology(tree(tmp_path, machine())) == machine()


def test_nodes_and_links_come_in_numeric_order(tmp_path):
    topology = read_topology(tree(tmp_path, machine()))
    assert [node.index for node in topology.nodes] == list(range(12))
    assert [link["node_to"] for link in topology.nodes[1].io_links] == list(range(12))
    assert topology.gpus[0].gpu_id == 0x1001


def test_a_gpu_is_found_by_its_id_and_a_cpu_is_not():
    assert machine().gpu(0x1003).index == 3
    for unknown in (0, 0x2000):
        with pytest.raises(KeyError):
            machine().gpu(unknown)


def test_what_a_node_says_of_itself():
    node = machine().gpu(0x1001)
    assert (node.target, node.xccs, node.render_minor, node.memory) == ("gfx942", 8, 128, 1 << 30)
    assert node.get("no_such") == 0
    with pytest.raises(KeyError):
        node["no_such"]
    assert Node(1, 5, "", {}).xccs == 1


@pytest.mark.parametrize(
    ("version", "name"),
    [(90010, "gfx90a"), (90402, "gfx942"), (100300, "gfx1030"), (110000, "gfx1100"),
     (120001, "gfx1201"), (90500, "gfx950")],
)  # fmt: skip
def test_target_names(version, name):
    assert target_name(version) == name


def test_properties_keep_their_order_and_read_both_bases():
    text = "simd_count 1216\ncapability 0x2c77a280\n\nsibling_map 3,1,\n"
    assert dict(parse_properties(text)) == {
        "simd_count": 1216, "capability": 0x2C77A280, "sibling_map": 3,
    }  # fmt: skip
    assert print_properties(parse_properties("b 1\na 2\n")) == "b 1\na 2\n"


@pytest.mark.parametrize("text", ["simd_count\n", "simd_count 1 2\n", "simd_count many\n"])
def test_a_damaged_line_is_named(text):
    with pytest.raises(UsageError, match="line 1"):
        parse_properties(text)


def test_a_missing_tree_and_an_endless_file_are_usage_errors(tmp_path):
    with pytest.raises(UsageError, match="generation_id"):
        read_topology(tmp_path)
    with pytest.raises(UsageError, match=r"the amdgpu driver is not loaded.*emu:gfx942"):
        read_topology(tmp_path / "none")
    tree(tmp_path, machine())
    (tmp_path / "system_properties").write_text("x 1\n" * 100_000)
    with pytest.raises(UsageError, match="longer than"):
        read_topology(tmp_path)

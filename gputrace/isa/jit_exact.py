"""Which register reads of an instruction must be right in lanes that EXEC leaves out.

Most instructions look at a lane only to compute the same lane, and then only active lanes are
written or take part in an access: what stands in the others does not matter.
"""

from gputrace.isa import state
from gputrace.isa.graph import Graph, Node

_ACROSS = ("permute", "scatter", "read_lane", "write_lane", "ballot")
_MASKED = ("put_vector", "put_vector_at", "load", "store", "check", "aligned", "within", "atomic")


def is_exec(node: Node, wave_size: int) -> bool:
    """Return whether a node is EXEC as 64 bits, as `Trace.exec_mask` makes it."""
    if wave_size == 32:
        return node.prim == "zext" and _is_word(node.args[0], state.EXEC)
    if node.prim != "or":
        return False
    low, high = node.args
    return (
        low.prim == "zext"
        and _is_word(low.args[0], state.EXEC)
        and high.prim == "shl"
        and high.args[0].prim == "zext"
        and _is_word(high.args[0].args[0], state.EXEC + 1)
    )


def _is_word(node: Node, index: int) -> bool:
    return node.prim == "get_scalar" and node.attribute == index


def is_active(node: Node, wave_size: int) -> bool:
    """Return whether a node is EXEC as one bit a lane."""
    return node.prim == "lane_mask" and is_exec(node.args[0], wave_size)


def _within_active(node: Node, wave_size: int) -> bool:
    # A mask that has no lane which EXEC leaves out.
    if is_active(node, wave_size):
        return True
    return node.prim == "and" and any(_within_active(arg, wave_size) for arg in node.args)


def wants_all_lanes(graph: Graph, wave_size: int) -> frozenset[int]:
    """Return the indexes of the nodes whose value counts in lanes that are not active."""
    wanted: set[int] = set()
    masked = _only_masked(graph, wave_size)
    for node in reversed(graph.nodes):
        full = node.index in wanted
        if node.prim in _MASKED:
            full = full or not _within_active(node.args[-1], wave_size)
        elif node.prim in _ACROSS:
            full = node.index not in masked
        if full:
            wanted.update(arg.index for arg in node.args)
    return frozenset(wanted)


def _only_masked(graph: Graph, wave_size: int) -> set[int]:
    # Ballots that are used only together with EXEC.
    good = {node.index for node in graph.nodes if node.prim == "ballot"}
    for node in graph.nodes:
        if node.prim == "and" and any(is_exec(arg, wave_size) for arg in node.args):
            continue
        good.difference_update(arg.index for arg in node.args)
    return good

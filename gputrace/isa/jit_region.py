"""Find the code that belongs together: the blocks that an address leads to by direct jumps.

A region begins at one address and has further entries where compiled code may be left and entered
again: behind barriers and calls, and where jumps go back to. All addresses in it count from its
own first instruction, so that equal code at another address is the same region.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from gputrace.isa.graph import Graph, Node
from gputrace.isa.numpy_engine import NoMeaning

MOST_NODES = 8000
"""Nodes of all graphs of a region: what bounds the time to compile it."""
_MOST_IN_BLOCK = 48

_RETURNING = ("jump_to", "barrier", "sync")


@dataclass(frozen=True, slots=True)
class Item:
    """One instruction: its place in the region, its bytes, and what it does."""

    at: int
    size: int
    graph: Graph

    @property
    def last(self) -> Node:
        """Where the wave goes afterwards."""
        return self.graph.nodes[-1]

    @property
    def falls(self) -> bool:
        """Whether nothing but the next instruction can follow."""
        return self.last.prim == "jump" and self.last.attribute == self.at + self.size


@dataclass(slots=True)
class Region:
    """Blocks by the place of their first instruction; every block is complete."""

    blocks: dict[int, list[Item]] = field(default_factory=dict)
    entries: list[int] = field(default_factory=list)
    """Places where the region may be entered; the first is 0."""
    nodes: int = 0

    @property
    def instructions(self) -> int:
        """Number of instructions, those in several blocks counted as often."""
        return sum(len(block) for block in self.blocks.values())

    def spans(self) -> list[tuple[int, int]]:
        """Return the code that was read, as sorted (place, bytes) without overlaps."""
        spans: list[tuple[int, int]] = []
        for at, block in sorted(self.blocks.items()):
            end = block[-1].at + block[-1].size
            if spans and at <= spans[-1][0] + spans[-1][1]:
                start, size = spans[-1]
                spans[-1] = start, max(size, end - start)
            else:
                spans.append((at, end - at))
        return spans


def targets(item: Item) -> list[int]:
    """Return the places in the code to which an instruction may go by itself."""
    last = item.last
    match last.prim:
        case "jump" | "barrier":
            assert isinstance(last.attribute, int)
            return [last.attribute]
        case "branch":
            assert isinstance(last.attribute, tuple)
            return [int(target) for target in last.attribute]
    return []


def find_region(item_at: Callable[[int], Item]) -> Region:
    """Follow direct jumps from place 0; what is too far or has no meaning is left out.

    `item_at` gives the instruction at a place and raises NoMeaning for what cannot be compiled.
    Raises NoMeaning when that is the first one.
    """
    items: dict[int, Item] = {0: item_at(0)}
    leaders, entries = {0}, {0}
    waiting, region = deque([0]), Region()
    region.nodes = len(items[0].graph.nodes)
    while waiting:
        item = items[waiting.popleft()]
        follow = targets(item)
        after = item.at + item.size
        if item.last.prim in _RETURNING:
            follow.append(after)
            entries.add(after)
        entries.update(target for target in follow if target <= item.at)
        if not item.falls:
            leaders.update(follow)
        for place in follow:
            if place in items or region.nodes > MOST_NODES:
                continue
            try:
                items[place] = item_at(place)
            except NoMeaning:
                continue
            region.nodes += len(items[place].graph.nodes)
            waiting.append(place)
    _cut(region, items, leaders)
    region.entries = [0, *sorted((entries - {0}) & region.blocks.keys())]
    return region


def _cut(region: Region, items: dict[int, Item], leaders: set[int]) -> None:
    todo = sorted(leaders & items.keys())
    while todo:
        start = todo.pop()
        if start in region.blocks:
            continue
        block = [items[start]]
        while block[-1].falls:
            place = block[-1].at + block[-1].size
            if place in leaders or place not in items:
                break
            if len(block) == _MOST_IN_BLOCK:
                todo.append(place)
                break
            block.append(items[place])
        region.blocks[start] = block

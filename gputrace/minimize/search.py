"""The search for failures that come every time: bisection from both ends, over closures.

State: `known`, a closed set of items found to be required, and a window [low, high) of items not
yet decided; everything else is gone. The candidate of a window is the closure of its items plus
`known`, so it breaks no edge of the graph, and the candidate of the current window always fails.

*Prefix search* looks for the smallest end that still fails: the item just before it is the last
one still missing. *Suffix search* mirrors it: the item at the largest start that still fails.
Either way the item and its closure become known and the window shrinks to the other side of it.
On a stream where more items never hide the failure both cost about log2(window) runs per item.

When an item hides the failure until a later one undoes it, prefixes are cut between the two and
prefix search finds the harmless later ones one by one, while suffixes drop the earlier one first
and never meet the mask (and the reverse for the mirrored mask). So a search from the other end is
tried now and then, and the end that clears more items per run goes on.
"""

from dataclasses import dataclass

from gputrace.minimize.gate import Gate
from gputrace.minimize.graph import Graph, below, mask_of, members
from gputrace.minimize.oracle import Outcome
from gputrace.minimize.passes import Level

# Prefix runs resume from snapshots of the original stream and suffix runs cannot, so suffixes must
# clear clearly more items per run before they take over.
SUFFIX_ADVANTAGE = 2.0
# Below this many findings there is nothing to compare; then at each power of two, so that the
# checks cost the logarithm of what they guard.
FIRST_CHECK = 2
# Found items that prove superfluous show a mask that neither end avoids; asked from this many
# findings on, again at each power of two. Asking earlier would tax small results.
FIRST_DOUBT = 16
# Sinks beyond this number are first tried in groups: one run for 32 hopeless ones is cheap.
GROUP = 32


@dataclass
class End:
    """One end of the window: what its searches cost and cleared."""

    from_start: bool
    runs: int = 0
    cleared: int = 0
    barred: bool = False  # the graph lacks edges: cutting here gives streams that are not valid

    @property
    def pace(self) -> float:
        """Items cleared per run."""
        return self.cleared / max(self.runs, 1)


class StreamSearch:
    """Reduce a stream of items to a 1-minimal one that still fails."""

    name = "bisect items"
    level = Level.PACKET

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._bisected = False

    def run(self, gate: Gate[int]) -> None:
        """Bisect from both ends, delete chunks if masked, then remove sinks one by one."""
        if not self._bisected and bisect_window(gate, self.graph):
            delete_chunks(gate, self.graph)
        self._bisected = True
        remove_sinks(gate, self.graph)


class Window:
    """The state of the bisection; every step keeps `candidate(low, high)` failing."""

    def __init__(self, gate: Gate[int], graph: Graph) -> None:
        self.gate, self.graph, self.start = gate, graph, gate.best
        self.low, self.high = 0, graph.count
        self.known = 0
        self.found: list[int] = []
        self.prefix, self.suffix = End(from_start=False), End(from_start=True)

    def candidate(self, low: int, high: int) -> int:
        """Return the closed set for a window."""
        return self.graph.stretch(low, high) & self.start | self.known

    def fails(self, low: int, high: int) -> bool:
        """Ask the gate; the best candidate itself is known to fail."""
        candidate = self.candidate(low, high)
        return candidate == self.gate.best or self.gate.consider(candidate)

    def finished(self) -> bool:
        """Tell whether the known items fail alone."""
        return self.low >= self.high or self.fails(self.low, self.low)

    def search(self, end: End) -> None:
        """Find one more required item from one end of the window."""
        before = self.gate.costs.total + self.gate.recalled
        size = self.high - self.low
        item = self._from_start() if end.from_start else self._from_end()
        end.runs += self.gate.costs.total + self.gate.recalled - before
        end.cleared += size - (self.high - self.low)
        if item is not None:
            self.known |= self.graph.closure(1 << item) & self.start
            self.found.append(item)

    def _from_end(self) -> int:
        passes, fails = self.low, self.high
        while fails - passes > 1:
            middle = (passes + fails) // 2
            if self.fails(self.low, middle):
                fails = middle
            else:
                passes = middle
        self.high = fails - 1
        return self.high

    def _from_start(self) -> int | None:
        # None: a candidate closed by the graph was not valid, so suffixes are of no use here.
        fails, passes = self.low, self.high
        while passes - fails > 1:
            middle = (fails + passes) // 2
            if self.fails(middle, self.high):
                fails = middle
                continue
            passes = middle
            seen = self.gate.outcomes(self.candidate(middle, self.high))
            if Outcome.INVALID in seen or Outcome.OTHER in seen:
                self.suffix.barred = True
                self.low = fails
                return None
        self.low = fails + 1
        return fails

    def next_end(self) -> End:
        """Choose the end to search from; the other one is tried at each power of two."""
        if self.suffix.barred:
            return self.prefix
        better, other = self.prefix, self.suffix
        if self.suffix.pace > SUFFIX_ADVANTAGE * self.prefix.pace:
            better, other = other, better
        count = len(self.found)
        return other if count >= FIRST_CHECK and count.bit_count() == 1 else better

    def masked(self) -> bool:
        """Tell whether found items turn out superfluous: the sign of a mask at both ends."""
        count = len(self.found)
        if count < FIRST_DOUBT or count.bit_count() != 1:
            return False
        sinks = self.graph.sinks(self.gate.best)
        sample = [item for item in self.found if sinks >> item & 1][:2]
        gone = [self.gate.consider(self.gate.best & ~(1 << item)) for item in sample]
        return len(gone) == 2 and all(gone)


def bisect_window(gate: Gate[int], graph: Graph) -> bool:
    """Shrink the best candidate to known items; True when masking stopped it.

    At most k * (ceil(log2 n) + 1) + 1 runs for k items on a stream where more items never hide the
    failure and the graph is full.
    """
    window = Window(gate, graph)
    while not window.finished():
        if window.masked():
            return True
        window.search(window.next_end())
    return False


def delete_chunks(gate: Gate[int], graph: Graph) -> None:
    """Delete chunks with all that stands on them, front to back, halving the chunk.

    For masked streams: front to back takes what hides a failure before what undoes it.
    """
    size = max(1, gate.best.bit_count() // 2)
    while True:
        items = list(members(gate.best))
        for start in range(0, len(items), size):
            chunk = mask_of(items[start : start + size]) & gate.best
            if chunk:
                gate.consider(gate.best & ~graph.cone(chunk, gate.best))
        if size == 1:
            return
        size //= 2


def remove_sinks(gate: Gate[int], graph: Graph) -> None:
    """Try to remove each item that no other needs, last to first, until none can go.

    Afterwards no single item can be taken away without breaking a hard edge or losing the failure.
    """
    _remove_groups(gate, graph)
    kept: set[int] = set()
    at = graph.count
    while True:
        open_sinks = [item for item in members(graph.sinks(gate.best)) if item not in kept]
        if not open_sinks:
            return
        # Go on below the last one tried and start over from the end only when nothing is left
        # there: beginning again after each success would try the same refused sinks every time.
        lower = graph.sinks(gate.best) & below(at) & ~mask_of(kept)
        at = lower.bit_length() - 1 if lower else open_sinks[-1]
        if gate.consider(gate.best & ~(1 << at)):
            kept.clear()
        else:
            kept.add(at)


def _remove_groups(gate: Gate[int], graph: Graph) -> None:
    # Halves of all sinks, never all of them at once: something has to be left that fails.
    sinks = list(members(graph.sinks(gate.best)))
    if len(sinks) <= GROUP:
        return
    middle = len(sinks) // 2
    groups = [sinks[:middle], sinks[middle:]]
    while groups:
        group = groups.pop()
        if gate.consider(gate.best & ~mask_of(group)) or len(group) <= GROUP:
            continue
        middle = len(group) // 2
        groups += [group[:middle], group[middle:]]

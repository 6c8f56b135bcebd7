"""Record the workloads of `gputrace.cli.workloads` again: what stands in `traces/`.

Usage: tools/make_traces.py [--check | --minimize] [NAME ...]. For each workload and target there
are a capture, `NAME-TARGET.gtrace`, and its rendering as text. With --check nothing is written: the
exit code is 1 when a stored capture differs from what its workload does now. With --minimize the
captures that fail are reduced as well, to `NAME-TARGET.min.gtrace`, beside it the report.

The same for programs that know nothing of gputrace (`tools.foreign`), where what they need is
installed; no two runs of these are alike, so --check leaves them out.

What differs from run to run without meaning anything is made regular, so that the same program
gives the same bytes: numbers of threads, places that the operating system chose (the doorbell
pages and the arrays behind the pointers of ioctls), and what the capture itself cost.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from gputrace.bits import Record
from gputrace.cli import workloads
from gputrace.cli.workloads.frame import Workload, perform
from gputrace.driver.arena import ARENA_BASE, ARENA_COUNT, ARENA_SIZE, PAGE, round_up
from gputrace.errors import UsageError
from gputrace.formats.ioctl import RECORDS
from gputrace.trace import events
from gputrace.trace.reader import TraceReader
from gputrace.trace.writer import TraceWriter

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import foreign  # noqa: E402
from tools.foreign import Foreign  # noqa: E402

TRACES = ROOT / "traces"
TARGETS = ("gfx942", "gfx1100")
PLACES = 0x2000_0000_0000
"""Where the reservations go that the operating system placed: free in every process."""
POINTERS = 0x3000_0000_0000
"""Where arrays of ioctls go; a replay makes its own."""
COMPRESSION = 19


class Regular:
    """Turns the events of one run into those that every run would give."""

    def __init__(self) -> None:
        self._threads: dict[int, int] = {}
        self._moved: list[tuple[int, int, int]] = []  # recorded start, size, new start
        self._next = PLACES
        self._pointers = POINTERS

    def event(self, event: events.Event) -> events.Event | None:
        """Return an event made regular, None for one that is left out."""
        if isinstance(event, events.Cost):
            return None
        if isinstance(event, events.Reserve) and not _in_arena(event.address):
            self._moved.append((event.address, event.size, self._next))
            self._next += round_up(event.size, PAGE) + PAGE
        if isinstance(event, events.Ioctl):
            event = self._ioctl(event)
        changes: dict[str, int] = {}
        address, thread = getattr(event, "address", None), getattr(event, "thread", None)
        if address is not None:
            changes["address"] = self._place(address)
        if thread is not None:
            changes["thread"] = self._threads.setdefault(thread, len(self._threads) + 1)
        return replace(event, **changes) if changes else event

    def _place(self, address: int) -> int:
        for start, size, new in self._moved:
            if start <= address < start + size:
                return new + address - start
        return address

    def _ioctl(self, event: events.Ioctl) -> events.Ioctl:
        layout = RECORDS.get(event.record)
        if layout is None or not event.payloads:
            return event
        places: dict[str, int] = {}
        for payload in event.payloads:
            places[payload.field] = self._pointers
            self._pointers += round_up(max(len(payload.before), len(payload.after), 1), PAGE)
        payloads = tuple(one._replace(address=places[one.field]) for one in event.payloads)
        before, after = _pointing(layout, event.before, places), event.after
        return replace(
            event, before=before, after=_pointing(layout, after, places), payloads=payloads
        )


def _in_arena(address: int) -> bool:
    return ARENA_BASE <= address < ARENA_BASE + ARENA_COUNT * ARENA_SIZE


def _pointing(layout: type[Record], data: bytes, places: dict[str, int]) -> bytes:
    record = layout.from_bytes(data)
    named = {name: place for name, place in places.items() if name in layout.BY_NAME}
    return record.replace(**{k: v for k, v in named.items() if getattr(record, k)}).to_bytes()


def rewrite(source: Path, target: Path) -> None:
    """Write the trace at `source` anew, made regular and well compressed."""
    regular = Regular()
    with TraceReader(source) as trace:
        writer = TraceWriter(target, trace.header, level=COMPRESSION)
        for event in list(trace)[1:]:
            made = regular.event(event)
            if isinstance(made, events.Memory) and made.chunks:
                data = b"".join(data for _, data in trace.pieces(made))
                writer.memory(made.address, data, made.provenance, made.step)
            elif isinstance(made, events.Digest) and made.stored:
                data = b"".join(data for _, data in trace.pieces(made))
                unstable = made.unstable
                writer.digest(made.address, data, store=True, unstable=unstable, step=made.step)
            elif made is not None:
                writer.append(made)
        writer.close()


def captures(names: list[str]) -> Iterator[tuple[Workload, str, Path]]:
    """Give each workload of these names, target and path below `traces/`."""
    for name in names:
        for target in TARGETS:
            yield workloads.find(name), target, TRACES / f"{name}-{target}.gtrace"


def capture_foreign(one: Foreign, folder: Path) -> Path:
    """Record a program that knows nothing of gputrace. Raises UsageError for what is missing."""
    path = folder / f"{one.name}-{one.target}.gtrace"
    raw = folder / f"raw-{path.name}"
    foreign.record(raw, one.device, one.command(folder), one.variables)
    rewrite(raw, path)
    return path


def capture(workload: Workload, target: str, path: Path) -> None:
    """Record a workload to `path`. Raises SystemExit when it does not end as it says."""
    raw, device = path.with_name(f"raw-{path.name}"), workload.device(target)
    done = perform(workload, device, record=str(raw))
    if done.ending != workload.ending:
        sys.exit(f"{workload.name} on {device}: {done.ending}, not {workload.ending}: {done.text}")
    rewrite(raw, path)


def command(*arguments: str) -> str:
    """Run gputrace beside the traces and return what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "gputrace.cli.main", *arguments],
        cwd=TRACES, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip


def store(made: Path, path: Path, minimize: bool) -> None:
    """Put a capture into `traces/`, with what is made from it."""
    TRACES.mkdir(exist_ok=True)
    path.write_bytes(made.read_bytes())
    path.with_suffix(".txt").write_text(command("dump", path.name))
    if minimize:
        small = path.with_suffix(".min.gtrace")
        command("minimize", path.name, "-o", small.name)
        small.chmod(0o644)
        small.with_suffix(".py").unlink()


def main() -> int:
    """Record all; return how the process should exit."""
    options = {one for one in sys.argv[1:] if one[:1] == "-"}
    if options - {"--check", "--minimize"}:
        sys.exit(__doc__)
    check, names = "--check" in options, [one for one in sys.argv[1:] if one not in options]
    names = names or [*workloads.NAMES, *foreign.STORED]
    others = [] if check else [one for one in foreign.stored() if one.name in names]
    differing = 0
    with tempfile.TemporaryDirectory() as folder:
        known = [one for one in names if one not in foreign.STORED]
        for workload, target, path in captures(known):
            made = Path(folder) / path.name
            capture(workload, target, made)
            same = path.exists() and path.read_bytes() == made.read_bytes()
            print(f"{path.name}: {made.stat().st_size} bytes, {'same' if same else 'differs'}")
            differing += not same
            if not check:
                store(made, path, "--minimize" in options and bool(workload.minimum))
        for one in others:
            try:
                made = capture_foreign(one, Path(folder))
            except UsageError as problem:
                print(f"{one.name}: left out: {problem}")
                continue
            print(f"{made.name}: {made.stat().st_size} bytes")
            store(made, TRACES / made.name, "--minimize" in options and bool(one.minimum))
    return 1 if check and differing else 0


if __name__ == "__main__":
    sys.exit(main())

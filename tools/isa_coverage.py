"""Write tests/goldens/isa-coverage.md, the table of all instructions; --check says if it is stale.

    python tools/isa_coverage.py [--check]

It is what `gputrace isa --target all` prints, made short: names are grouped by the targets that
have them.
"""

import sys
import textwrap
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gputrace.isa.coverage import ABSENT, GRAPHICS, Entry, coverage  # noqa: E402
from gputrace.isa.decode import TARGETS  # noqa: E402

PATH = ROOT / "tests" / "goldens" / "isa-coverage.md"
HEAD = """\
# Instructions that the emulated device executes

Written by `tools/isa_coverage.py`; the tests compare it with the code. The inventory of each target
is LLVM's without the encodings of images, ray tracing, interpolation and exports, which are refused
whole. An instruction that is not modelled stops its wave with its name and address.

A **witness** is something besides gputrace's two engines that the tests compare with: a plain
computation on whole numbers, exact fractions or many digits (`tests/isa`; functions that hardware
approximates are within one unit in the last place of the exact value), or a compiled kernel whose
result is known (`tests/kernels`). Both engines are compared bit for bit for every instruction.
**Absent** is what LLVM decodes for a target whose hardware has not got it.

| target | instructions | graphics | absent | compute | modelled | with a witness |
|---|---|---|---|---|---|---|
"""


def row(target: str, entries: list[Entry]) -> str:
    """Return the line of a target in the first table."""
    graphics, absent = (sum(e.reason == why for e in entries) for why in (GRAPHICS, ABSENT))
    modelled = [entry for entry in entries if entry.modelled]
    compute = sum(entry.compute for entry in entries)
    seen = sum(bool(entry.witness) for entry in modelled)
    share = f"{len(modelled)} ({len(modelled) / compute:.1%})"
    counts = f"{len(entries)} | {graphics} | {absent} | {compute}"
    return f"| {target} | {counts} | {share} | {seen} |"


def text() -> str:
    """Return the page."""
    found = {target: coverage(target) for target in TARGETS}
    where: dict[str, list[str]] = defaultdict(list)
    entry_of: dict[str, Entry] = {}
    for target, entries in found.items():
        for entry in entries:
            where[entry.name].append(target)
            entry_of[entry.name] = entry
    refused: dict[str, list[str]] = defaultdict(list)
    groups: dict[str, list[str]] = defaultdict(list)
    for name, entry in sorted(entry_of.items()):
        if entry.reason:
            refused[entry.reason].append(name)
            continue
        mark = {"kernel": "*", "": "?"}.get(entry.witness, "")
        groups[" ".join(where[name])].append(name + mark)
    parts = [HEAD + "\n".join(row(target, entries) for target, entries in found.items())]
    parts.append("## Not modelled")
    parts += [_wrapped(f"- {reason}: {' '.join(names)}", "  ") for reason, names in refused.items()]
    parts.append(
        "## Modelled\n\nA star: the witness is a compiled kernel; a question mark: there is none."
    )
    for targets, names in sorted(groups.items(), key=lambda item: -len(item[1])):
        parts.append(f"### {targets} ({len(names)})\n\n```\n{_wrapped(' '.join(names), '')}\n```")
    return "\n\n".join(parts) + "\n"


def _wrapped(line: str, indent: str) -> str:
    return textwrap.fill(
        line, 100, break_on_hyphens=False, break_long_words=False, subsequent_indent=indent
    )


def main() -> int:
    """Write the page, or compare it; the status is 1 when it is stale."""
    if "--check" in sys.argv[1:]:
        if PATH.exists() and PATH.read_text() == text():
            return 0
        print(f"{PATH.relative_to(ROOT)} is stale: run python tools/isa_coverage.py")
        return 1
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

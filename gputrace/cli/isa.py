"""`gputrace isa`: which instructions of a target the emulator executes."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import click

from gputrace.cli.common import json_option, show
from gputrace.isa.coverage import Entry, coverage
from gputrace.isa.decode import TARGETS


@click.command("isa")
@click.option("--target", default="gfx942", show_default=True, help="a target, or `all`")
@click.option("--missing", is_flag=True, help="only what is not modelled")
@json_option
def command(target: str, missing: bool, as_json: bool) -> None:
    """List the instructions of a target: modelled, with which witness, or why not."""
    found = {name: coverage(name) for name in (TARGETS if target == "all" else (target,))}
    data = {name: _data(entries, missing) for name, entries in found.items()}
    show(as_json, data, _lines(data))


def _data(entries: list[Entry], missing: bool) -> dict[str, Any]:
    reasons = Counter(entry.reason for entry in entries if entry.reason)
    compute = sum(entry.compute for entry in entries)
    modelled = sum(entry.modelled for entry in entries)
    return {
        "instructions": len(entries),
        "modelled": modelled,
        "of_compute": compute,
        "share_of_compute": round(modelled / compute, 4),
        "with_witness": sum(entry.modelled and bool(entry.witness) for entry in entries),
        "not_modelled": dict(reasons.most_common()),
        "list": [
            {
                "name": entry.name,
                "encodings": list(entry.encodings),
                "modelled": entry.modelled,
                "witness": entry.witness,
                "reason": entry.reason,
            }
            for entry in entries
            if not (missing and entry.modelled)
        ],
    }


def _lines(data: dict[str, Any]) -> Iterator[str]:
    for target, found in data.items():
        yield (
            f"{target}: {found['modelled']} of {found['of_compute']} instructions that are not "
            f"graphics are modelled ({found['share_of_compute']:.1%}); "
            f"{found['with_witness']} have a witness"
        )
        for reason, count in found["not_modelled"].items():
            yield f"  not modelled: {count:>4}  {reason}"
        for one in found["list"]:
            what = "modelled" if one["modelled"] else f"not modelled: {one['reason']}"
            witness = f" (witness: {one['witness']})" if one["witness"] else ""
            encodings = ",".join(one["encodings"])
            yield f"  {one['name']:<36} {encodings:<16} {what}{witness}"

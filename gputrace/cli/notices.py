"""Print what a served program should know: refusals, and faults of its GPU."""

import json
import sys

import click

from gputrace.interpose.program import Notice

LIMIT = 20
"""Faults shown; a broken kernel may fault in every wave."""


class Notices:
    """Prints notices on stderr as they come, in whatever thread, as text or as lines of JSON."""

    def __init__(self, as_json: bool) -> None:
        self._as_json, self._faults = as_json, 0

    def tell(self, notice: Notice) -> None:
        """Print one notice."""
        self._faults += notice.what == "fault"
        if self._as_json:
            line = {"what": notice.what, "process": notice.process, "text": notice.text}
            print(json.dumps(line), file=sys.stderr, flush=True)
        elif notice.what != "fault" or self._faults <= LIMIT:
            print(f"gputrace: {notice.what}: {notice.text}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Say how many faults were not shown."""
        if self._faults > LIMIT and not self._as_json:
            click.echo(f"gputrace: {self._faults - LIMIT} further faults are not shown", err=True)

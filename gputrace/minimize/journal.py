"""What was run and what came of it, on disk, one checksummed line per run.

A line is eight hexadecimal digits (CRC-32 of the rest), a space, and a JSON object. The first
object names the reduction; each other one holds the hash of the candidate and the verdict. A killed
process leaves at most a torn last line, which opening cuts off; damage anywhere else is refused.
"""

import json
import os
import zlib
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from gputrace.errors import TraceError, UsageError
from gputrace.minimize.oracle import Outcome, Verdict

VERSION = 1


def _line(entry: dict[str, object]) -> bytes:
    text = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parse(line: bytes) -> dict[str, object] | None:
    # None: the line is torn or damaged.
    text = line[9:-1]
    if not line.endswith(b"\n") or line[:9] != b"%08x " % zlib.crc32(text):
        return None
    entry = json.loads(text)
    return entry if isinstance(entry, dict) else None


def _verdict(entry: dict[str, object], where: str) -> tuple[str, Verdict]:
    match entry:
        case {"c": str(digest), "o": str(outcome), "s": str(signature), "t": int() | float() as t}:
            if outcome in {each.value for each in Outcome}:
                return digest, Verdict(Outcome(outcome), signature, float(t))
    raise TraceError(where, "is not a journal entry of a known form")


class Journal:
    """An append-only record of runs; opened anew, it answers for the runs it holds."""

    def __init__(self, path: Path, subject: str, durable: bool = False) -> None:
        """Open or create the journal at `path` for the reduction named `subject`.

        `durable` waits for the disk after each line. Raises UsageError when the file belongs to
        another reduction, TraceError when a line before the last is damaged.
        """
        self.path, self.durable = path, durable
        self._past: dict[str, deque[Verdict]] = {}
        self.recorded = 0
        kept = self._read(subject)
        self._file: BinaryIO = open(path, "ab")  # noqa: SIM115  (closed by close)
        if kept == 0:
            self._file.truncate(0)
            self._write({"version": VERSION, "subject": subject})
        else:
            self._file.truncate(kept)

    def _read(self, subject: str) -> int:
        # Returns the length of the sound part; only the last line may be unsound.
        data = self.path.read_bytes() if self.path.exists() else b""
        lines = data.splitlines(keepends=True)
        kept = 0
        for number, line in enumerate(lines):
            where = f"{self.path.name} line {number + 1}"
            entry = _parse(line)
            if entry is None:
                if number + 1 < len(lines):
                    raise TraceError(where, "its checksum does not match; it is not the last line")
                break
            if number == 0:
                if entry.get("version") != VERSION or entry.get("subject") != subject:
                    raise UsageError(
                        f"{self.path} belongs to another reduction: expected version {VERSION} of "
                        f"{subject!r}, found version {entry.get('version')} of "
                        f"{entry.get('subject')!r}; name another journal or delete this one"
                    )
            else:
                digest, verdict = _verdict(entry, where)
                self._past.setdefault(digest, deque()).append(verdict)
                self.recorded += 1
            kept += len(line)
        return kept

    def _write(self, entry: dict[str, object]) -> None:
        self._file.write(_line(entry))
        self._file.flush()
        if self.durable:
            os.fsync(self._file.fileno())

    def recall(self, digest: str) -> Verdict | None:
        """Return the next recorded run of a candidate, in the order they were made, or None."""
        past = self._past.get(digest)
        return past.popleft() if past else None

    def add(self, digest: str, verdict: Verdict) -> None:
        """Write one run."""
        self._write(
            {
                "c": digest,
                "o": verdict.outcome.value,
                "s": verdict.signature,
                "t": verdict.cost,
            }
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

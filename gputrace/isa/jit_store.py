"""Compiled code on disk: a private directory, one file for each region, checksums on everything.

A file that is damaged, or was written by somebody else, counts as absent. The directory is
$XDG_CACHE_HOME/gputrace/jit or ~/.cache/gputrace/jit; it belongs to the user alone (mode 0700).
"""

import hashlib
import json
import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

_MAGIC = b"gputrace-jit-1\n"
_DIGEST = 32
_MOST_FILES = 2048
_MOST_BYTES = 64 << 20  # of one file


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled region: what must be known of it beside its object code.

    `spans` are (place, bytes) of the code that it was made of, from its first instruction, and
    `digest` is that of those bytes. `entries` are the places where it may be entered. `ordered`
    tells that it has atomics on memory or reads the clock: what depends on all that ran before.
    """

    spans: tuple[tuple[int, int], ...]
    digest: str
    entries: tuple[int, ...]
    sites: int
    imports: tuple[str, ...]
    written: tuple[int, ...]
    instructions: int
    ordered: bool
    code: bytes


@cache
def sources() -> bytes:
    """Return a digest of this package's sources: what instructions mean, and how they compile.

    They are told apart as Python tells whether what it compiled of them is current: by place, size
    and time of change. To read them all would take half of the time of a start.
    """
    digest = hashlib.blake2b(digest_size=16)
    for folder, below, names in os.walk(Path(__file__).parent):
        below.sort()
        for name in sorted(names):
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                about = os.stat(path)
                digest.update(f"{path} {about.st_size} {about.st_mtime_ns}\n".encode())
    return digest.digest()


def default_folder() -> Path:
    """Return the directory in which compiled code is kept."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return home / "gputrace" / "jit"


class Store:
    """Compiled regions in a directory; without a private directory it stores nothing."""

    def __init__(self, folder: Path | None = None) -> None:
        self._wanted = folder
        self._folder: Path | None = None
        self._ready = False

    @property
    def folder(self) -> Path | None:
        """The directory, None when there can be none that is private."""
        if not self._ready:
            self._ready = True
            with suppress(OSError, RuntimeError):
                folder = self._wanted or default_folder()
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                found = folder.lstat()
                private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
                self._folder = folder if private and found.st_uid == os.geteuid() else None
        return self._folder

    def get(self, key: str) -> Compiled | None:
        """Return what was stored under a key; None when there is nothing that is whole."""
        if self.folder is None:
            return None
        try:
            with open(self.folder / key, "rb") as file:
                if os.fstat(file.fileno()).st_size > _MOST_BYTES:
                    return None
                raw = file.read()
        except OSError:
            return None
        return _unpack(raw)

    def put(self, key: str, compiled: Compiled) -> None:
        """Store a region; what cannot be written is left out."""
        if self.folder is None:
            return
        with suppress(OSError):
            self._trim(self.folder)
            handle, name = tempfile.mkstemp(prefix=".new-", dir=self.folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_pack(compiled))
                os.replace(name, self.folder / key)
            except OSError:
                os.unlink(name)
                raise

    def _trim(self, folder: Path) -> None:
        with os.scandir(folder) as found:
            files = list(found)
        if len(files) < _MOST_FILES:
            return
        files.sort(key=lambda entry: entry.stat(follow_symlinks=False).st_mtime)
        for entry in files[: _MOST_FILES // 4]:
            with suppress(OSError):
                os.unlink(entry.path)


def _pack(compiled: Compiled) -> bytes:
    about = asdict(compiled)
    code: bytes = about.pop("code")
    head = json.dumps(about).encode()
    body = b"".join((len(head).to_bytes(4, "little"), head, code))
    whole = hashlib.blake2b(body, digest_size=_DIGEST).digest()
    return b"".join((_MAGIC, whole, body))


def _unpack(raw: bytes) -> Compiled | None:
    start = len(_MAGIC) + _DIGEST
    body = raw[start:]
    whole = hashlib.blake2b(body, digest_size=_DIGEST).digest()
    if not raw.startswith(_MAGIC) or raw[len(_MAGIC) : start] != whole:
        return None
    size = int.from_bytes(body[:4], "little")
    try:
        about: dict[str, Any] = json.loads(body[4 : 4 + size])
        about["spans"] = tuple((int(at), int(count)) for at, count in about["spans"])
        for name in ("entries", "imports", "written"):
            about[name] = tuple(about[name])
        return Compiled(**about, code=body[4 + size :])
    except (KeyError, TypeError, ValueError):
        return None  # whole, but not written by this version

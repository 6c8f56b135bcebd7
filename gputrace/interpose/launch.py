"""Start a program with the preloaded library in it, and serve it until it ends."""

import os
import queue
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from gputrace.capture.window import USUAL, Settings
from gputrace.errors import UsageError
from gputrace.interpose.attend import attend
from gputrace.interpose.emulated import MakeDevice, emulated_programs
from gputrace.interpose.library import preload_library
from gputrace.interpose.program import Notice
from gputrace.interpose.server import Server
from gputrace.interpose.tapped import tapped_programs
from gputrace.interpose.tree import write_tree
from gputrace.kfd.topology import SYSFS, Topology, read_topology

# ROCr takes memory for its own use from the device instead of registering pages of the program.
_SETTINGS = {"HSA_USERPTR_FOR_PAGED_MEM": "0"}
# ROCr gives small buffers pages of their own, where it else cuts them out of larger ones: so an
# access beyond a buffer, or after it was freed, is one that the device can see.
_EXACT = {"HSA_DISABLE_FRAGMENT_ALLOCATOR": "1"}
UNCHECKED = (
    "reads of memory that nobody has written, in programs that do not use gputrace: not all that "
    "they store is seen"
)
"""What check=bytes does not look at in programs that are served."""
_GO = ".go.buildinfo"  # a section that Go's linker makes


@dataclass
class Ended:
    """How a program ended: `status` as a shell shows it, what was refused to it, its traces."""

    status: int
    refused: Counter[str] = field(default_factory=Counter)
    traces: list[Path] = field(default_factory=list)


def find_program(name: str) -> Path:
    """Return the file of a program that can be served. Raises UsageError that says why not."""
    found = shutil.which(name)
    if found is None:
        raise UsageError(f"{name}: no such program")
    path = Path(found).resolve()
    mode = path.stat().st_mode
    if mode & (stat.S_ISUID | stat.S_ISGID):
        raise UsageError(f"{path}: a set-user-ID program cannot be served: it ignores LD_PRELOAD")
    _check_linked(path)
    return Path(found).absolute()  # a Path forgets the "./" that keeps a name from PATH's search


def _check_linked(path: Path) -> None:
    with _opened(path) as program:
        if program is None:
            return  # a script: its interpreter is what matters, and that is found by the kernel
        if program.elfclass != 8 * struct.calcsize("P"):
            raise UsageError(f"{path}: a {program.elfclass}-bit program cannot be served")
        kinds = {segment["p_type"]: segment for segment in program.iter_segments()}
        if "PT_INTERP" not in kinds:
            raise UsageError(f"{path}: a statically linked program cannot be served")
        loader = kinds["PT_INTERP"].data().rstrip(b"\0").decode(errors="replace")
        if "musl" in loader:
            raise UsageError(f"{path}: a program for another C library ({loader}) cannot be served")


@contextmanager
def _opened(path: Path) -> Iterator[ELFFile | None]:
    # None for what is no ELF file.
    with path.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            yield None
            return
        file.seek(0)
        try:
            yield ELFFile(file)
        except ELFError as error:
            raise UsageError(f"{path}: not a program: {error}") from None


def _blind_spot(path: Path) -> str:
    # What of a program that can be served goes unseen, or nothing.
    with _opened(path.resolve()) as program:
        if program is None or program.get_section_by_name(_GO) is None:
            return ""
    return (
        f"{path.name} is a Go program: what Go code opens itself, without the C library, is "
        "neither served nor recorded"
    )


@dataclass(frozen=True)
class Served:
    """The server of programs, and what they need in their environment to be served."""

    server: Server
    library: Path
    variables: Mapping[str, str]
    exact: bool = False

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return an environment with what is needed added."""
        preload = " ".join(filter(None, (str(self.library), given.get("LD_PRELOAD"))))
        return {**_SETTINGS, **given, **self.variables, "LD_PRELOAD": preload}

    def attend(
        self,
        command: Sequence[str],
        given: Mapping[str, str],
        started: Callable[["subprocess.Popen[bytes]"], None] = lambda child: None,
    ) -> int:
        """Run a program to its end and return its status, as a shell shows it.

        Raises UsageError for one that cannot be served.
        """
        program = find_program(command[0])
        if text := _blind_spot(program):
            self.server.tell(Notice("unseen", os.getpid(), text))
        if self.exact:
            self.server.tell(Notice("unchecked", os.getpid(), UNCHECKED))
        whole, environment = [str(program), *command[1:]], self.environment(given)
        return attend(whole, environment, started, self.server.gone)


@contextmanager
def serving(
    make: MakeDevice,
    topology: Topology,
    tell: Callable[[Notice], None],
    trace: Path | None = None,
    settings: Settings = USUAL,
    *,
    exact: bool = False,
) -> Iterator[Served]:
    """Serve programs that are started inside the block. Raises UsageError without the library.

    `make` makes each program's device. With `trace` programs are recorded: the first into this
    file, further ones into files beside it; `make` makes RecordedKfds then. With `exact` runtimes
    that cut several buffers out of one are told not to.
    """
    library = preload_library()
    with _folder() as folder:
        tree, place = folder / "tree", folder / "socket"
        tree.mkdir()
        write_tree(tree, topology)
        variables = {"GPUTRACE_SOCKET": str(place), "GPUTRACE_TREE": str(tree)}
        variables |= _EXACT if exact else {}
        with Server(emulated_programs(make, trace, settings), place, tell) as server:
            yield Served(server, library, variables, exact)


@contextmanager
def tapping(
    tell: Callable[[Notice], None], trace: Path, *, mode: str, durable: bool
) -> Iterator[Served]:
    """Record programs that are started inside the block on the machine's own GPUs.

    Raises UsageError without the library and without GPUs.
    """
    library, topology = preload_library(tap=True), read_topology(SYSFS)
    with _folder() as folder:
        place = folder / "socket"
        with Server(tapped_programs(topology, trace, mode, durable), place, tell) as server:
            yield Served(server, library, {"GPUTRACE_TAP": str(place)})


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gputrace-") as name:  # which is closed to others
        yield Path(name)


def run(
    command: Sequence[str],
    make: MakeDevice,
    topology: Topology,
    *,
    tell: Callable[[Notice], None],
    strict: bool = False,
    exact: bool = False,
    trace: Path | None = None,
) -> Ended:
    """Run a program to its end on devices that `make` makes. Raises UsageError.

    `tell` gets notices as they come, in other threads. With `strict` the program is killed when
    something is refused because it is not modelled; `exact` is as for `serving`. With `trace` it is
    recorded into that file, on the RecordedKfd that `make` then makes, and each child that opens
    the KFD into one beside it.
    """
    child: queue.Queue[subprocess.Popen[bytes]] = queue.Queue()
    server_of: list[Served] = []

    def notice(one: Notice) -> None:
        tell(one)
        if strict and one.what == "refused":
            first = child.get()
            child.put(first)
            if one.process != first.pid:
                _kill_served(one.process, server_of[0])
            first.kill()

    with serving(make, topology, notice, trace, exact=exact) as served:
        server_of.append(served)
        status = served.attend(command, os.environ, child.put)
    server = served.server
    return Ended(status, server.refused, server.traces)


def _kill_served(process: int, served: Served) -> None:
    # A child of the program: the number may be another process's by now, which is left alone.
    place = served.variables["GPUTRACE_SOCKET"].encode()
    with suppress(OSError):
        if b"GPUTRACE_SOCKET=" + place in Path(f"/proc/{process}/environ").read_bytes():
            os.kill(process, signal.SIGKILL)

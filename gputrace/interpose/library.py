"""Find the preloaded library, or build it with the system's compiler.

There are two of the same sources: one serves an emulated device, the other taps the machine's own.
They are different files, so that one program can have both.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from gputrace.errors import UsageError

NAMES = {False: "libgputrace_preload.so", True: "libgputrace_tap.so"}
"""By whether it is the tap."""
FLAGS = ("-std=gnu11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden")
WARNINGS = ("-Wall", "-Wextra", "-Werror")
_HERE = Path(__file__).parent
_SOURCES = ("preload.c", "tap.c", "tap.h", "protocol.h")


def compile_to(target: Path, compiler: str, *extra: str, tap: bool = False) -> None:
    """Compile one of the libraries. Raises UsageError with what the compiler says."""
    sources = [str(_HERE / name) for name in _SOURCES if name.endswith(".c")]
    command = [compiler, *FLAGS, f"-DTAP={int(tap)}", *extra, *sources, "-o", str(target), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        first = next(iter(done.stderr.splitlines()), "no message")
        raise UsageError(f"{compiler} cannot build the preloaded library: {first}")


def preload_library(*, tap: bool = False) -> Path:
    """Return a library that `pip install` built, else build it once into the cache.

    Raises UsageError when neither is there.
    """
    installed = _HERE / NAMES[tap]
    if installed.exists():
        return installed
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise UsageError(
            "programs that know nothing of gputrace need a small C library, and there is no "
            "compiler to build it: install gcc, then try again"
        )
    content = b"".join((_HERE / name).read_bytes() for name in _SOURCES)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gputrace"
    target = cache / f"{hashlib.blake2b(content, digest_size=16).hexdigest()}-{NAMES[tap]}"
    if not target.exists():
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = target.with_suffix(f".{os.getpid()}")
        compile_to(made, compiler, tap=tap)
        made.replace(target)
    return target

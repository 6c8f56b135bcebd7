"""Rebuild the code objects of tests and workloads from the sources beside them.

Needs clang-19 and lld-19.

Usage: tools/build_kernels.py [--check]. With --check nothing is written: the exit code is 1 when a
stored object differs from what the compiler makes now.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (
    (ROOT / "tests" / "kernels", ("O0", "O1", "O3")),
    (ROOT / "gputrace" / "cli" / "workloads" / "kernels", ("O3",)),
)
TARGETS = ("gfx90a", "gfx942", "gfx1030", "gfx1100", "gfx1201")
COMPILER = (
    "clang-19 -x cl -cl-std=CL2.0 -target amdgcn-amd-amdhsa -nogpulib -ffp-contract=off -fno-ident"
    " -cl-fp32-correctly-rounded-divide-sqrt -Wall -Werror -Wl,--strip-all"
)


def build(source: Path, target: str, level: str, folder: Path) -> bytes:
    """Compile one source and return the code object."""
    out = folder / "out.co"
    options = [*COMPILER.split(), f"-mcpu={target}", f"-{level}", source.name, "-o", str(out)]
    subprocess.run(options, check=True, cwd=source.parent)
    return out.read_bytes()


def objects() -> Iterator[tuple[Path, Path, str, str]]:
    """Give each code object's path, its source, target and optimization level."""
    for kernels, levels in FOLDERS:
        for source in sorted(kernels.glob("*.cl")):
            for target in TARGETS:
                for level in levels:
                    name = f"{source.stem}-{level}.co"
                    yield kernels / "built" / target / name, source, target, level


def main() -> int:
    """Build all; return how the process should exit."""
    check = "--check" in sys.argv[1:]
    differing = []
    with tempfile.TemporaryDirectory() as folder:
        for path, source, target, level in objects():
            made = build(source, target, level, Path(folder))
            if check and (not path.exists() or path.read_bytes() != made):
                differing.append(path)
            elif not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(made)
    for path in differing:
        print(f"{path} differs from what its source gives")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())

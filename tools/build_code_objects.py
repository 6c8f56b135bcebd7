"""Rebuild the code objects of tests/code/data; needs clang-19, lld-19, and for gfx950 those of 22.

Usage: tools/build_code_objects.py [--check]. With --check nothing is written: the exit code is 1
when a stored object differs from what the compiler makes now.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "tests" / "code" / "data"
# File name: options beyond the common ones.
OBJECTS = {
    "gfx90a.co": ["-mcpu=gfx90a:xnack-"],
    "gfx942.co": ["-mcpu=gfx942"],
    "gfx1030.co": ["-mcpu=gfx1030"],
    "gfx1100.co": ["-mcpu=gfx1100"],
    "gfx1201.co": ["-mcpu=gfx1201"],
    "gfx950.co": ["-mcpu=gfx950", "-mcode-object-version=5"],
    "gfx942-v4.co": ["-mcpu=gfx942", "-mcode-object-version=4"],
    "gfx11-generic-v6.co": ["-mcpu=gfx11-generic", "-mcode-object-version=6"],
}
COMPILERS = {"gfx950.co": "clang-22"}
"""Of targets that clang-19 does not know."""
OPTIONS = "-x cl -cl-std=CL2.0 -target amdgcn-amd-amdhsa -nogpulib -O2 -fno-ident"


def build(compiler: str, options: list[str], folder: Path) -> bytes:
    """Compile the sample with these options and return the code object."""
    out = folder / "out.co"
    command = [compiler, *OPTIONS.split(), *options, "sample.cl", "-o", str(out)]
    subprocess.run(command, check=True, cwd=DATA)
    return out.read_bytes()


def main() -> int:
    """Build all; return how the process should exit."""
    check = "--check" in sys.argv[1:]
    differing = []
    with tempfile.TemporaryDirectory() as folder:
        for name, options in OBJECTS.items():
            compiler = COMPILERS.get(name, "clang-19")
            path, made = DATA / name, build(compiler, options, Path(folder))
            if check and (not path.exists() or path.read_bytes() != made):
                differing.append(name)
            elif not check:
                path.write_bytes(made)
    for name in differing:
        print(f"{name} differs")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())

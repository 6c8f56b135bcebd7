"""Rebuild tests/kernels/built from the sources beside it; needs clang-19 and lld-19.

Usage: tools/build_kernels.py [--check]. With --check nothing is written: the exit code is 1 when a
stored object differs from what the compiler makes now.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

KERNELS = Path(__file__).resolve().parent.parent / "tests" / "kernels"
TARGETS = ("gfx942", "gfx1100")
LEVELS = ("O0", "O1", "O3")
COMPILER = (
    "clang-19 -x cl -cl-std=CL2.0 -target amdgcn-amd-amdhsa -nogpulib -ffp-contract=off -fno-ident"
)


def build(source: Path, target: str, level: str, folder: Path) -> bytes:
    """Compile one source and return the code object."""
    out = folder / "out.co"
    options = [*COMPILER.split(), f"-mcpu={target}", f"-{level}", source.name, "-o", str(out)]
    subprocess.run(options, check=True, cwd=source.parent)
    return out.read_bytes()


def main() -> int:
    """Build all; return how the process should exit."""
    check = "--check" in sys.argv[1:]
    differing = []
    with tempfile.TemporaryDirectory() as folder:
        for source in sorted(KERNELS.glob("*.cl")):
            for target in TARGETS:
                for level in LEVELS:
                    path = KERNELS / "built" / target / f"{source.stem}-{level}.co"
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

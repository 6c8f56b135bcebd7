"""Rebuild the code objects of tests and workloads from the sources beside them.

Needs clang-19 and lld-19, and for gfx950, which they do not know, clang-22 and lld-22. The first
lines of a source may say "// Built with: OPTIONS" and "// Targets: NAMES" where it is not for all.

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
TARGETS = ("gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1201")
CLANG, NEWER = "clang-19", "clang-22"
NEW_TARGETS = ("gfx950",)
"""What the older compiler does not know."""
OPTIONS = (
    "-x cl -cl-std=CL2.0 -target amdgcn-amd-amdhsa -nogpulib -ffp-contract=off -fno-ident"
    " -cl-fp32-correctly-rounded-divide-sqrt -Wall -Werror -Wl,--strip-all"
)


def said(source: Path, what: str) -> list[str] | None:
    """Return the words that a source's first lines say of something; None where they do not."""
    for line in source.read_text().splitlines()[:3]:
        if line.startswith(f"// {what}: "):
            return line.split(": ", 1)[1].split()
    return None


def compiler(target: str) -> str:
    """Return the oldest of both compilers that knows a target."""
    return NEWER if target in NEW_TARGETS else CLANG


def build(
    source: Path, target: str, level: str, folder: Path, clang: str = "", more: str = ""
) -> bytes:
    """Compile one source and return the code object; by default with the target's compiler."""
    if not clang and compiler(target) == NEWER:
        more = f"{more} -w"  # it warns of LDS in the stubs that it makes of kernels
    out = folder / "out.co"
    options = [*OPTIONS.split(), *(said(source, "Built with") or []), *more.split()]
    options += [f"-mcpu={target}", f"-{level}", source.name, "-o", str(out)]
    subprocess.run([clang or compiler(target), *options], check=True, cwd=source.parent)
    return out.read_bytes()


def objects() -> Iterator[tuple[Path, Path, str, str]]:
    """Give each code object's path, its source, target and optimization level."""
    for kernels, levels in FOLDERS:
        for source in sorted(kernels.glob("*.cl")):
            for target in said(source, "Targets") or TARGETS:
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

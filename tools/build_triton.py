"""Rebuild the code objects of tests/kernels/triton from the sources beside them.

Needs Triton 3.9 (about 1 GB; no GPU): run it with a Python that has it. For each target an archive
holds the objects, and in kernels.json what a launch must know: the kernel's name, its arguments,
the work-items of a group and the bytes of dynamic LDS. Behind a kernel's own arguments come two
pointers of Triton's (scratch in memory, profiles), which are 0 for all of these.

Usage: tools/build_triton.py [--check]. With --check nothing is written: the exit code is 1 when a
stored object differs from what the compiler makes now.
"""

import json
import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.kernels.triton.variants import TARGETS, Variant, variants  # noqa: E402

BUILT = ROOT / "tests" / "kernels" / "triton" / "built"
TRITON = "3.9.0"
LIST = "kernels.json"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def compiled(variant: Variant, target: str) -> tuple[bytes, dict[str, Any]]:
    """Compile a variant; return the code object and what a launch must know."""
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from tests.kernels.triton import kernels

    function = getattr(kernels, variant.kernel)
    constants = dict(variant.constants)
    if "SUM" in constants:
        constants["SUM"] = getattr(tl, constants["SUM"].replace("fp", "float"))
    types = {name: variant.types.get(name, "constexpr") for name in function.arg_names}
    made = triton.compile(
        ASTSource(fn=function, signature=types, constexprs=constants),
        target=GPUTarget("hip", target, TARGETS[target]),
        options={"enable_fp_fusion": True, **variant.options},
    )
    about = made.metadata
    assert not about.global_scratch_size
    assert not about.profile_scratch_size
    launch = {
        "kernel": about.name,
        "block": about.num_warps * about.warp_size,
        "dynamic_lds": about.shared,
        "arguments": {name: types[name] for name in function.arg_names if name in variant.types},
        "constants": dict(variant.constants),
    }
    return made.asm["hsaco"], launch


def contents(target: str) -> dict[str, bytes]:
    """Compile all variants for a target; return the files of its archive."""
    files, launches = {}, {}
    for variant in variants():
        if target in variant.targets:
            files[f"{variant.name}.hsaco"], launches[variant.name] = compiled(variant, target)
    return {LIST: json.dumps(launches, indent=1).encode(), **files}


def write(path: Path, files: dict[str, bytes]) -> None:
    """Write an archive that tells nothing of when and where it was made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), content, zipfile.ZIP_DEFLATED)


def differing(path: Path, files: dict[str, bytes]) -> list[str]:
    """Return the files that an archive lacks, has beyond these or has otherwise."""
    if not path.exists():
        return list(files)
    with zipfile.ZipFile(path) as archive:
        stored = {name: archive.read(name) for name in archive.namelist()}
    return [name for name in {**stored, **files} if stored.get(name) != files.get(name)]


def main() -> int:
    """Build all; return how the process should exit."""
    try:
        import triton
    except ImportError:
        sys.exit(f"this needs Triton {TRITON}: pip install triton=={TRITON}")
    if triton.__version__ != TRITON:
        sys.exit(f"this needs Triton {TRITON}, found {triton.__version__}")
    wrong = []
    for target in TARGETS:
        path, files = BUILT / f"{target}.zip", contents(target)
        if "--check" in sys.argv[1:]:
            wrong += [f"{path}: {name}" for name in differing(path, files)]
        else:
            write(path, files)
    for name in wrong:
        print(f"{name} differs from what its source gives")
    return 1 if wrong else 0


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        # No compiled kernel of before, and no path of this machine in the objects.
        os.environ.update(TRITON_CACHE_DIR=folder, TRITON_DISABLE_LINE_INFO="1")
        sys.exit(main())

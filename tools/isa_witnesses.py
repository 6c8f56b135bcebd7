"""Write gputrace/isa/witnesses.py: what the tests compare with something outside this package.

    python tools/isa_witnesses.py

Property tests are those of tests/isa/witness.py and of what else `property_names` asks. Kernels are
the code objects in tests/kernels/built, whose results the tests compare with plain computation: a
few of them that together have what property tests leave out.
"""

import io
import subprocess
import sys
import textwrap
from pathlib import Path

from elftools.elf.elffile import ELFFile

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gputrace.errors import DecodeError  # noqa: E402
from gputrace.isa.decode import TARGETS, decoder  # noqa: E402
from gputrace.isa.meanings import MEANINGS  # noqa: E402

BUILT = ROOT / "tests" / "kernels" / "built"
HEAD = '''"""Instructions that the tests compare with something outside this package.

Written by tools/isa_witnesses.py from tests/isa and tests/kernels/built. In the second table each
line begins with a kernel file that has the instructions behind it.
"""

from typing import Final

'''
TAIL = '''
PROPERTY: Final = frozenset(_PROPERTY.split())
KERNEL: Final = {
    name: line.split(":")[0] for line in _KERNEL.splitlines() for name in line.split()[1:]
}
"""The kernel file, below tests/kernels/built, that has an instruction."""
'''


def names_in(path: Path) -> set[str]:
    """Return the modelled instructions that a code object has."""
    section = ELFFile(io.BytesIO(path.read_bytes())).get_section_by_name(".text")
    code, at, found = section.data(), 0, set[str]()
    while at < len(code):
        try:
            made = decoder(path.parent.name).decode(code, at)
        except DecodeError:  # padding between functions
            at += 4
            continue
        found |= {part.name.replace("v_dual_", "v_") for part in made.components or (made,)}
        at += made.size
    return found & set(MEANINGS.meanings) - {"s_code_end"}  # padding that no wave reaches


def kernel_names() -> dict[str, set[str]]:
    """Return for a few kernel files the instructions that nothing before has."""
    listed = ["git", "-C", str(BUILT), "ls-files", "*/*.co"]
    known = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    files = {name: names_in(BUILT / name) for name in sorted(known)}
    left = set().union(*files.values()) - property_names()
    chosen: dict[str, set[str]] = {}
    while left:
        name = max(files, key=lambda each: len(files[each] & left))
        chosen[name] = files[name] & left
        left -= files[name]
    return chosen


def property_names() -> set[str]:
    """Return the instructions that have a second computation in the tests."""
    from tests.isa import (
        test_cdna4,
        test_flow,
        test_functions,
        test_memory_special,
        test_memory_witness,
        test_odd_ones,
        test_packed,
        test_relative,
        test_scalar_state,
        test_scaled,
        test_typed_buffers,
    )
    from tests.isa.test_matrix import DOTS, cases
    from tests.isa.witness_more import SPEC

    memory = test_memory_witness.NAMES | test_memory_special.NAMES | test_typed_buffers.NAMES
    flow = test_flow.NAMES | test_relative.NAMES | set(test_flow.HINTS)
    prefixes = ("v_mfma", "v_smfmac", "v_wmma", "v_swmmac")
    products = {name for prefix in prefixes for _, name in cases(prefix, TARGETS)}
    functions = {name for _, name in test_functions.cases()}
    packed = {"v_pk_fmac_f16", *test_packed.PACKED, *test_packed.MIXED}
    rest = test_cdna4.NAMES | test_scaled.NAMES
    rest |= functions | packed | set(test_scalar_state.STATE) | test_odd_ones.NAMES
    return (set(SPEC) | set(DOTS) | products | memory | flow | rest) & set(MEANINGS.meanings)


def text() -> str:
    """Return the module."""
    properties = textwrap.fill(" ".join(sorted(property_names())), 98, break_on_hyphens=False)
    lines = [
        part
        for file, names in sorted(kernel_names().items())
        for part in textwrap.wrap(
            " ".join(sorted(names)), 98, break_on_hyphens=False,
            initial_indent=f"{file}: ", subsequent_indent=f"{file}: ",
        )
    ]  # fmt: skip
    kernels = "\n".join(lines)
    parts = [f'_PROPERTY = """\\\n{properties}\n"""', f'_KERNEL = """\\\n{kernels}\n"""']
    return HEAD + "\n\n".join(parts) + "\n" + TAIL


if __name__ == "__main__":
    (ROOT / "gputrace" / "isa" / "witnesses.py").write_text(text())

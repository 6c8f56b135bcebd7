"""Write gputrace/isa/witnesses.py: what the tests compare with something outside this package.

    python tools/isa_witnesses.py

Property tests are those of tests/isa/witness.py and test_matrix.py; kernels are the code objects in
tests/kernels/built, whose results the tests compare with plain computation.
"""

import io
import sys
import textwrap
from pathlib import Path

from elftools.elf.elffile import ELFFile

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gputrace.errors import DecodeError  # noqa: E402
from gputrace.isa.decode import TARGETS, decoder  # noqa: E402
from gputrace.isa.meanings import MEANINGS  # noqa: E402

HEAD = '''"""Instructions that the tests compare with something outside this package.

Written by tools/isa_witnesses.py from tests/isa/witness.py and tests/kernels/built.
"""

from typing import Final

'''


def kernel_names() -> set[str]:
    """Return the instructions that the stored kernels have."""
    found: set[str] = set()
    for path in sorted((ROOT / "tests" / "kernels" / "built").glob("*/*.co")):
        section = ELFFile(io.BytesIO(path.read_bytes())).get_section_by_name(".text")
        code, at = section.data(), 0
        while at < len(code):
            try:
                made = decoder(path.parent.name).decode(code, at)
            except DecodeError:  # padding between functions
                at += 4
                continue
            found |= {part.name.replace("v_dual_", "v_") for part in made.components or (made,)}
            at += made.size
    return found & set(MEANINGS.meanings) - {"s_code_end"}  # padding that no wave reaches


def property_names() -> set[str]:
    """Return the instructions that have a second computation in the tests."""
    from tests.isa.test_matrix import DOTS, cases
    from tests.isa.witness import SPEC

    products = {name for prefix in ("v_mfma", "v_wmma") for _, name in cases(prefix, TARGETS)}
    return (set(SPEC) | set(DOTS) | products) & set(MEANINGS.meanings)


def text() -> str:
    """Return the module."""
    parts = []
    for title, names in (("PROPERTY", property_names()), ("KERNEL", kernel_names())):
        lines = textwrap.fill(" ".join(sorted(names)), 98, break_on_hyphens=False)
        parts.append(f'_{title} = """\\\n{lines}\n"""\n')
    parts += [f"{title}: Final = frozenset(_{title}.split())" for title in ("PROPERTY", "KERNEL")]
    return HEAD + "\n".join(parts) + "\n"


if __name__ == "__main__":
    (ROOT / "gputrace" / "isa" / "witnesses.py").write_text(text())

"""Check that imports go down the layers only and that siblings do not import one another.

Prints each import that breaks the rule as file:line and exits 1; exits 0 and says how many
imports were looked at otherwise. The order is that of the package's docstring.
"""

import ast
import sys
from pathlib import Path

LAYERS = (
    ("cli",),
    ("report",),
    ("minimize",),
    ("replay", "interpose"),
    ("driver", "capture"),
    ("submitted",),
    ("devices.kfd", "devices.emulated"),
    ("kfd", "trace"),
    ("isa", "code"),
    ("families",),
    ("formats",),
    ("bits",),
    ("errors",),
)
RANK: dict[str, float] = {part: len(LAYERS) - i for i, layer in enumerate(LAYERS) for part in layer}
# What names a device and opens it stands between the devices and their users.
RANK["devices"] = RANK["devices.kfd"] + 0.5


def part_of(module: str) -> str | None:
    """Return the part of the package that `module` belongs to; None for the package itself."""
    names = module.split(".")[1:]
    if not names:
        return None
    two = ".".join(names[:2])
    return two if two in RANK else names[0]


def imports(tree: ast.AST) -> list[tuple[int, str]]:
    """Return the modules of this package that a file imports, with line numbers."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.append((node.lineno, node.module))
            found += [(node.lineno, f"{node.module}.{name.name}") for name in node.names]
        elif isinstance(node, ast.Import):
            found += [(node.lineno, name.name) for name in node.names]
    return [(line, module) for line, module in found if module.split(".")[0] == "gputrace"]


def check(root: Path) -> tuple[list[str], int]:
    """Return the breaches below `root` (the package) and the number of imports seen."""
    breaches, seen = [], 0
    for path in sorted(root.rglob("*.py")):
        module = ".".join(["gputrace", *path.relative_to(root).with_suffix("").parts])
        own = part_of(module.removesuffix(".__init__"))
        if own is None or own == "__init__":
            continue
        if own not in RANK:
            breaches.append(f"{path}: {own} is in no layer")
            continue
        for line, target in imports(ast.parse(path.read_text())):
            other = part_of(target)
            seen += 1
            if other is None or other == own or other not in RANK:
                continue
            if RANK[other] >= RANK[own]:
                breaches.append(f"{path}:{line}: {own} imports {target}")
    return breaches, seen


def main() -> int:
    """Check the package beside this script's folder."""
    breaches, seen = check(Path(__file__).resolve().parent.parent / "gputrace")
    for breach in breaches:
        print(breach)
    print(f"{len(breaches)} breaches in {seen} imports")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())

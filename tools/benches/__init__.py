"""The figures of the budgets: each module here measures one group of rows.

A module has a docstring (its first line is the help) and `rows(options)`, which yields a `Row` for
each figure. Times are of the processor, not of the wall, where the work is one thread's: other
work on the machine does not count then.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal

Sense = Literal["<=", ">="]


@dataclass(frozen=True)
class Options:
    """How to measure: `folder` is empty and for files, `quick` makes everything small."""

    folder: Path
    quick: bool = False


@dataclass(frozen=True)
class Row:
    """One measured number, and the budget it is held against, if there is one."""

    name: str
    value: float
    unit: str
    budget: float | None = None
    sense: Sense = "<="
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the budget is kept; None without one."""
        if self.budget is None:
            return None
        return self.value <= self.budget if self.sense == "<=" else self.value >= self.budget

    def line(self) -> str:
        """Write the row as text."""
        budget = "" if self.budget is None else f"{self.sense} {self.budget:,.6g}"
        state = {None: "", True: "kept", False: "MISSED"}[self.met]
        note = f"   {self.note}" if self.note else ""
        value = f"{self.value:,.{0 if self.value >= 1000 else 2}f}"
        return f"  {self.name:<44}{value:>14} {self.unit:<18}{budget:>14} {state:<7}{note}".rstrip()


def at_least(name: str, value: float, unit: str, budget: float, note: str = "") -> Row:
    """Make a row whose figure should be high."""
    return Row(name, value, unit, budget, ">=", note)


def at_most(name: str, value: float, unit: str, budget: float, note: str = "") -> Row:
    """Make a row whose figure should be low."""
    return Row(name, value, unit, budget, "<=", note)


def names() -> list[str]:
    """Return the names of all groups."""
    return sorted(module.name for module in iter_modules(__path__))


def module(name: str) -> Any:
    """Import a group by its name."""
    return import_module(f"tools.benches.{name}")


def seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Time one call."""
    start = clock()
    work()
    return clock() - start

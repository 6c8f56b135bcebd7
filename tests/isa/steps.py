"""Run a few instructions as a kernel of one work-group, with both engines, from given registers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputrace.isa import state
from gputrace.isa.decode import decoder
from gputrace.isa.machine import Execution, KernelLaunch, Machine, Outcome, Paused
from gputrace.isa.waves import Group, Spare
from tests.isa.launching import Arrays, assert_same_outcome
from tests.isa.single import fitted

CODE = 0x10_0000
_FORMATS = {"GLOBAL": "FLAT", "SCRATCH": "FLAT"}
_SEGMENTS = {"FLAT": 0, "SCRATCH": 1, "GLOBAL": 2}
_SHORT_FIRST = ("SOP1", "SOP2", "SOPC", "SOPK", "SOPP", "SMEM", "DS", "FLAT", "GLOBAL", "SCRATCH",
                "MUBUF", "MTBUF", "VOP1", "VOP2", "VOPC", "VOP3", "VOP3P", "VOP3PX2",
                "MAI")  # fmt: skip


def encode(target: str, name: str, wave: int | None = None, **fields: int) -> list[int]:
    """Return the words of an instruction; fields that are not given are zero, `literal` is last."""
    machine = decoder(target, wave)
    rows = machine._rows.items()
    found = [place for place, row in rows if row.name == name and place[0] != "VOPD"]
    assert found, f"{target} has no {name}"
    encoding, opcode = min(found, key=lambda place: _SHORT_FIRST.index(place[0]))
    wanted = _FORMATS.get(encoding, encoding)
    form = machine.generation.format_named(wanted)
    literal = fields.pop("literal", None)
    if encoding in _SEGMENTS:
        fields["segment"] = _SEGMENTS[encoding]
        if encoding != "FLAT" or machine.generation.no_base != 0x7F:
            fields.setdefault("saddr", machine.generation.no_base)
    low, bits = form.opcode
    raw = form.prefix << (32 - form.width) | (opcode & (1 << bits) - 1) << low
    if opcode >> bits:
        raw |= 1 << form.fields["opcode_high"][0]
    for field, value in fields.items():
        low, width = form.fields[field]
        raw |= (value & (1 << width) - 1) << low
    raw = fitted(target, (encoding, opcode), raw)
    words = [raw >> 32 * k & 0xFFFFFFFF for k in range(form.words)]
    return words if literal is None else [*words, literal]


@dataclass
class Ended:
    """How a run ended, and what it left."""

    outcome: Outcome
    words: NDArray[np.uint32]
    lds: bytes
    execution: Execution

    def scalars(self, first: int, count: int = 1, wave: int = 0) -> list[int]:
        """Return scalar words of a wave."""
        return [int(word) for word in self.words[wave, first : first + count]]

    def vector(self, index: int, wave: int = 0) -> NDArray[np.uint32]:
        """Return one vector register of a wave."""
        lanes = (self.words.shape[1] - state.SCALARS) // state.VECTORS
        start = state.SCALARS + index * lanes
        return self.words[wave, start : start + lanes]


Setup = Callable[[Group], None]


def run_with(
    engine: Any,
    target: str,
    code: Sequence[int],
    setup: Setup,
    memory: Arrays,
    budget: int = 1 << 20,
    **changes: Any,
) -> Ended:
    """Run the code with one engine; `changes` are those of the launch."""
    words = np.array([*code, *[0] * 16], np.uint32)
    memory.add(words, CODE)
    lanes = decoder(target).wave
    launch = KernelLaunch(
        target=target, entry=CODE, rsrc1=0xF0 << 12, rsrc2=0, wave_size=lanes,
        group_size=(lanes, 1, 1), lds_bytes=4096,
    )  # fmt: skip
    machine = Machine(target, engine)
    machine.spare = Spare()
    execution = machine.start(replace(launch, **changes), memory)
    assert isinstance(execution.run(0), Paused)
    group = execution._groups[0]
    group.clear = lambda *counts: None  # type: ignore[method-assign] # what it leaves is looked at
    setup(group)
    outcome = execution.run(budget)
    if engine == "jit":
        assert not machine.library.failures
    memory.drop(CODE)
    return Ended(outcome, group.words.copy(), group.lds.tobytes(), execution)


def run_both(
    target: str,
    code: Sequence[int],
    setup: Setup = lambda group: None,
    memory: Arrays | None = None,
    budget: int = 1 << 20,
    **changes: Any,
) -> Ended:
    """Run the code with both engines and hold registers, LDS, memory and counts together."""
    memory = memory or Arrays()
    before = memory.contents()
    first = run_with("numpy", target, code, setup, memory, budget, **changes)
    after = memory.contents()
    memory.restore(before)
    second = run_with("jit", target, code, setup, memory, budget, **changes)
    assert_same_outcome(second.outcome, first.outcome)
    assert memory.contents() == after
    differing = np.flatnonzero(first.words != second.words)
    assert not len(differing), f"word {differing[0] % first.words.shape[1]}"
    assert first.lds == second.lds
    assert first.execution.instructions == second.execution.instructions
    return first

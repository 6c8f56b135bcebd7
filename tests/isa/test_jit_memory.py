"""Accesses to memory and LDS of all shapes give the same compiled as with numpy.

Every program is a row of accesses, each with addresses of its own in vector registers; the patterns
of addresses are those that compiled code has short ways for, and those that it has not.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gputrace.isa import jit_atomics, state
from gputrace.isa.graph import F32, F64, I1, U8, U16, U32, U64, Graph, Node, Type
from gputrace.isa.instruction import Instruction
from gputrace.isa.jit_library import Library
from gputrace.isa.jit_store import Store
from gputrace.isa.machine import Done, Fault, KernelLaunch, Machine, Outcome, Paused
from gputrace.isa.trace import Mode, Trace
from gputrace.isa.waves import Spare
from tests.isa.launching import Arrays, assert_same_outcome

CODE, FIRST, SECOND, LDS_BYTES = 0x1000, 0x7000_FFFF_F000, 0x7001_0000_8000, 1000
SIZE = 1 << 13  # the first range has addresses with two upper words:
UPPER = np.uint64(0x7001_0000_0000)  # where the second one begins
ADDRESSES, RESULTS, DATA = 60, state.FIRST_ACCUMULATOR, 4
AGAIN = 4  # the scalar register that says whether there is another round
LATER = 50  # the registers that have the addresses of the first access in that round
Access = Callable[[Trace, Node, int], None]
TYPES = {"i32": U32, "i64": U64, "float": F32, "double": F64}


def _active(trace: Trace, part: int) -> Node:
    # All active lanes, or those of them whose first data register says so.
    if not part:
        return trace.active()
    return trace.active() & trace.vector(DATA).ne(0)


def _global(trace: Trace, address: Node, access: str, size: int, mask: Node) -> Node:
    return trace.apply("check", address, mask, attribute=(access, size))


def load(words: int, kind: Type = U32, part: int = 0) -> Access:
    def make(trace: Trace, address: Node, result: int) -> None:
        mask, size = _active(trace, part), kind.bits // 8
        found = _global(trace, address, "read", words * size, mask)
        for k in range(words):
            place = found + k * size if k else found
            value = trace.apply("load", place, mask, type=kind, attribute="global")
            trace.put_vector(result + k, value.zext(U32), mask)  # nothing elsewhere

    return make


def store(words: int, kind: Type = U32, part: int = 0) -> Access:
    def make(trace: Trace, address: Node, result: int) -> None:
        values = [trace.vector(DATA + k).zext(kind) for k in range(words)]
        mask, size = _active(trace, part), kind.bits // 8
        found = _global(trace, address, "write", words * size, mask)
        for k, value in enumerate(values):
            place = found + k * size if k else found
            trace.apply("store", place, value, mask, attribute="global")

    return make


def lds_load(offsets: tuple[int, ...], kind: Type = U32, part: int = 0) -> Access:
    def make(trace: Trace, address: Node, result: int) -> None:
        start, mask = address.zext(U32), _active(trace, part)
        for k, offset in enumerate(offsets):
            value = trace.apply("load", start + offset, mask, type=kind, attribute="lds")
            trace.put_vector(result + k, value.zext(U32), mask)  # nothing elsewhere

    return make


def lds_store(offsets: tuple[int, ...], kind: Type = U32, part: int = 0) -> Access:
    def make(trace: Trace, address: Node, result: int) -> None:
        values = [trace.vector(DATA + k).zext(kind) for k in range(len(offsets))]
        start, mask = address.zext(U32), _active(trace, part)
        for offset, value in zip(offsets, values, strict=True):
            trace.apply("store", start + offset, value, mask, attribute="lds")

    return make


def atomic(name: str, space: str) -> Access:
    _, operation, letters = name.split(".")
    kind = TYPES[letters]
    words = kind.bits // 32

    def make(trace: Trace, address: Node, result: int) -> None:
        raw = Type("i", kind.bits)
        data = [trace.vector(DATA + 2 * k, words).bits_as(kind) for k in range(2)]
        mask = trace.active()
        if space == "global":
            size = kind.bits // 8
            place = _global(trace, address & ~(size - 1), "atomic", size, mask)
        else:
            place = address.zext(U32)
        used = data if operation in jit_atomics.TWO_VALUES else data[:1]
        old = trace.apply("atomic", place, *used, mask, type=kind, attribute=(space, operation))
        trace.put_vector(result, old.bits_as(raw))

    return make


def scalar(words: int, guarded: bool) -> Access:
    def make(trace: Trace, address: Node, result: int) -> None:
        lane = trace.apply("read_lane", address, trace.const(U32, 5))
        mask = trace.scalar(0).ne(0) if guarded else trace.const(I1, 1)
        found = trace.apply("check", lane, mask, attribute=("read", 4 * words))
        for k in range(words):
            word = trace.apply("load", found + 4 * k, mask, type=U32, attribute="global")
            trace.put_vector(result + k, trace.splat(word))

    return make


def there_and_back(access: Access, scalar: bool, zext: bool = False) -> Access:
    # The same address as a sum with parts that all lanes share.
    def make(trace: Trace, address: Node, result: int) -> None:
        some = trace.scalar(2, 2) if scalar else trace.const(U64, 0x44)
        if zext:
            base = address.zext(U32).zext(U64)
            lane = trace.apply("read_lane", address, trace.const(U32, 3)) >> 32
            access(trace, base + (lane << 32), result)
        else:
            lower = trace.apply("sub", address, trace.splat(some))
            whole = lower.zext(U32).zext(U64) | (lower >> 32) << 32
            access(trace, whole + some, result)

    return make


PLAIN: list[Access] = [
    *(load(n) for n in (1, 2, 3, 4)),
    there_and_back(load(1), False), there_and_back(load(1), True),
    there_and_back(load(2), False), there_and_back(store(1), True),
    there_and_back(store(4), False), there_and_back(load(1), False, zext=True),
    load(1, U8), load(1, U16), load(1, part=1), load(2, part=1),
    *(store(n) for n in (1, 2, 3, 4)), store(1, U8), store(1, U16), store(1, part=1),
    store(4, part=1),
    scalar(1, False), scalar(4, False), scalar(2, True),
    lds_load((0,)), lds_load((0, 4)), lds_load((8, 264)), lds_load((0, 4, 8, 12)),
    lds_load((4, 8, 12)), lds_store((8, 12)), lds_store((16, 20, 24)),
    lds_load((0,), U8), lds_load((2,), U16), lds_load((4,), part=1),
    lds_store((0,)), lds_store((0, 4)), lds_store((4, 516)), lds_store((0, 4, 8, 12)),
    lds_store((1,), U8), lds_store((0,), U16), lds_store((0,), part=1),
]  # fmt: skip
ATOMIC = [atomic(name, space) for name in jit_atomics.HELPERS for space in ("global", "lds")]


class Made(Machine):
    """A machine whose instructions are numbers of accesses.

    Behind them all is a jump to the first, once: then accesses know a range. What follows ends.
    """

    def __init__(self, accesses: list[Access], engine: Any) -> None:
        super().__init__("gfx942", engine)
        self._accesses = accesses

    def graph(self, mode: Mode, pc: int, code: bytes) -> tuple[Graph, int]:
        number = int.from_bytes(code[:4], "little")
        trace = Trace(Instruction("access", "", "", pc, (number,)), mode)
        count = len(self._accesses)
        if number == count:
            again = trace.scalar(AGAIN).ne(0)
            trace.put_scalar(AGAIN, trace.const(U32, 0))
            trace.put_vector(ADDRESSES, trace.vector(LATER, 2))
            trace.go("branch", again, attribute=(pc - 4 * count, pc + 4))
        elif number > count:
            trace.go("end")
        else:
            address = trace.vector(ADDRESSES + 2 * number, 2)
            self._accesses[number](trace, address, RESULTS + 4 * number)
        return trace.finish(), 4


def addresses(chance: np.random.Generator, lanes: int, low: int, high: int) -> NDArray[np.uint64]:
    """Return addresses of one of many patterns between two bounds, which some may cross."""
    lane = np.arange(lanes)
    step = int(chance.choice([0, 1, 2, 4, 4, 4, 8, 12, 16, -4, -16]))
    span = abs(step) * lanes
    start = int(chance.integers(low, max(low + 1, high - span - 16)))
    if chance.random() < 0.7:
        start &= ~15
    found = start + (span if step < 0 else 0) + step * lane
    match int(chance.integers(8)):
        case 0:
            found = chance.integers(low, high - 16, lanes)
        case 1:
            found = start + 4 * (lane % 16)
        case 2:
            found = start + 64 * (lane // 16) + 4 * chance.integers(0, 16, lanes)
        case 3:
            found = start + 4 * (lane // 16)
        case 4:
            found = start + 16 * (lane % 8)
        case 5:
            found = start + 16 * (lane // 4)
    return found.astype(np.uint64)


def later(chance: np.random.Generator, lanes: int) -> NDArray[np.uint64]:
    """Return addresses for the second round, some with a row that is broken by its words.

    It goes over the end of lower words without the carry that would make it a row.
    """
    if chance.random() < 0.7:
        return addresses(chance, lanes, FIRST, FIRST + SIZE)
    row = 4 * np.arange(lanes, dtype=np.uint64)
    found: NDArray[np.uint64] = UPPER - np.uint64(4 * chance.integers(lanes)) + row
    found[found >= UPPER] -= np.uint64(1 << 32)
    return found


Result = tuple[Outcome, list[bytes], NDArray[np.uint32], int]


def run(machine: Made, seed: int, bad: bool) -> Result:
    """Run the whole row of accesses; return the outcome, memory, registers and count."""
    chance, lanes = np.random.default_rng(seed), 64
    memory = Arrays()
    count = len(machine._accesses)
    memory.add(np.arange(count + 1 + 64, dtype=np.uint32), CODE)
    for at in (FIRST, SECOND):
        memory.add(chance.integers(0, 256, SIZE, np.uint8), at, writable=at == FIRST or not bad)
    launch = KernelLaunch(
        target="gfx942", entry=CODE, rsrc1=0xF0 << 12, rsrc2=0, group_size=(64, 1, 1),
        lds_bytes=LDS_BYTES,
    )  # fmt: skip
    machine.spare = Spare()
    execution = machine.start(launch, memory)
    assert isinstance(execution.run(0), Paused)
    group = execution._groups[0]
    group.clear = lambda *counts: None  # type: ignore[method-assign] # what it leaves is looked at
    vectors, scalars = group.waves[0].vectors, group.waves[0].scalars
    group.lds[:] = chance.integers(0, 256, LDS_BYTES, np.uint8)
    vectors[DATA : DATA + 4] = chance.integers(0, 1 << 32, (4, lanes), np.uint32)
    vectors[DATA, chance.random(lanes) < 0.3] = 0
    scalars[AGAIN] = 1
    scalars[0], scalars[2], scalars[3] = chance.integers((2, 99, 2))
    mask = [(1 << 64) - 1, int(chance.integers(1 << 63)), 0, 1 << int(chance.integers(64)), 0xFFFF]
    chosen = mask[0] if chance.random() < 0.5 else mask[int(chance.integers(5))]
    scalars[state.EXEC], scalars[state.EXEC + 1] = chosen & 0xFFFFFFFF, chosen >> 32
    wrong = int(chance.integers(2 * count)) if bad else -1
    for number in range(count):
        base = FIRST if chance.random() < 0.6 else SECOND
        found = addresses(chance, lanes, base, base + SIZE)
        if chance.random() < 0.1:
            found[chance.random(lanes) < 0.3] += np.uint64((FIRST + SECOND - 2 * base) % (1 << 64))
        if number == wrong:
            found[int(chance.integers(64)) :] += np.uint64(SIZE - 64)
        vectors[ADDRESSES + 2 * number] = found.astype(np.uint32)
        vectors[ADDRESSES + 2 * number + 1] = (found >> np.uint64(32)).astype(np.uint32)
    found = later(chance, lanes)
    vectors[LATER : LATER + 2] = found & 0xFFFFFFFF, found >> np.uint64(32)
    for number, access in enumerate(machine._accesses):
        if getattr(access, "__qualname__", "").startswith("lds") or access in LDS_ATOMICS:
            found = addresses(chance, lanes, 0, LDS_BYTES + 40)
            vectors[ADDRESSES + 2 * number] = found.astype(np.uint32)
    outcome = execution.run(1 << 30)
    contents = [*memory.contents(), group.lds.tobytes()]
    return outcome, contents, group.words.copy(), execution.instructions


LDS_ATOMICS = ATOMIC[1::2]
ROWS = {"plain": PLAIN} | {f"atomic-{k}": ATOMIC[k::4] for k in range(4)}


@pytest.fixture(scope="module", params=list(ROWS))
def machines(request: pytest.FixtureRequest, tmp_path_factory: Any) -> tuple[Made, Made]:
    # Other rows have the same words for other things: no row may see what another compiled.
    row = ROWS[request.param]
    made = Made(row, "numpy"), Made(row, "jit")
    folder = Path(tmp_path_factory.mktemp("cache")) / "jit"
    made[1]._library = Library(made[1].family.name, made[1].graph, Store(folder))
    return made


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), bad=st.booleans())
def test_accesses_of_all_shapes(machines: tuple[Made, Made], seed: int, bad: bool) -> None:
    expected, found = (run(machine, seed, bad) for machine in machines)
    assert not machines[1].library.failures
    assert_same_outcome(found[0], expected[0])
    assert isinstance(expected[0], Done | Fault)
    for number, (one, other) in enumerate(zip(found[1], expected[1], strict=True)):
        assert one == other, f"memory {number}"
    differing = np.flatnonzero(found[2][0] != expected[2][0])
    assert not len(differing), f"register {(int(differing[0]) - state.SCALARS) // 64}"
    assert found[3] == expected[3]


def test_faults_are_among_what_is_tried() -> None:
    machine = Made(PLAIN, "numpy")
    outcomes = [type(run(machine, seed, bad=True)[0]) for seed in range(12)]
    assert Fault in outcomes
    assert Done in [type(run(machine, seed, bad=False)[0]) for seed in range(4)]

"""Compiled kernels do what the numpy engine does: order, counts, pauses, faults, caching."""

import hashlib
import os
import stat
import weakref
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from gputrace.isa.background import settle
from gputrace.isa.jit_library import Library
from gputrace.isa.jit_store import Compiled, Store
from gputrace.isa.launch import KernelLaunch
from gputrace.isa.machine import Done, Execution, Fault, Machine, Outcome, Paused, Unsupported
from tests.isa.launching import BUFFERS, Arrays, Program, assert_same_outcome, run_both, start

TARGETS = ("gfx942", "gfx1100")
each_target = pytest.mark.parametrize("target", TARGETS)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    # One folder for the whole run: what one test compiled another loads.
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "gputrace" / "jit"


def matmul(target: str, n: int = 48) -> tuple[KernelLaunch, Arrays, Any, Any]:
    chance = np.random.default_rng(5)
    a, b = (chance.integers(-9, 9, (n, n)).astype(np.float32) for _ in range(2))
    out = np.zeros((n, n), np.float32)
    memory = Arrays()
    args = memory.add(out), memory.add(a), memory.add(b), np.uint32(n)
    program = Program(target, "speed-O3")
    launch = program.launch("matmul", (n // 16, n // 16), (16, 16), memory, args)
    return launch, memory, out, a @ b


def multiplications(launch: KernelLaunch, memory: Arrays) -> tuple[Any, list[int]]:
    """Return the words of the code, and where those of its v_fmac_f32 are that stand alone."""
    code = memory.array(0x10_0000)
    words = code[: len(code) // 4 * 4].view(np.uint32)
    first = (launch.entry - 0x10_0000) // 4
    opcode = {"gfx942": 59, "gfx1100": 43}[launch.target]
    return words, [n for n in range(first, first + 150) if words[n] >> 25 == opcode]


def pauses(execution: Execution, budget: int) -> tuple[list[int], Outcome]:
    """Run in pieces; return the counts at each pause, and the outcome."""
    counts: list[int] = []
    while isinstance(outcome := execution.run(budget), Paused):
        counts.append(execution.instructions)
    return counts, outcome


@each_target
def test_tiled_matmul(target: str) -> None:
    launch, memory, out, expected = matmul(target)
    assert run_both(launch, memory) == Done()
    assert np.array_equal(out, expected)


@each_target
@pytest.mark.parametrize("budget", [1, 50, 777])
def test_pauses_come_at_the_same_places(target: str, budget: int) -> None:
    launch, memory, out, expected = matmul(target, 32)
    first = pauses(start(launch, memory, "numpy"), budget)
    assert np.array_equal(out, expected)
    out[:] = 0
    assert pauses(start(launch, memory, "jit"), budget) == first
    assert np.array_equal(out, expected)
    assert len(first[0]) > 1


@each_target
def test_changing_engines_on_the_way_shows_nowhere(target: str) -> None:
    launch, memory, out, expected = matmul(target, 32)
    whole = start(launch, memory, "numpy")
    whole.run(1 << 30)
    out[:] = 0
    machine = Machine(target, "auto")
    execution = machine.start(launch, memory)
    assert isinstance(execution.run(300), Paused)
    assert execution.engine == "numpy"
    machine.engine = "jit"
    assert execution.run(1 << 30) == Done()
    assert execution.engine == "jit"
    assert execution.instructions == whole.instructions
    assert np.array_equal(out, expected)


@each_target
def test_pieces_of_work_do_not_change_the_order(target: str) -> None:
    # Atomics that return what they found tell in which order waves ran.
    def ticket(engine: str, budget: int) -> bytes:
        memory = Arrays()
        data = np.random.default_rng(3).integers(256, size=1000, dtype=np.uint8)
        bins = np.zeros(256, np.uint32)
        args = memory.add(bins), memory.add(data), np.uint32(len(data))
        launch = Program(target, "shared-O3").launch("histogram", (2,), (64,), memory, args)
        pauses(start(launch, memory, engine), budget)
        return bins.tobytes()

    assert ticket("numpy", 1 << 30) == ticket("jit", 100) == ticket("jit", 1 << 30)


@each_target
@pytest.mark.parametrize("level", ["O0", "O3"])
def test_faults_are_the_same_with_all_registers(target: str, level: str) -> None:
    out = np.zeros(100, np.uint32)
    memory = Arrays()
    args = memory.add(out), np.uint32(0x1234)
    launch = Program(target, f"seed-{level}").launch("fill", (3,), (64,), memory, args)
    outcome = run_both(launch, memory)
    assert isinstance(outcome, Fault)
    assert outcome.access == "write"
    assert outcome.place.group == (1, 0, 0)


@each_target
def test_a_scalar_read_of_nothing_faults_alike(target: str) -> None:
    memory = Arrays()
    launch = Program(target, "seed-O3").launch("fill", (1,), (64,), memory, (0, np.uint32(1)))
    memory.drop(0x20_0000)  # the kernel's arguments
    outcome = run_both(launch, memory)
    assert isinstance(outcome, Fault)
    assert (outcome.access, outcome.lanes) == ("read", 1)


@each_target
def test_memory_that_goes_and_comes_back_is_looked_up_again(target: str) -> None:
    launch, memory, _, _ = matmul(target, 32)
    execution = start(launch, memory, "jit")
    assert isinstance(execution.run(500), Paused)
    a = BUFFERS + (4 * 32 * 32 + 0x1FFF & ~0xFFF)  # the second array
    memory.drop(a)
    outcome = execution.run(1 << 30)
    assert isinstance(outcome, Fault)
    assert outcome.access == "read"
    assert a <= outcome.address < a + 4 * 32 * 32


@each_target
def test_code_that_is_not_executable_faults(target: str) -> None:
    launch, memory, _, _ = matmul(target, 32)
    memory.executable = False
    outcome = run_both(launch, memory)
    assert isinstance(outcome, Fault)
    assert (outcome.access, outcome.address) == ("execute", launch.entry)


@each_target
def test_an_instruction_without_meaning_stops_both_alike(target: str) -> None:
    launch, memory, _, _ = matmul(target, 32)
    words, places = multiplications(launch, memory)
    words[places[3]] = 0xFFFFFFFF
    outcome = run_both(launch, memory)
    assert isinstance(outcome, Unsupported)
    assert outcome.words[0] == 0xFFFFFFFF
    assert outcome.place.pc == 0x10_0000 + 4 * places[3]


@each_target
def test_partial_groups(target: str) -> None:
    from dataclasses import replace

    out = np.zeros(320, np.uint32)
    memory = Arrays()
    args = memory.add(out), np.uint32(7), np.uint32(5)
    launch = Program(target, "seed-O3").launch("busy", (5,), (64,), memory, args)
    launch = replace(launch, partial=(20, 0, 0))
    assert run_both(launch, memory) == Done()
    assert out[:276].all()
    assert not out[276:].any()


# --- auto


@each_target
def test_short_kernels_never_load_the_compiler(target: str) -> None:
    launch, memory, _, _ = matmul(target, 16)
    execution = start(launch, memory, "auto")
    execution.run(200)
    assert execution.engine == "numpy"


@each_target
def test_long_kernels_are_compiled_at_once(target: str) -> None:
    launch, memory, out, expected = matmul(target, 256)
    execution = start(launch, memory, "auto")
    assert execution.run(1 << 30) == Done()
    assert execution.engine == "jit"
    assert np.array_equal(out, expected)


def test_a_kernel_that_was_run_often_is_compiled() -> None:
    machine = Machine("gfx942", "auto")
    engines = []
    for _ in range(12):
        launch, memory, out, expected = matmul("gfx942", 16)
        execution = machine.start(launch, memory)
        assert execution.run(1 << 30) == Done()
        assert np.array_equal(out, expected)
        engines.append(execution.engine)
        settle()
    assert engines[-1] == "jit"


def test_nobody_waits_for_the_compiler_for_a_few_instructions(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler, find = Event(), Library.find

    def slow(self: Library, *rest: Any, **more: Any) -> Any:
        assert compiler.wait(60)
        return find(self, *rest, **more)

    monkeypatch.setattr(Library, "find", slow)
    launch, memory, out, expected = matmul("gfx942", 32)
    execution = start(launch, memory, "auto")
    try:
        assert execution.run(1 << 30) == Done()
    finally:
        compiler.set()
        settle()
    assert 500 < execution.instructions < 20_000
    assert execution.engine == "numpy"
    assert np.array_equal(out, expected)


def test_code_is_taken_over_in_the_middle_of_a_kernel() -> None:
    launch, memory, out, expected = matmul("gfx942", 48)
    execution = start(launch, memory, "auto")
    assert isinstance(execution.run(600), Paused)
    settle()
    assert execution.run(1 << 30) == Done()
    assert execution.engine == "jit"
    assert np.array_equal(out, expected)


def test_a_process_is_copied_after_its_compiling() -> None:
    launch, memory, _, _ = matmul("gfx942", 48)
    execution = start(launch, memory, "auto")
    assert isinstance(execution.run(600), Paused)
    child = os.fork()
    if not child:
        good = execution.run(1 << 30) == Done() and execution.engine == "jit"
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# --- the cache


ABOUT = Compiled(
    ((0, 8), (12, 4)), "00", (0, 12), 3, ("find", "load32"), (1, 256), 9, True, b"code"
)


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "jit"
    Store(folder).put("key", ABOUT)
    assert Store(folder).get("key") == ABOUT
    assert Store(folder).get("other") is None
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    store = Store(tmp_path / "jit")
    store.put("key", ABOUT)
    path = tmp_path / "jit" / "key"
    raw = path.read_bytes()
    for at in range(len(raw)):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x10]) + raw[at + 1 :])
        assert store.get("key") is None
    for size in range(len(raw)):
        path.write_bytes(raw[:size])
        assert store.get("key") is None


@pytest.mark.parametrize("head", [b"", b"[]", b"{}", b'{"spans": 1}', b'{"later": 1, "spans": []}'])
def test_what_another_version_stored_counts_as_absent(tmp_path: Path, head: bytes) -> None:
    store = Store(tmp_path / "jit")
    store.put("key", ABOUT)
    body = len(head).to_bytes(4, "little") + head + b"code"
    whole = hashlib.blake2b(body, digest_size=32).digest()
    (tmp_path / "jit" / "key").write_bytes(b"gputrace-jit-1\n" + whole + body)
    assert store.get("key") is None


def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "jit"
    folder.mkdir()
    folder.chmod(0o777)
    store = Store(folder)
    store.put("key", ABOUT)
    assert store.folder is None
    assert store.get("key") is None
    assert not list(folder.iterdir())


def test_damaged_code_is_compiled_again(own_cache: Path) -> None:
    launch, memory, out, expected = matmul("gfx942", 32)
    assert start(launch, memory, "jit").run(1 << 30) == Done()
    for path in own_cache.iterdir():
        raw = path.read_bytes()
        path.write_bytes(raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:])
    out[:] = 0
    machine = Machine("gfx942", "jit")
    assert machine.start(launch, memory).run(1 << 30) == Done()
    assert machine.library.compiled > 0
    assert np.array_equal(out, expected)
    again = Machine("gfx942", "jit")
    assert again.start(launch, memory).run(1 << 30) == Done()
    assert again.library.compiled == 0


def test_changed_code_is_not_taken_for_the_old() -> None:
    launch, memory, out, _ = matmul("gfx942", 16)
    machine = Machine("gfx942", "jit")
    assert machine.start(launch, memory).run(1 << 30) == Done()
    before = out.copy()
    words, places = multiplications(launch, memory)
    words[places[3]] ^= 1 << 17  # another accumulator
    out[:] = 0
    assert machine.start(launch, memory).run(1 << 30) == Done()
    assert not np.array_equal(out, before)


def test_the_store_survives_a_home_without_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(blocked))
    launch, memory, out, expected = matmul("gfx942", 16)
    assert start(launch, memory, "jit").run(1 << 30) == Done()
    assert np.array_equal(out, expected)


def test_outcomes_that_differ_are_told_apart() -> None:
    with pytest.raises(AssertionError):
        assert_same_outcome(Done(), Paused())


# --- code that nobody would write


def straight(words: list[int]) -> tuple[KernelLaunch, Arrays]:
    """Return a launch of four waves that run through these words, and its memory."""
    from dataclasses import replace

    memory = Arrays()
    code = np.array([*words, 0xBF81_0000, *[0] * 64], np.uint32)  # s_endpgm
    memory.add(code, 0x10_0000)
    launch = Program("gfx942", "seed-O3").launch("fill", (4,), (64,), Arrays(), (0, np.uint32(0)))
    return replace(launch, entry=0x10_0000), memory


def additions(count: int) -> list[int]:
    """Return as many v_add_u32 of different registers."""
    return [0x6800_0000 | n % 61 << 17 | n % 59 << 9 | 0x100 | n % 53 for n in range(count)]


def test_huge_code_is_compiled_in_bounded_parts() -> None:
    launch, memory = straight(additions(1300))
    machine = Machine("gfx942", "jit")
    execution = machine.start(launch, memory)
    assert execution.run(1 << 30) == Done()
    assert execution.instructions == 4 * 1301
    assert machine.library.compiled == 1301
    assert max(region.about.instructions for region in machine.library.regions) < 700


def test_the_compiler_stops_when_it_has_done_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gputrace.isa.jit_library._MOST_NODES", 100)
    launch, memory = straight(additions(1300)[::-1])
    machine = Machine("gfx942", "jit")
    execution = machine.start(launch, memory)
    assert execution.run(1 << 30) == Done()
    assert execution.instructions == 4 * 1301
    assert 0 < machine.library.compiled < 700


def test_graphs_end_when_nobody_has_them() -> None:
    launch, memory, *_ = matmul("gfx942")
    machine, code = Machine("gfx942"), memory.array(0x10_0000)[launch.entry - 0x10_0000 :]
    mode = machine.start(launch, memory)._mode
    graph, size = machine.graph(mode, 0, code[:20].tobytes())
    end = weakref.finalize(graph.nodes[0].trace, lambda: None)
    del graph
    assert size in (4, 8)
    assert not end.alive


def test_an_empty_loop_is_paused_with_either_engine() -> None:
    launch, memory = straight([0xBF82_FFFF])  # s_branch to itself
    counts = []
    for engine in ("numpy", "jit"):
        execution = start(launch, memory, engine)
        assert isinstance(execution.run(1000), Paused)
        assert isinstance(execution.run(5000), Paused)
        counts.append(execution.instructions)
    assert counts[0] == counts[1]
    assert 6000 <= counts[0] < 6100


def test_jumps_into_the_middle_of_compiled_code() -> None:
    # s_getpc_b64 s[0:1]; s_add_u32 s0, s0, 16; s_addc_u32 s1, s1, 0; s_setpc_b64 s[0:1]; s_nop
    words = [0xBE80_1C00, 0x8000_9000, 0x8201_8001, 0xBE80_1D00, 0xBF80_0000, 0xBF80_0000]
    launch, memory = straight(words)
    assert run_both(launch, memory) == Done()


def test_equal_words_of_two_targets_are_two_kernels() -> None:
    from dataclasses import replace

    machines = [Machine(t, "jit") for t in ("gfx942", "gfx90a")]
    launch, memory = straight([0x0202_0702])
    for machine in machines:
        execution = machine.start(replace(launch, target=machine.family.name), memory)
        assert execution.run(100) == Done()
    assert machines[1].library.compiled == 2

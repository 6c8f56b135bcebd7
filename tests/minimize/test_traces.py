"""Recorded traces of failing programs are reduced to what fails, and say why."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import gputrace
from gputrace.cli.main import run
from gputrace.errors import UsageError
from gputrace.minimize.cause import explain
from gputrace.minimize.failure import in_words
from gputrace.minimize.graph import below
from gputrace.minimize.history import learn
from gputrace.minimize.model import Kind, read_model
from gputrace.minimize.prefix import bisect
from gputrace.minimize.reduce import Reduction, Settings, prepare, reduce
from gputrace.minimize.report import text
from gputrace.minimize.result import replay_again, write_result
from gputrace.minimize.script import script
from gputrace.minimize.trial import Case, Way, play, run_once
from gputrace.replay.repeats import recorded_outcome
from gputrace.replay.verdict import Result
from gputrace.report.counts import count_packets
from gputrace.trace import events
from gputrace.trace.reader import TraceReader
from gputrace.trace.writer import TraceWriter
from tests.minimize import scenes
from tests.replay.editing import rewrite

SEEDS = Settings(seeds=8)
TRACES = Path(__file__).parents[2] / "traces"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(gputrace.__file__).parents[1])}


def reduced(path: Path, scene: scenes.Scene, device: str = "emu:gfx942") -> Reduction:
    scenes.record(path, scene, device)
    return reduce(TraceReader(path), SEEDS)


def lines(reduction: Reduction) -> list[str]:
    model = reduction.case.model
    packets = (i for i in reduction.kept if i.kind is Kind.PACKET)
    return [model.packet(item).line.partition("(")[0] for item in packets]


def case_of(path: Path) -> Case:
    reader = TraceReader(path)
    model = read_model(reader)
    outcome = reader.trailer.outcome["result"] if reader.trailer else ""
    return Case(model, learn(model, str(reader.header.device["name"]), outcome))


@pytest.mark.parametrize("device", ["emu:gfx942", "emu:gfx1100"])
def test_a_lost_signal_is_one_wait_and_its_place_is_named(tmp_path: Path, device: str) -> None:
    path = tmp_path / "t.gtrace"
    reduction = reduced(path, scenes.lost_value, device)
    assert [line.startswith("PollRegMem") for line in lines(reduction)] == [True]
    assert reduction.certificate.minimal
    assert reduction.target.rate == reduction.rate == 1.0
    cause = "\n".join(explain(reduction))
    assert "'timeline done' >= 8" in cause
    assert "stored 7 by compute 0" in cause


def test_a_deadlock_keeps_both_waits_and_both_signals(tmp_path: Path) -> None:
    reduction = reduced(tmp_path / "t.gtrace", scenes.deadlock)
    found = sorted(lines(reduction))
    assert [line.startswith(("Release", "Wait")) for line in found] == [True] * 4
    assert found[0].startswith("Release")
    assert found[2].startswith("Wait")
    assert "wait for each other" in explain(reduction)[0]
    assert any("hang wait" in aside.signature for aside in reduction.asides)
    told = [line for line in text(reduction) if "Set aside" in line]
    assert len(told) == len(reduction.asides)
    assert any("hang wait at packet" in line for line in told)


def test_signatures_are_told_with_the_names_of_queues_and_buffers(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    with gputrace.record(path), gputrace.open("emu:gfx942") as device:
        device.compute_queue().write(device.alloc(4096, name="here"), b"abcd")
        device.alloc(8192, name="there")
    model = read_model(TraceReader(path))
    made = {model.name_of(buffer.where.start): buffer.made for buffer in model.buffers}
    for signature, words in {
        "hang time": "hang time",
        "hang wait 0.7 0x1000": "hang wait at packet 7 of compute 0 0x1000",
        "hang deadlock 0.1": "hang deadlock at packet 1 of compute 0",
        f"fault memory 0.2 book w beyond#{made['here']}":
            "fault memory at packet 2 of compute 0 book writes what follows here",
        f"fault memory 0.2 x missing#{made['there']}":
            "fault memory at packet 2 of compute 0 executes there, which was left out",
        "fault memory 0.2 r nowhere":
            "fault memory at packet 2 of compute 0 reads memory that is in no buffer",
    }.items():  # fmt: skip
        assert in_words(model, signature) == words


def test_a_use_after_free_keeps_the_free(tmp_path: Path) -> None:
    reduction = reduced(tmp_path / "t.gtrace", scenes.freed_source)
    assert [line.startswith("CopyLinear") for line in lines(reduction)] == [True]
    records = {
        getattr(reduction.case.model.by_number[item.event], "record", "")
        for item in reduction.kept
    }
    assert "FreeMemoryOfGpu" in records
    assert any("use after free" in line for line in explain(reduction))


def test_a_packet_with_a_wrong_count_stops_the_engine_alone(tmp_path: Path) -> None:
    reduction = reduced(tmp_path / "t.gtrace", scenes.wrong_count)
    assert reduction.packets == 1
    assert "engine stops at compute 0" in explain(reduction)[0]


def test_a_missing_wait_is_the_copy_and_what_it_overtakes(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    reduction = reduced(path, scenes.missing_wait)
    assert sorted(line.rstrip("V4") for line in lines(reduction)) == ["CopyLinear", "WriteData"]
    assert reduction.target.contrast
    # That of step 7, not one that another step has only without its own waits.
    first, second = explain(reduction)
    assert "film + 0x1c0 is 06000000 and would be 07000000" in first
    assert second.startswith("  copy 0, packet ")
    assert "does not wait for compute 0, packet " in second
    made = tmp_path / "m.gtrace"
    write_result(reduction, made, path, 60)
    again = replay_again(made, 60)
    assert again.result is Result.DIFFERS
    assert again.difference is not None
    assert again.difference.recorded is not None
    assert recorded_outcome(str(made)).came_again(again)
    with TraceReader(made) as reader, pytest.raises(UsageError, match="reduced already"):
        reduce(reader, SEEDS)


def test_a_buffer_that_is_written_too_early_blames_the_write(tmp_path: Path) -> None:
    # Not the copy, whose wait is there until the reduction takes it away: nor is that a race.
    reduction = reduced(tmp_path / "t.gtrace", scenes.overwritten)
    assert sorted(line.rstrip("V4") for line in lines(reduction)) == ["CopyLinear", "WriteData"]
    first, second = explain(reduction)
    assert "film + 0x140 is 07000000 and would be 05000000" in first
    assert second.startswith("  compute 0, packet ")
    assert "does not wait for copy 0, packet " in second


def test_a_wait_for_too_high_a_value_is_told_beside_its_neighbours(tmp_path: Path) -> None:
    cause = explain(reduced(tmp_path / "t.gtrace", scenes.too_high))
    assert "ping' >= 70, and no packet of the trace stores that" in cause[0]
    assert cause[-3].startswith("  It was stored 7 by compute 0")
    assert cause[-2:] == [
        "  5 packets that would store there never came to run.",
        "  Before it copy 0 waits for 6 there, after it for 8: 70 is out of their order.",
    ]


def test_an_access_far_from_every_buffer_is_no_overrun(tmp_path: Path) -> None:
    cause = explain(reduced(tmp_path / "t.gtrace", scenes.wild))
    assert cause[-1].startswith("  No buffer is near: the last one before it, '")
    assert not any("overrun" in line for line in cause)


@pytest.mark.parametrize(
    "scene", [scenes.lost_value, scenes.lost_gate, scenes.deadlock, scenes.freed_source]
)
def test_the_result_is_smaller_and_fails_again(tmp_path: Path, scene: scenes.Scene) -> None:
    path, made = tmp_path / "t.gtrace", tmp_path / "m.gtrace"
    reduction = reduced(path, scene)
    write_result(reduction, made, path, 60)
    assert made.stat().st_size <= path.stat().st_size
    again = replay_again(made, 60)
    wanted = Result.FAULT if scene is scenes.freed_source else Result.HANG
    assert again.result is wanted
    case = case_of(made)
    causes = run_once(case, case.graph.full, Way(reduction.device)).causes
    assert [one.split()[:2] for one in causes] == [reduction.target.signature.split()[:2]]


def test_a_barrier_of_the_grid_keeps_what_set_it_up(tmp_path: Path) -> None:
    reduction = reduced(tmp_path / "t.gtrace", scenes.too_few, "emu:gfx1030")
    assert len(lines(reduction)) == 2
    told = "\n".join(text(reduction))
    assert "barrier 2, to which 1 more wave has to come" in told
    assert "prepare(arg0=4, arg1=2)" in told
    assert "rounds(arg0=values, arg1=5, arg2=2, arg3=2), 4 groups of 64" in told


@pytest.mark.parametrize(
    ("scene", "status"),
    [
        (scenes.lost_value, 3), (scenes.freed_source, 4), (scenes.missing_wait, 1),
        (scenes.too_few, 3),
    ],
)  # fmt: skip
def test_the_script_shows_the_failure_in_a_new_process(
    tmp_path: Path, scene: scenes.Scene, status: int
) -> None:
    path = tmp_path / "t.gtrace"
    device = "emu:gfx1030" if scene is scenes.too_few else "emu:gfx942"
    reduction = reduced(path, scene, device)
    write_result(reduction, tmp_path / "m.gtrace", path, 60)
    program = tmp_path / "failure.py"
    program.write_text(script(reduction))
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert done.returncode == status, done.stdout + done.stderr
    words = {3: "hang: queue 0", 4: "was freed", 1: "wrong: "}
    assert words[status] in done.stdout


def test_a_whole_stream_edited_into_new_rings_gives_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    scenes.record(path, scenes.passing)
    case = case_of(path)
    assert case.history.verdict.result is Result.SAME
    way = Way("emu:gfx942", contrast=True)
    _verdict, found, memory, right = play(case, case.graph.full, way, lambda: False)
    assert not found, found
    assert right is not None
    assert memory.taken == right.taken
    names = {case.model.name_of(one.where.start): one for one in case.model.buffers}
    data, copy = (memory.taken[names[name].made] for name in ("data", "copy"))
    assert data == copy != bytes(len(data))


def test_every_prefix_of_what_took_place_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    scenes.record(path, scenes.passing)
    case = case_of(path)
    for count in range(0, case.graph.count + 1, case.graph.count // 12):
        shown = run_once(case, below(count), Way("emu:gfx942,schedule=3"))
        assert not shown.causes, (count, shown.causes)


def test_a_queue_keeps_working_when_those_before_it_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    scenes.record(path, scenes.lost_value)
    case = case_of(path)
    gone = {item for item in range(case.graph.count) if case.items[item].queue == 0}
    mask = sum(1 << item for item in range(case.graph.count) if item not in gone)
    verdict, found, _, _ = play(case, mask, Way("emu:gfx942"), lambda: False)
    assert verdict.result is Result.HANG
    assert [one.packets[0][0] for one in found] == [1]


def test_a_trace_that_passes_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.gtrace"
    scenes.record(path, scenes.passing)
    assert run(["minimize", str(path), "--seeds", "2"]) == 2
    assert "does not fail" in capsys.readouterr().err


def test_a_trace_that_does_not_replay_as_it_was_recorded_is_refused(tmp_path: Path) -> None:
    # What its packets do here says nothing about what they did there.
    scenes.record(tmp_path / "t.gtrace", scenes.missing_wait)
    changed = 0

    def change(
        event: events.Event, data: bytes
    ) -> list[events.Event | tuple[events.Event, bytes]]:
        nonlocal changed
        if isinstance(event, events.Digest) and event.stored and not changed:
            changed += 1
            return [(event, bytes([data[0] ^ 1]) + data[1:])]
        return [event]

    path = rewrite(tmp_path / "t.gtrace", change)
    assert changed
    with (
        TraceReader(path) as reader,
        pytest.raises(UsageError, match="does not replay as it was recorded: memory at 0x"),
    ):
        reduce(reader, SEEDS)


def test_bisect_names_the_packet_that_never_completes(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    scenes.record(path, scenes.lost_value)
    with TraceReader(path) as reader:
        found = bisect(reader, SEEDS)
        assert found.item is not None
        packet = found.case.model.packet(found.item)
        assert packet.line.startswith("PollRegMem")
        assert "reference=8" in packet.line
        assert found.item.queue == 1


def test_a_killed_reduction_goes_on_from_its_journal(tmp_path: Path) -> None:
    path, journal = tmp_path / "t.gtrace", tmp_path / "t.journal"
    scenes.record(path, scenes.deadlock)
    command = [sys.executable, "-m", "gputrace.cli.main", "minimize", str(path), "--json",
               "--journal", str(journal)]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    while process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") > 10:
            process.kill()
            break
    process.wait()
    assert process.returncode == -9
    known = journal.read_bytes().count(b"\n") - 1
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    data = json.loads(done.stdout)
    assert data["packets"]["after"] == 4
    assert data["runs"]["recalled"] >= known - 1 > 5
    assert data["certificate"]["minimal"]
    text = path.with_suffix(".min.txt").read_text()
    assert "wait for each other" in text
    assert "Certificate" in text


def test_roots_of_a_run_that_ends_well_are_none(tmp_path: Path) -> None:
    path = tmp_path / "t.gtrace"
    scenes.record(path, scenes.passing)
    case = case_of(path)
    verdict, found, _, _ = play(case, case.graph.full, Way("emu:gfx942"), lambda: False)
    assert verdict.result is Result.NOT_COMPARED
    assert found == []


def test_a_trace_without_steps_is_learnt_by_its_progress(tmp_path: Path) -> None:
    path, plain = tmp_path / "t.gtrace", tmp_path / "p.gtrace"
    scenes.record(path, scenes.lost_value)
    with TraceReader(path) as reader:
        header = replace(reader.header, device={**reader.header.device, "name": "kfd:0"})
        with TraceWriter(plain, header) as writer:
            for number, event in reader.numbered():
                if isinstance(event, events.Memory):
                    writer.memory(event.address, reader.memory(event), event.provenance)
                elif number and not isinstance(event, events.Digest):
                    changes = {"step": -1} if "step" in event.__slots__ else {}
                    writer.append(replace(event, **changes))
    with TraceReader(plain) as reader:
        reduction = reduce(reader, replace(SEEDS, device="emu:gfx942"))
    assert [line.startswith("PollRegMem") for line in lines(reduction)] == [True]


def test_a_trace_of_another_scheduler_is_reduced_by_its_progress(tmp_path: Path) -> None:
    # Its steps are not those that the device here would take.
    path, older = tmp_path / "t.gtrace", tmp_path / "older.gtrace"
    scenes.record(path, scenes.lost_value)
    with (
        TraceReader(path) as reader,
        TraceWriter(older, replace(reader.header, scheduler="0")) as writer,
    ):
        for number, event in reader.numbered():
            if isinstance(event, events.Memory):
                writer.memory(event.address, reader.memory(event), event.provenance, event.step)
            elif number and not isinstance(event, events.Digest):
                late = {"step": 3 * event.step} if "step" in event.__slots__ else {}
                writer.append(replace(event, **late))
    with TraceReader(older) as reader:
        reduction = reduce(reader, SEEDS)
    assert [line.startswith("PollRegMem") for line in lines(reduction)] == [True]


@pytest.mark.parametrize("name", ["lost_signal-gfx942", "spin_lock-gfx1100", "hip_unset-gfx90a"])
def test_the_packets_in_rings_are_those_that_a_reduction_begins_with(name: str) -> None:
    reader = TraceReader(Path(__file__).parents[2] / "traces" / f"{name}.gtrace")
    counts = count_packets(reader)
    assert counts.packets - counts.nested == read_model(reader).packets


def test_of_a_program_that_reads_the_clock_and_does_well_nothing_is_reduced() -> None:
    with (
        TraceReader(TRACES / "hip_streams-gfx90a.gtrace") as reader,
        pytest.raises(UsageError, match="ends same, under 2 schedules and with check=bytes"),
    ):
        prepare(reader, Settings(seeds=2))

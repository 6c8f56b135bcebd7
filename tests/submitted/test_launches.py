"""Dispatches read out of packets and memory: kernel, shape, arguments, and what is not known."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gputrace.bits import Record
from gputrace.code import CodeObject
from gputrace.families import FAMILIES, family
from gputrace.formats import aql, pm4
from gputrace.kfd.labels import Label, Labels
from gputrace.submitted import launches
from gputrace.submitted.image import Image
from gputrace.submitted.launches import Launch, Launches, register_writes
from gputrace.submitted.stream import Placed
from gputrace.trace import events
from gputrace.trace.reader import TraceReader
from gputrace.trace.writer import TraceWriter

KERNELS = Path(__file__).parents[1] / "kernels" / "built"
CODE, KERNARG = 0x7F00_0000_0000, 0x7F00_0100_0000
ENABLE = 1


class Scene:
    """A code object in memory, and packets of one queue."""

    def __init__(self, target: str, path: Path) -> None:
        with TraceWriter(path, events.Header("test", family=target)):
            pass
        self.reader = TraceReader(path)
        self.image, self.labels = Image(self.reader), Labels()
        self.family = family(target)
        self.launches = Launches(self.image, self.labels)
        self.launches.family = self.family
        self.code = CodeObject.parse((KERNELS / target / "seed-O3.co").read_bytes())
        self.image.apply(events.Map(CODE, self.code.memory_size, "fd:3", 0, 3))
        self.image.apply(events.Map(KERNARG, 4096, "fd:3", 0, 3))
        self.image.write(CODE, self.code.image(CODE))

    def send(self, *records: Record, queue: int = 0) -> Launch | None:
        launch = None
        for record in records:
            launch = self.launches.apply(Placed(queue, 0, 1, 0, (), record))
        return launch

    def register(self, name: str, *values: int) -> pm4.SetShReg:
        offset = self.family.registers.address(f"COMPUTE_{name}") - pm4.SH_BASE
        return pm4.SetShReg(offset=offset, values=values)

    def set_up(self, name: str = "fill") -> list[pm4.SetShReg]:
        kernel = self.code.kernels[name]
        entry = CODE + kernel.entry_address
        first, _ = kernel.descriptor.user_sgprs()["kernarg_segment_ptr"]
        return [
            self.register("PGM_LO", entry >> 8 & 0xFFFFFFFF, entry >> 40),
            self.register("NUM_THREAD_X", 64, 2, 1),
            self.register(f"USER_DATA_{first}", KERNARG & 0xFFFFFFFF, KERNARG >> 32),
        ]


@pytest.fixture(params=sorted(FAMILIES))
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(request.param, tmp_path / "t.gtrace")
    yield made
    made.reader.close()


def test_a_pm4_dispatch_is_read_from_the_registers_of_its_own_queue(scene: Scene) -> None:
    out = KERNARG + 0x800
    scene.image.write(KERNARG, out.to_bytes(8, "little") + (7).to_bytes(4, "little"))
    scene.labels.put(Label(KERNARG, 4096, "buffer", "arguments"))
    scene.send(*scene.set_up())
    launch = scene.send(pm4.DispatchDirect(dim_x=5, dim_y=3, initiator=ENABLE))
    assert launch is not None
    assert (launch.kernel, launch.groups, launch.block) == ("fill", (5, 3, 1), (64, 2, 1))
    assert launch.kernarg == KERNARG
    assert launch.text() == "fill(arg0=arguments+0x800, arg1=7), 5x3 groups of 64x2"
    other = scene.send(pm4.DispatchDirect(dim_x=5, initiator=ENABLE), queue=1)
    assert other is not None
    assert (other.kernel, other.entry, other.arguments) == ("", 0, None)
    assert other.text() == "the code at 0x0, 5 groups of 0x0x0"


def test_work_items_are_counted_in_groups(scene: Scene) -> None:
    layout = scene.family.registers.layout("COMPUTE_DISPATCH_INITIATOR")
    assert layout is not None
    (initiator,) = layout(compute_shader_en=1, use_thread_dimensions=1).encode()
    scene.send(*scene.set_up())
    launch = scene.send(pm4.DispatchDirect(dim_x=65, dim_y=2, dim_z=1, initiator=initiator))
    assert launch is not None
    assert launch.groups == (2, 1, 1)


def test_an_indirect_dispatch_takes_its_size_from_memory(scene: Scene) -> None:
    scene.send(*scene.set_up())
    sizes = b"".join(value.to_bytes(4, "little") for value in (9, 8, 7))
    scene.image.write(KERNARG + 256, sizes)
    launch = scene.send(pm4.DispatchIndirect(address=KERNARG + 256, initiator=ENABLE))
    assert launch is not None
    assert launch.groups == (9, 8, 7)
    assert scene.send(pm4.DispatchIndirect(address=0x1000, initiator=ENABLE)) is None


def test_an_aql_dispatch_is_read_from_its_packet(scene: Scene) -> None:
    kernel = scene.code.kernels["fill"]
    packet = aql.KernelDispatch(
        dimensions=1, workgroup_size_x=64, grid_size_x=130, kernarg_address=KERNARG,
        kernel_object=CODE + kernel.descriptor_address,
    )  # fmt: skip
    launch = scene.send(packet)
    assert launch is not None
    assert (launch.kernel, launch.groups, launch.entry) == (
        "fill", (3, 1, 1), CODE + kernel.entry_address
    )  # fmt: skip
    nowhere = scene.send(packet.replace(kernel_object=0x5000))
    assert nowhere is not None
    assert (nowhere.kernel, nowhere.entry) == ("", 0x5000)


def test_arguments_that_lie_nowhere_are_not_known(scene: Scene) -> None:
    scene.send(*scene.set_up())
    scene.image.apply(events.Map(0x9000, 4096, "fd:3", 0, 3))
    first, _ = scene.code.kernels["fill"].descriptor.user_sgprs()["kernarg_segment_ptr"]
    scene.send(scene.register(f"USER_DATA_{first}", 0x5000, 0))
    launch = scene.send(pm4.DispatchDirect(dim_x=1, initiator=ENABLE))
    assert launch is not None
    assert (launch.kernel, launch.arguments) == ("fill", None)


def test_what_is_passed_over_sets_nothing(scene: Scene) -> None:
    (program, *_) = scene.set_up()
    scene.launches.apply(Placed(0, 0, 1, 0, (), program, skipped=True))
    assert scene.launches.registers(0) == {}
    scene.send(program)
    assert scene.launches.registers(0)
    scene.launches.forget(0)
    assert scene.launches.registers(0) == {}


def test_code_that_was_replaced_is_read_anew_and_old_code_is_forgotten(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = scene.code.kernels["fill"]
    inside = CODE + kernel.entry_address
    first = scene.launches.code_around(inside)
    assert first is scene.launches.code_around(inside)
    scene.image.write(CODE + 0x40, b"\xff" * 64)  # its program headers
    again = scene.launches.code_around(inside)
    assert again is None
    monkeypatch.setattr(launches, "MAX_LOADED", 0)
    scene.image.write(CODE, scene.code.image(CODE))
    assert scene.launches.code_around(inside) is None


@pytest.mark.parametrize("damage", [0, 16, 40, 54, 200, 500])
def test_a_damaged_code_object_has_no_kernels_and_does_no_harm(scene: Scene, damage: int) -> None:
    scene.image.write(CODE + damage, b"\xff" * 8)
    scene.send(*scene.set_up())
    launch = scene.send(pm4.DispatchDirect(dim_x=1, initiator=ENABLE))
    assert launch is not None
    assert launch.kernel in ("", "fill")


def test_every_packet_that_sets_registers_is_understood() -> None:
    start = pm4.SH_BASE + 5
    assert list(register_writes(pm4.SetShReg(offset=5, values=(1, 2)))) == [
        (start, 1), (start + 1, 2)
    ]  # fmt: skip
    pairs = pm4.SetShRegPairs(pairs=(5, 1, 9, 2))
    assert list(register_writes(pairs)) == [(start, 1), (start + 4, 2)]
    far = pm4.SetUconfigRegPairs(pairs=(5, 1))
    assert list(register_writes(far)) == [(pm4.UCONFIG_BASE + 5, 1)]
    write = pm4.WriteData(dst_sel=pm4.WriteTo.REGISTER, address=start, data=(3,))
    assert list(register_writes(write)) == [(start, 3)]
    assert list(register_writes(pm4.WriteData(address=0x1000, data=(3,)))) == []

"""Several GPUs: peers map one another's memory, signal one another and share one schedule."""

import pytest

from gputrace.formats.ioctl import AllocFlag, QueueType
from gputrace.formats.operations import Compare
from gputrace.formats.pm4 import ReleaseData

VRAM = AllocFlag.VRAM | AllocFlag.WRITABLE | AllocFlag.EXECUTABLE | AllocFlag.NO_SUBSTITUTE


def everywhere(bench, size=4096):
    return bench.memory(size, VRAM, *(node.gpu_id for node in bench.nodes))


def on(bench, number, kind=QueueType.COMPUTE, **more):
    """Make a queue on one of the GPUs; its ring lies there too."""
    bench.node = bench.nodes[number]
    bench.gpu_id = bench.node.gpu_id
    bench.fd = bench.kfd.open_render(bench.node.render_minor)
    return bench.queue(kind, **more)


def release(bench, address, value):
    return bench.family.pm4.packet("ReleaseMem")(
        address=address, data=value, data_sel=ReleaseData.DATA_64
    )


@pytest.mark.parametrize("target", ["gfx90a", "gfx942"])
def test_an_xgmi_engine_copies_to_a_peer(make_bench, target):
    bench = make_bench(target, 2)
    source, there = everywhere(bench), everywhere(bench)
    source.view[:5] = b"hello"
    ring, packet = on(bench, 1, QueueType.SDMA_XGMI), bench.family.sdma.packet
    ring.put(packet("CopyLinear")(count=4, source=source.address, destination=there.address))
    bench.run()
    assert bytes(there.view[:5]) == b"hello"


def test_a_family_without_xgmi_has_no_such_queue(make_bench):
    bench = make_bench("gfx1100", 2)
    with pytest.raises(Exception, match="CREATE_QUEUE"):
        on(bench, 0, QueueType.SDMA_XGMI)


def test_memory_that_a_gpu_has_not_mapped_faults_there_only(make_bench):
    bench = make_bench("gfx1100", 2)
    mine = bench.memory(4096, VRAM)  # on the first GPU alone
    one, two = on(bench, 0), on(bench, 1)
    for ring in (one, two):
        ring.put(bench.family.pm4.packet("WriteData")(address=mine.address, data=(1,)))
    bench.run()
    (fault,) = bench.kfd.faults()
    assert (fault.device, fault.queue, fault.address) == (1, 1, mine.address)
    assert mine.view[0] == 1


def test_eight_gpus_pass_a_token_round(make_bench):
    bench = make_bench("gfx942", 8, schedule=5)
    cells = everywhere(bench)
    packet = bench.family.pm4.packet
    for number in range(8):
        ring = on(bench, number)
        for turn in range(3):
            here = 8 * turn + number
            ring.put(
                packet("WaitRegMem")(
                    function=Compare.EQ, address=cells.address, reference=here
                ),
                packet("WriteData")(address=cells.address + 64 + 4 * here, data=(100 + here,)),
                release(bench, cells.address, here + 1),
            )
    bench.run(200)
    assert bench.kfd.stalls() == ()
    assert int.from_bytes(cells.view[:8], "little") == 24
    told = memoryview(bytes(cells.view[64 : 64 + 96])).cast("I")
    assert list(told) == [100 + here for here in range(24)]


def test_a_deadlock_across_two_gpus_names_both(make_bench):
    bench = make_bench("gfx942", 2)
    cells = everywhere(bench)
    at, packet = cells.address, bench.family.pm4.packet
    for number in range(2):
        ring = on(bench, number)
        ring.put(
            packet("WaitRegMem")(
                function=Compare.GE, address=at + 8 * number, reference=1
            ),
            release(bench, at + 8 * (1 - number), 1),
        )
    bench.run()
    first, second = bench.kfd.stalls()
    assert first.cycle == ((0, 0, 0), (1, 1, 0))
    assert second.cycle == ((1, 1, 0), (0, 0, 0))


def test_every_pair_is_linked(make_bench):
    for target, kind in (("gfx942", 11), ("gfx1100", 2)):
        nodes = make_bench(target, 4).kfd.topology.gpus
        for node in nodes:
            links = [*node.io_links, *node.p2p_links]
            peers = {link["node_to"] for link in links if link["node_to"]}
            assert peers == {1, 2, 3, 4} - {node.index}
            assert {link["type"] for link in links if link["node_to"]} == {kind}

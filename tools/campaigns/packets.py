"""Random packets through the emulated engines: they end, stop or wait, and do so again alike.

A case fills two queues of a random target with random packets, whose addresses mostly lie in a
buffer and whose control bits are mostly those that clients use, and runs them twice under one
schedule. Memory, faults, stalls, steps and clock must come out the same, memory that the GPU may
only read must stay as it was, and nothing but a declared error may be raised.
"""

import hashlib
from random import Random
from typing import Any

from gputrace import driver
from gputrace.driver import Buffer
from gputrace.errors import FieldError
from gputrace.families import FAMILIES
from gputrace.formats import aql
from gputrace.formats.descriptor import KernelDescriptor
from gputrace.kfd.port import Progress
from tools.campaigns import Campaign

COUNT, SAMPLE = 20_000, 60
PACKETS = 6
STEPS = 4000
_COUNTS = ("count", "byte_count", "dwords_there", "exec_count", "ib_size", "dma_count")
_AQL = (aql.KernelDispatch, aql.BarrierAnd, aql.BarrierOr, aql.BarrierValue, aql.VendorPm4)


def run(campaign: Campaign) -> None:
    """Run every case twice."""
    faults = stalls = 0
    for number in campaign.numbers():
        try:
            first, second = (case(campaign.random(number)) for _ in range(2))
        except Exception as error:  # noqa: BLE001 - any error is what is looked for
            campaign.fail(f"case {number}: {type(error).__name__}: {error}")
            continue
        if first != second:
            campaign.fail(f"case {number}: {first} and then {second}")
        faults, stalls = faults + bool(first[1]), stalls + bool(first[2])
    campaign.facts |= {"cases with faults": faults, "cases with stalls": stalls}


def case(rng: Random) -> tuple[object, ...]:
    """Run one case; return what is compared."""
    target, seed = rng.choice(sorted(FAMILIES)), rng.randrange(1000)
    check, tame = rng.choice(["pages", "pages", "bytes"]), rng.choice([0.8, 0.97, 1.0])
    with driver.open(f"emu:{target},schedule={seed},budget=64K,check={check}") as device:
        kfd: Any = device.session.kfd
        data = device.alloc(1 << 16, name="data")
        data.write(rng.randbytes(1 << 16))
        for kind in rng.sample(["pm4", "aql", "sdma"], 2):
            queue = device.copy_queue() if kind == "sdma" else device.compute_queue(kind)  # type: ignore[call-overload]
            for _ in range(rng.randint(1, PACKETS)):
                queue.submit(packet(rng, kind, device.family, data, tame))
        while kfd.step < STEPS and kfd.idle(None) is not Progress.BLOCKED:
            pass
        told = [fault.text for fault in kfd.faults()], [stall.text for stall in kfd.stalls()]
        digest = hashlib.sha256(data.read(1 << 16)).hexdigest()
        return digest, *told, kfd.step, kfd.clock(), dict(kfd.refused)


def packet(rng: Random, kind: str, family: Any, data: Buffer, tame: float) -> bytes:
    """Make one packet of a kind of queue, or a kernel descriptor's dispatch."""
    while True:
        dialect = {"pm4": family.pm4, "sdma": family.sdma, "aql": None}[kind]
        layouts = _AQL if dialect is None else dialect.all
        if rng.random() < tame:
            layouts = [one for one in layouts if not one.UNSUPPORTED]
        layout = rng.choice(layouts)
        try:
            made = tamed(rng, layout.random(rng), data, tame)
            if isinstance(made, aql.KernelDispatch):
                made = dispatch(rng, made, data)
            return bytes(made.to_bytes())
        except FieldError:
            continue


def tamed(rng: Random, made: Any, data: Buffer, tame: float) -> Any:
    """Lead most addresses into the buffer and set most control bits as clients do."""
    stray = [0, 0, 0, 4, 1] if tame < 1 else [0]
    changes: dict[str, int] = {}
    for field in made.FIELDS:
        usual = field.default is not None and not callable(field.default) and not field.fixed
        if field.role is not None and field.role.uses == "address" and rng.random() < tame:
            near = data.address + 64 * rng.randrange(1000) + rng.choice(stray)
            changes[field.name] = near >> field.shift << field.shift
        elif field.name in _COUNTS and not callable(field.default) and rng.random() < tame:
            changes[field.name] = rng.randrange(64)
        elif usual and rng.random() < tame:
            changes[field.name] = field.default
    return made.replace(**changes)


def dispatch(rng: Random, made: aql.KernelDispatch, data: Buffer) -> aql.KernelDispatch:
    """Give a dispatch a size that ends, and mostly a descriptor to start from."""
    at = 256 * rng.randrange(1, 200)
    if rng.random() < 0.8:
        descriptor = KernelDescriptor.random(rng).replace(kernel_code_entry_byte_offset=256)
        data.write(descriptor.to_bytes(), at)
    return made.replace(
        kernel_object=data.address + at,
        dimensions=rng.randrange(4),
        workgroup_size_x=rng.randrange(300), workgroup_size_y=1, workgroup_size_z=1,
        grid_size_x=rng.randrange(2000), grid_size_y=1, grid_size_z=1,
        private_segment_size=rng.choice([0, 0, 64]),
        group_segment_size=rng.choice([0, 64, 1 << 20]),
    )  # fmt: skip

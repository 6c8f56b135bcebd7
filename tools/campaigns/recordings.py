"""Random programs over queues of two GPUs, recorded: each replay is the same, to the byte.

Every case has a family, a schedule, small or large rings and sixty steps of its own.
"""

import gputrace
from gputrace.families import FAMILIES
from gputrace.replay import child
from gputrace.replay.running import Request, play
from tools.campaigns import Campaign
from tools.programs import Program

COUNT, SAMPLE = 200, 3
STEPS = 60


def run(campaign: Campaign) -> None:
    """Record each program and replay it in a process of its own."""
    compared = 0
    for number in campaign.numbers():
        rng = campaign.random(number)
        target, schedule = rng.choice(list(FAMILIES)), rng.randrange(1 << 16)
        path = campaign.folder / f"{number}.gtrace"
        with gputrace.record(path), gputrace.open(f"emu:{target}x2,schedule={schedule}") as device:
            program = Program([device, *device.peers], rng.randrange(1 << 32))
            if rng.random() < 0.5:
                program.small_rings()
            for _ in range(STEPS):
                program.step()
            wrong = program.differing()
        request = Request(str(path))
        verdict = child.run(lambda expired: play(request, expired))  # noqa: B023
        if wrong or verdict.result.value != "same" or verdict.compared != verdict.written:
            case = f"program {number} on {target}, schedule {schedule}"
            campaign.fail(f"{case}: buffers {wrong} differ; replay: {verdict.text}")
        compared += verdict.compared
        path.unlink()
    campaign.facts["bytes compared"] = compared

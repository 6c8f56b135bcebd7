"""Random programs over queues of two GPUs leave what their steps leave one after another.

Every case has a family, a schedule, small or large rings and a hundred steps of its own.
"""

from gputrace import driver
from gputrace.errors import GputraceError
from gputrace.families import FAMILIES
from tools.campaigns import Campaign
from tools.programs import Program

COUNT, SAMPLE = 1000, 5
STEPS = 100


def run(campaign: Campaign) -> None:
    """Run each program and compare all its memory."""
    for number in campaign.numbers():
        rng = campaign.random(number)
        target, schedule = rng.choice(list(FAMILIES)), rng.randrange(1 << 16)
        case = f"program {number} on {target}, schedule {schedule}"
        with driver.open(f"emu:{target}x2,schedule={schedule}") as device:
            program = Program([device, *device.peers], rng.randrange(1 << 32))
            if rng.random() < 0.5:
                program.small_rings()
            try:
                for _ in range(STEPS):
                    program.step()
                wrong = program.differing()
            except GputraceError as problem:
                campaign.fail(f"{case}: {problem}")
                continue
        if wrong:
            campaign.fail(f"{case}: buffers {wrong} differ")
    campaign.facts["steps"] = STEPS * campaign.done

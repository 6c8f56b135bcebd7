"""What tinygrad compiles for three targets, run on both engines and compared with numpy.

Each case is one kind of work on one target and engine.
"""

from tests.kernels import tinygrad_running as tinygrad
from tools.campaigns import Campaign

CASES = [
    (name, target, engine)
    for name in tinygrad.WORK
    for target in tinygrad.TARGETS
    for engine in tinygrad.ENGINES
]
COUNT, SAMPLE = len(CASES), 1


def run(campaign: Campaign) -> None:
    """Run each case in a process of its own."""
    if not tinygrad.INSTALLED:
        campaign.facts["not run"] = "tinygrad or libllvm19 is not installed"
        campaign.step()
        return
    for number in campaign.numbers():
        name, target, engine = CASES[number % len(CASES)]
        try:
            tinygrad.run(target, engine, (name,), campaign.folder)
        except AssertionError as problem:
            campaign.fail(f"{name} on {target}, {engine}: {problem}")

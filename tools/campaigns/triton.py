"""Every stored kernel of Triton on every target, with numpy and compiled: the right results.

Each case is one kernel on one target and engine.
"""

from gputrace.errors import GputraceError
from tests.kernels.triton.checks import check
from tests.kernels.triton.launching import everything
from tools.campaigns import Campaign

CASES = [(*case, engine) for engine in ("numpy", "jit") for case in everything()]
COUNT, SAMPLE = len(CASES), 4


def run(campaign: Campaign) -> None:
    """Run each case; a seed other than 0 takes them in another order."""
    order = list(range(len(CASES)))
    if campaign.seed:
        campaign.random(0).shuffle(order)
    for number in campaign.numbers():
        target, name, engine = CASES[order[number % len(order)]]
        try:
            check(target, name, engine)
        except (AssertionError, GputraceError) as problem:
            campaign.fail(f"{name} on {target}, {engine}: {problem}")

"""Every primitive on random registers, compiled and with numpy: the same bits.

Each case is one set of registers for waves of 32 and of 64 lanes, with vectors and with scalars.
"""

from tests.isa.test_jit_primitives import CASES, LANE_CASES, Both, inputs
from tools.campaigns import Campaign

COUNT, SAMPLE = 5_000, 2
FORMS = ((32, False), (64, False), (64, True))


def run(campaign: Campaign) -> None:
    """Compare registers after all primitives."""
    folder = campaign.folder / "jit"
    programs = []
    for wave_size, uniform in FORMS:
        names = list(CASES) if uniform else [*CASES, *LANE_CASES]
        cases = [(CASES | LANE_CASES)[name][1] for name in names]
        programs.append((Both(cases, wave_size, uniform, folder), names))
    campaign.facts["primitives"] = len(CASES) + len(LANE_CASES)
    for number in campaign.numbers():
        seed = campaign.random(number).randrange(1 << 32)
        for program, names in programs:
            words = inputs(seed, program.mode.wave_size)
            problem = program.difference(words, names)
            if problem:
                campaign.fail(f"case {number} (seed {seed}): {problem}")

"""OpenCL's functions through the device libraries: all targets, types and engines, in ulp.

Each case is one type of one target, compiled at -O1, on one engine.
"""

import shutil

from tests.isa.corpus import TARGETS
from tests.kernels import device_library as library
from tools.campaigns import Campaign

CASES = [
    (target, kind, engine)
    for target in TARGETS
    for engine in ("numpy", "jit")
    for kind in library.KINDS
]
COUNT, SAMPLE = len(CASES), 1


def run(campaign: Campaign) -> None:
    """Compile and run each case."""
    if shutil.which("clang-19") is None or not library.BITCODE.is_dir():
        campaign.facts["not run"] = "clang-19 or rocm-device-libs is not installed"
        campaign.step()
        return
    for number in campaign.numbers():
        target, kind, engine = CASES[number % len(CASES)]
        try:
            code = library.compiled(target, "O1", campaign.folder)
            library.check(target, code, kind, engine)
        except AssertionError as problem:
            campaign.fail(f"{kind} on {target}, {engine}: {problem}")

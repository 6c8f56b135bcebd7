"""The kernels of the tests as clang-22 compiles them, all targets and levels, on both engines.

Each case is one file of tests for one build, as in the campaign "corpus".
"""

import shutil

from tools.build_kernels import FOLDERS, build, objects
from tools.campaigns import Campaign, corpus

CLANG = "clang-22"
COUNT, SAMPLE = corpus.COUNT, 1


def run(campaign: Campaign) -> None:
    """Compile what the cases need, then run them."""
    if shutil.which(CLANG) is None or shutil.which("ld.lld-22") is None:
        campaign.facts["not run"] = "clang-22 or lld-22 is not installed"
        campaign.step()
        return
    wanted = {name for _, name in corpus.CASES[: campaign.count]}
    built = 0
    for path, source, target, level in objects():
        if source.parent == FOLDERS[0][0] and f"{target}-{level}" in wanted:
            folder = campaign.folder / "kernels" / target
            folder.mkdir(parents=True, exist_ok=True)
            # The stubs beside each kernel bring warnings about LDS that nobody uses there.
            code = build(source, target, level, campaign.folder, CLANG, "-w")
            (folder / path.name).write_bytes(code)
            built += 1
    campaign.facts["code objects"] = built
    corpus.run(campaign, GPUTRACE_TEST_KERNELS=str(campaign.folder / "kernels"))

"""The yardstick of other emulators: tinygrad's, on its own kernel for a product of 256^3.

Needs a checkout of tinygrad (what PyPI has lacks its emulator), whose folder $TINYGRAD names, and
what it compiles with: libLLVM 19 and clang-19; its object is linked with lld-19. Without a
checkout there are no rows.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np

from gputrace.isa.machine import Done, Machine
from tests.isa.launching import Arrays, Program
from tools.benches import Options, Row, at_least
from tools.benches.kernels import Case, measure

TARGET, SIZE = "gfx1100", 256
LIBRARY = "/usr/lib/x86_64-linux-gnu/libLLVM-19.so.1"
SCRIPT = """
import base64, json, sys, time
import numpy as np
from tinygrad import Device, Tensor
from tinygrad.runtime import ops_amd

found, spent = {}, []
made, call = ops_amd.AMDProgram.__init__, ops_amd.AMDProgram.__call__

def init(self, dev, obj, *rest, **more):
    self.found = {"code": base64.b64encode(bytes(obj.lib)).decode(), "name": obj.name}
    made(self, dev, obj, *rest, **more)

def run(self, *buffers, global_size=(1, 1, 1), local_size=(1, 1, 1), **more):
    found.update(self.found, groups=global_size, items=local_size)
    before = time.thread_time()
    answer = call(self, *buffers, global_size=global_size, local_size=local_size, **more)
    self.dev.synchronize()
    spent.append(time.thread_time() - before)
    return answer

ops_amd.AMDProgram.__init__, ops_amd.AMDProgram.__call__ = init, run
size = int(sys.argv[1])
a, b = (Tensor(np.load(sys.argv[n])).realize() for n in (2, 3))
for _ in range(4):
    (a @ b).realize()
print(json.dumps({**found, "seconds": min(spent)}))
"""


def rows(options: Options) -> Iterator[Row]:
    """Run the same machine code in both emulators, on one core."""
    checkout = os.environ.get("TINYGRAD", "")
    if not checkout:
        return
    chance = np.random.default_rng(1)
    a, b = (chance.random((SIZE, SIZE), np.float32) for _ in range(2))
    theirs = _theirs(checkout, options, a, b)
    case = _case(theirs, _linked(options, str(theirs["code"])), a, b)
    os.environ["XDG_CACHE_HOME"] = str(options.folder)
    machine = Machine(TARGET, "jit", 1)
    assert machine.start(case.launch, case.memory).run(1 << 40) == Done()
    count, best = min((measure(machine, case) for _ in range(8)), key=lambda found: found[1])
    seconds = float(theirs["seconds"])
    yield Row("tinygrad's emulator", seconds, "s", note=f"{TARGET}, its kernel for {SIZE}^3")
    yield Row("the same kernel here", best * 1e3, "ms", note=f"{count:,} instructions")
    yield at_least("how many times as fast", seconds / best, "times", 200)


def _theirs(checkout: str, options: Options, a: object, b: object) -> dict[str, object]:
    # The kernel's code, how it was launched, and the seconds that it took there.
    paths = [str(options.folder / f"{name}.npy") for name in "ab"]
    for path, matrix in zip(paths, (a, b), strict=True):
        np.save(path, matrix)  # type: ignore[arg-type]
    environment = {
        **os.environ, "DEV": f"MOCK+AMD:LLVM:{TARGET}", "PYTHONPATH": checkout, "CC": "clang-19",
        "LLVM_PATH": os.environ.get("LLVM_PATH", LIBRARY), "CACHEDB": f"{options.folder}/cache.db",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(SIZE), *paths],
        env=environment, cwd=checkout, check=True, capture_output=True, text=True,
    )  # fmt: skip
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def _linked(options: Options, text: str) -> bytes:
    relocatable, linked = options.folder / "kernel.o", options.folder / "kernel.co"
    relocatable.write_bytes(base64.b64decode(text))
    subprocess.run(["ld.lld-19", "-shared", relocatable, "-o", linked], check=True)
    return linked.read_bytes()


def _case(theirs: dict[str, object], code: bytes, a: object, b: object) -> Case:
    memory, out = Arrays(), np.zeros((SIZE, SIZE), np.float32)
    program = Program(TARGET, "", code)
    args = [memory.add(np.array(one)) for one in (out, a, b)]
    out = memory.array(args[0])
    groups, items = (tuple(map(int, theirs[name])) for name in ("groups", "items"))  # type: ignore
    launch = program.launch(str(theirs["name"]), groups, items, memory, args)
    return Case(launch, memory, lambda: np.allclose(out, np.array(a) @ np.array(b), rtol=1e-4))

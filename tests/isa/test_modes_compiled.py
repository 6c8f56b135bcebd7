"""What a compiler makes of flushed denormals, registers by number, traps and signals to the host.

Singles are divided with denormals switched on for the division alone (s_setreg or s_denorm_mode),
a vector is indexed by a number that is known at run time (s_set_gpr_idx or v_movrel), and
`__builtin_trap` stops the dispatch.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gputrace.isa.machine import Done, Trapped
from tests.isa.launching import Arrays, Program, run, start
from tools.build_kernels import compiler

TARGETS = ("gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1201")
SOURCE = """
#define ITEM ((int)(__builtin_amdgcn_workgroup_id_x() * 64 + __builtin_amdgcn_workitem_id_x()))
typedef float many __attribute__((ext_vector_type(16)));
__kernel void pick(__global float *out, __global const float *in, int which) {
  many v;
  for (int k = 0; k < 16; k++) v[k] = in[ITEM * 16 + k];
  v[(which * 7) & 15] = 42.0f + ITEM;
  out[ITEM] = v[which & 15] + 2.0f * v[(which + 3) & 15];
}
__kernel void quotient(__global float *out, __global const float *a, __global const float *b) {
  out[ITEM] = a[ITEM] / b[ITEM];
}
__kernel void fall(__global int *out) {
  out[ITEM] = 1;
  __builtin_amdgcn_s_sendmsg(1, 77);
  if (out[0] == 1) __builtin_trap();
  out[1] = 2;
}
"""
FLAGS = ("-x", "cl", "-cl-std=CL2.0", "-cl-denorms-are-zero", "-O2", "-nogpulib",
         "-cl-fp32-correctly-rounded-divide-sqrt", "-target", "amdgcn-amd-amdhsa")  # fmt: skip


@pytest.fixture(scope="module", params=TARGETS)
def program(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Program:
    folder: Path = tmp_path_factory.mktemp("modes")
    (folder / "modes.cl").write_text(SOURCE)
    clang = compiler(request.param)
    linker = clang.replace("clang", "lld")
    if shutil.which(clang) is None or shutil.which(f"ld.{linker}") is None:
        pytest.skip(f"{clang} or {linker} (Debian packages) is not installed")
    command = [clang, *FLAGS, f"-fuse-ld={linker}", f"-mcpu={request.param}", "modes.cl"]
    command += ["-o", "modes.co"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return Program(request.param, "", (folder / "modes.co").read_bytes())


@pytest.mark.parametrize("which", [0, 5, 13])
def test_vectors_are_indexed_at_run_time(program: Program, which: int) -> None:
    memory, out = Arrays(), np.zeros(128, np.float32)
    given = np.arange(2048, dtype=np.float32)
    args = memory.add(out), memory.add(given), np.int32(which)
    assert run(program.launch("pick", (2,), (64,), memory, args), memory, "both") == Done()
    rows = given.reshape(128, 16).copy()
    rows[:, which * 7 & 15] = 42 + np.arange(128)
    assert np.array_equal(out, rows[:, which & 15] + 2 * rows[:, which + 3 & 15])


def test_division_rounds_once_while_denormals_are_flushed(program: Program) -> None:
    chance = np.random.default_rng(1)
    a, b = (chance.normal(size=128).astype(np.float32) for _ in range(2))
    a[:3], b[:3] = [1e-39, 3e38, 1.0], [1.0, 1e-3, 3e38]
    memory, out = Arrays(), np.zeros(128, np.float32)
    args = memory.add(out), memory.add(a), memory.add(b)
    assert run(program.launch("quotient", (2,), (64,), memory, args), memory, "both") == Done()
    with np.errstate(over="ignore"):
        wanted = a / b
    wanted[np.abs(a) < np.finfo(np.float32).tiny] = 0.0
    wanted[np.abs(wanted) < np.finfo(np.float32).tiny] = 0.0
    assert out.tolist() == wanted.tolist()


def test_a_trap_ends_the_dispatch_after_what_came_before(program: Program) -> None:
    memory, out = Arrays(), np.zeros(64, np.int32)
    launch = program.launch("fall", (1,), (64,), memory, (memory.add(out),))
    execution = start(launch, memory)
    outcome = execution.run(1 << 20)
    assert isinstance(outcome, Trapped)
    assert outcome.number == 2
    assert out[:32].tolist() == [1] * 32  # of the first wave
    assert set(execution.take_messages()) == {77}

"""Compare memory with what it was known to hold, at the speed of memory.

Two loops built with llvmlite: numpy needs several passes and microseconds for each call, and a
doorbell has no more than a few of them. Both take a word over as they find it changed, so what is
reported is what was seen even if someone stores at the same time.
"""

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import llvmlite.binding as llvm

GAP = 32
"""Unchanged bytes between two changes that are cheaper stored than split at."""
STEP = 1 << 20
"""Bytes compared in one call, at most."""
WORDS = 64
"""Changed dwords that are listed, at most."""

# Both walk over 64-bit words. A run is [first byte, byte after the last).
_SOURCE = f"""
declare i64 @llvm.cttz.i64(i64, i1)
declare i64 @llvm.ctlz.i64(i64, i1)

define i64 @runs(ptr %live, ptr %known, i64 %words, ptr %out) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %more ]
  %n = phi i64 [ 0, %entry ], [ %n2, %more ]
  %end = phi i64 [ -1, %entry ], [ %end2, %more ]
  %done = icmp uge i64 %i, %words
  br i1 %done, label %exit, label %look
look:
  %lp = getelementptr i64, ptr %live, i64 %i
  %kp = getelementptr i64, ptr %known, i64 %i
  %l = load volatile i64, ptr %lp, align 8
  %k = load i64, ptr %kp, align 8
  %x = xor i64 %l, %k
  %same = icmp eq i64 %x, 0
  br i1 %same, label %more, label %changed
changed:
  store i64 %l, ptr %kp, align 8
  %base = shl i64 %i, 3
  %tz = call i64 @llvm.cttz.i64(i64 %x, i1 true)
  %lz = call i64 @llvm.ctlz.i64(i64 %x, i1 true)
  %tb = lshr i64 %tz, 3
  %lb = lshr i64 %lz, 3
  %first = add i64 %base, %tb
  %top = add i64 %base, 8
  %last = sub i64 %top, %lb
  %reach = add i64 %end, {GAP}
  %some = icmp ne i64 %n, 0
  %near = icmp ule i64 %first, %reach
  %join = and i1 %some, %near
  %n3 = add i64 %n, 1
  %n4 = select i1 %join, i64 %n, i64 %n3
  %slot = sub i64 %n4, 1
  %at = shl i64 %slot, 1
  %fp = getelementptr i64, ptr %out, i64 %at
  %ep = getelementptr i64, ptr %fp, i64 1
  br i1 %join, label %finish, label %begin
begin:
  store i64 %first, ptr %fp, align 8
  br label %finish
finish:
  store i64 %last, ptr %ep, align 8
  br label %more
more:
  %n2 = phi i64 [ %n, %look ], [ %n4, %finish ]
  %end2 = phi i64 [ %end, %look ], [ %last, %finish ]
  %next = add i64 %i, 1
  br label %loop
exit:
  ret i64 %n
}}

define i64 @words(ptr %live, ptr %known, i64 %words, ptr %out, i64 %room) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %more ]
  %n = phi i64 [ 0, %entry ], [ %n2, %more ]
  %done = icmp uge i64 %i, %words
  br i1 %done, label %exit, label %look
look:
  %lp = getelementptr i32, ptr %live, i64 %i
  %kp = getelementptr i32, ptr %known, i64 %i
  %l = load volatile i32, ptr %lp, align 4
  %k = load i32, ptr %kp, align 4
  %same = icmp eq i32 %l, %k
  br i1 %same, label %more, label %changed
changed:
  store i32 %l, ptr %kp, align 4
  %fits = icmp ult i64 %n, %room
  br i1 %fits, label %list, label %count
list:
  %at = mul i64 %n, 3
  %p0 = getelementptr i32, ptr %out, i64 %at
  %p1 = getelementptr i32, ptr %p0, i64 1
  %p2 = getelementptr i32, ptr %p0, i64 2
  %j = trunc i64 %i to i32
  store i32 %j, ptr %p0, align 4
  store i32 %k, ptr %p1, align 4
  store i32 %l, ptr %p2, align 4
  br label %count
count:
  %n3 = add i64 %n, 1
  br label %more
more:
  %n2 = phi i64 [ %n, %look ], [ %n3, %count ]
  %next = add i64 %i, 1
  br label %loop
exit:
  ret i64 %n
}}
"""


class _Built(NamedTuple):
    runs: Callable[[int, int, int, int], int]
    words: Callable[[int, int, int, int, int], int]
    engine: object  # owns the code


@lru_cache(maxsize=1)
def _built() -> _Built:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2)
    module = llvm.parse_assembly(_SOURCE)
    module.verify()
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    u64 = ctypes.c_uint64
    runs = ctypes.CFUNCTYPE(u64, u64, u64, u64, u64)(engine.get_function_address("runs"))
    words = ctypes.CFUNCTYPE(u64, u64, u64, u64, u64, u64)(engine.get_function_address("words"))
    return _Built(runs, words, engine)


class Comparer:
    """The two loops, with room for their answers. Sizes are multiples of 8; addresses aligned."""

    def __init__(self) -> None:
        self._runs, self._words, _ = _built()
        self._found = (ctypes.c_uint64 * (2 * (STEP // (GAP + 1) + 2)))()
        self._listed = (ctypes.c_uint32 * (3 * WORDS))()
        self._found_at = ctypes.addressof(self._found)
        self._listed_at = ctypes.addressof(self._listed)

    def runs(self, live: int, known: int, size: int) -> list[tuple[int, int]]:
        """Make `known` equal to `live`; return (begin, end) of what differed, up to STEP bytes."""
        count = self._runs(live, known, size >> 3, self._found_at)
        found = self._found
        return [(found[at], found[at + 1]) for at in range(0, 2 * count, 2)]

    def words(self, live: int, known: int, size: int, most: int) -> list[tuple[int, int, int]]:
        """Make `known` equal to `live`; return (index, was, now) of the dwords that differed.

        The list is empty when there are more than `most` of them, which is WORDS or fewer.
        """
        count = self._words(live, known, size >> 2, self._listed_at, most)
        if count > most:
            return []
        got = self._listed
        return [(got[at], got[at + 1], got[at + 2]) for at in range(0, 3 * count, 3)]

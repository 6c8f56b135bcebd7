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

from gputrace.kfd.pagemap import SCAN_IOCTL

GAP = 32
"""Unchanged bytes between two changes that are cheaper stored than split at."""
STEP = 1 << 20
"""Bytes compared in one call, at most."""
WORDS = 64
"""Changed dwords that are listed, at most."""
LOOKED = 1 << 18
"""Bytes in changed pages up to which `look` compares by itself."""
REFUSED = -(1 << 40)
PIECES = 4 * (LOOKED // GAP + 1024)
ROW = 5
"""Values that describe a range to `look`."""

# A run is [first byte, byte after the last). Blocks of 64 bytes that are equal are passed over.
_SOURCE = f"""
declare i64 @llvm.cttz.i64(i64, i1)
declare i64 @llvm.ctlz.i64(i64, i1)

declare i64 @llvm.vector.reduce.or.v8i64(<8 x i64>)
declare i1 @llvm.vector.reduce.and.v8i1(<8 x i1>)

define i1 @same(ptr %live, ptr %known, i64 %i) alwaysinline {{
  %lp = getelementptr i64, ptr %live, i64 %i
  %kp = getelementptr i64, ptr %known, i64 %i
  %l = load <8 x i64>, ptr %lp, align 8
  %k = load <8 x i64>, ptr %kp, align 8
  %x = xor <8 x i64> %l, %k
  %any = call i64 @llvm.vector.reduce.or.v8i64(<8 x i64> %x)
  %same = icmp eq i64 %any, 0
  ret i1 %same
}}

define i64 @runs(ptr %live, ptr %known, i64 %words, ptr %out) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %skip, %pass ], [ %next, %more ]
  %n = phi i64 [ 0, %entry ], [ %n, %pass ], [ %n2, %more ]
  %end = phi i64 [ -1, %entry ], [ %end, %pass ], [ %end2, %more ]
  %done = icmp uge i64 %i, %words
  br i1 %done, label %exit, label %block
block:
  %lp = getelementptr i64, ptr %live, i64 %i
  %kp = getelementptr i64, ptr %known, i64 %i
  %inside = and i64 %i, 7
  %begins = icmp eq i64 %inside, 0
  br i1 %begins, label %test, label %look
test:
  %l8 = load volatile <8 x i64>, ptr %lp, align 8
  %k8 = load <8 x i64>, ptr %kp, align 8
  %x8 = xor <8 x i64> %l8, %k8
  %any = call i64 @llvm.vector.reduce.or.v8i64(<8 x i64> %x8)
  %equal = icmp eq i64 %any, 0
  br i1 %equal, label %pass, label %some
pass:
  %skip = add i64 %i, 8
  br label %loop
some:
  %other = icmp ne <8 x i64> %x8, zeroinitializer
  %all = call i1 @llvm.vector.reduce.and.v8i1(<8 x i1> %other)
  br i1 %all, label %whole, label %look
whole:
  store <8 x i64> %l8, ptr %kp, align 8
  %x_first = extractelement <8 x i64> %x8, i64 0
  %x_last = extractelement <8 x i64> %x8, i64 7
  br label %changed
look:
  %l = load volatile i64, ptr %lp, align 8
  %k = load i64, ptr %kp, align 8
  %x = xor i64 %l, %k
  %same = icmp eq i64 %x, 0
  br i1 %same, label %more, label %one
one:
  store i64 %l, ptr %kp, align 8
  br label %changed
changed:
  %xf = phi i64 [ %x_first, %whole ], [ %x, %one ]
  %xl = phi i64 [ %x_last, %whole ], [ %x, %one ]
  %step = phi i64 [ 8, %whole ], [ 1, %one ]
  %after = add i64 %i, %step
  %base = shl i64 %i, 3
  %tz = call i64 @llvm.cttz.i64(i64 %xf, i1 true)
  %lz = call i64 @llvm.ctlz.i64(i64 %xl, i1 true)
  %tb = lshr i64 %tz, 3
  %lb = lshr i64 %lz, 3
  %first = add i64 %base, %tb
  %top = shl i64 %after, 3
  %last = sub i64 %top, %lb
  %reach = add i64 %end, {GAP}
  %any_yet = icmp ne i64 %n, 0
  %near = icmp ule i64 %first, %reach
  %join = and i1 %any_yet, %near
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
  %width = phi i64 [ 1, %look ], [ %step, %finish ]
  %next = add i64 %i, %width
  br label %loop
exit:
  ret i64 %n
}}

declare i32 @ioctl(i32, i64, ...)

define i64 @look(ptr %job) {{
entry:
  %job1 = getelementptr i64, ptr %job, i64 1
  %job2 = getelementptr i64, ptr %job, i64 2
  %job3 = getelementptr i64, ptr %job, i64 3
  %job4 = getelementptr i64, ptr %job, i64 4
  %pagemap_w = load i64, ptr %job, align 8
  %pagemap = trunc i64 %pagemap_w to i32
  %request = load ptr, ptr %job1, align 8
  %rows = load ptr, ptr %job2, align 8
  %count = load i64, ptr %job3, align 8
  %out = load ptr, ptr %job4, align 8
  %got = call i32 (i32, i64, ...) @ioctl(i32 %pagemap, i64 {SCAN_IOCTL}, ptr %request)
  %n = sext i32 %got to i64
  %ep = getelementptr i64, ptr %request, i64 3
  %wp = getelementptr i64, ptr %request, i64 4
  %vp = getelementptr i64, ptr %request, i64 5
  %vi = load i64, ptr %vp, align 8
  %vector = inttoptr i64 %vi to ptr
  %end = load i64, ptr %ep, align 8
  %walked = load i64, ptr %wp, align 8
  %failed = icmp slt i64 %n, 0
  br i1 %failed, label %refused, label %walk
refused:
  ret i64 {REFUSED}
walk:
  %whole = icmp eq i64 %end, %walked
  br i1 %whole, label %sum, label %give_up
sum:
  %s = phi i64 [ 0, %walk ], [ %s1, %add ]
  %total = phi i64 [ 0, %walk ], [ %total1, %add ]
  %summed = icmp uge i64 %s, %n
  br i1 %summed, label %weigh, label %add
add:
  %sr = mul i64 %s, 3
  %slp = getelementptr i64, ptr %vector, i64 %sr
  %shp = getelementptr i64, ptr %slp, i64 1
  %sl = load i64, ptr %slp, align 8
  %sh = load i64, ptr %shp, align 8
  %size = sub i64 %sh, %sl
  %total1 = add i64 %total, %size
  %s1 = add i64 %s, 1
  br label %sum
weigh:
  %tp0 = getelementptr i64, ptr %out, i64 {PIECES}
  store i64 %total, ptr %tp0, align 8
  %news = getelementptr i64, ptr %tp0, i64 1
  store i64 0, ptr %news, align 8
  %small = icmp ule i64 %total, {LOOKED}
  br i1 %small, label %region, label %give_up
give_up:
  %minus = xor i64 %n, -1
  ret i64 %minus
region:
  %r = phi i64 [ 0, %weigh ], [ %r1, %region_done ]
  %row = phi i64 [ 0, %weigh ], [ %row4, %region_done ]
  %used = phi i64 [ 0, %weigh ], [ %used4, %region_done ]
  %rdone = icmp uge i64 %r, %n
  br i1 %rdone, label %exit, label %open
open:
  %rr = mul i64 %r, 3
  %lp = getelementptr i64, ptr %vector, i64 %rr
  %hp = getelementptr i64, ptr %lp, i64 1
  %low0 = load i64, ptr %lp, align 8
  %high = load i64, ptr %hp, align 8
  br label %piece
piece:
  %low = phi i64 [ %low0, %open ], [ %low, %next_row ], [ %from, %late ], [ %to, %compared ]
  %row1 = phi i64 [ %row, %open ], [ %row2, %next_row ], [ %row1, %late ], [ %row1, %compared ]
  %used1 = phi i64 [ %used, %open ], [ %used1, %next_row ], [ %used1, %late ], [ %used2, %compared ]
  %left = icmp ult i64 %low, %high
  %more_rows = icmp ult i64 %row1, %count
  %on = and i1 %left, %more_rows
  br i1 %on, label %look, label %region_done
look:
  %ro = mul i64 %row1, {ROW}
  %fp = getelementptr i64, ptr %rows, i64 %ro
  %tp = getelementptr i64, ptr %fp, i64 1
  %pp = getelementptr i64, ptr %fp, i64 2
  %kp = getelementptr i64, ptr %fp, i64 3
  %from = load i64, ptr %fp, align 8
  %upto = load i64, ptr %tp, align 8
  %behind = icmp ule i64 %upto, %low
  br i1 %behind, label %next_row, label %check
next_row:
  %row2 = add i64 %row1, 1
  br label %piece
check:
  %early = icmp ult i64 %low, %from
  br i1 %early, label %late, label %compare
late:
  br label %piece
compare:
  %cut = icmp ult i64 %upto, %high
  %to = select i1 %cut, i64 %upto, i64 %high
  %place = load i64, ptr %pp, align 8
  %known = load i64, ptr %kp, align 8
  %at = sub i64 %low, %from
  %upto_at = sub i64 %to, %from
  %live_i = add i64 %place, %at
  %known_i = add i64 %known, %at
  %live = inttoptr i64 %live_i to ptr
  %kept = inttoptr i64 %known_i to ptr
  %bytes = sub i64 %to, %low
  %words = lshr i64 %bytes, 3
  %mp = getelementptr i64, ptr %fp, i64 4
  %marks = load ptr, ptr %mp, align 8
  %page0 = lshr i64 %at, 12
  %page_end = lshr i64 %upto_at, 12
  br label %page
page:
  %page_i = phi i64 [ %page0, %compare ], [ %page1, %page_known ]
  %page1 = add i64 %page_i, 1
  %mark_p = getelementptr i8, ptr %marks, i64 %page_i
  %mark = load i8, ptr %mark_p, align 1
  %page_seen = icmp ne i8 %mark, 0
  br i1 %page_seen, label %page_known, label %page_new
page_new:
  store i64 %n, ptr %news, align 8
  br label %page_known
page_known:
  %pages_left = icmp ult i64 %page1, %page_end
  br i1 %pages_left, label %page, label %pages_done
pages_done:
  %used_o = shl i64 %used1, 2
  %op = getelementptr i64, ptr %out, i64 %used_o
  %found = call i64 @runs(ptr %live, ptr %kept, i64 %words, ptr %op)
  br label %spread
spread:
  %k = phi i64 [ %found, %pages_done ], [ %k1, %place_one ]
  %nothing = icmp eq i64 %k, 0
  br i1 %nothing, label %compared, label %place_one
place_one:
  %k1 = sub i64 %k, 1
  %src_o = shl i64 %k1, 1
  %dst_o = shl i64 %k1, 2
  %sp = getelementptr i64, ptr %op, i64 %src_o
  %sp1 = getelementptr i64, ptr %sp, i64 1
  %b = load i64, ptr %sp, align 8
  %e = load i64, ptr %sp1, align 8
  %dp = getelementptr i64, ptr %op, i64 %dst_o
  %dp1 = getelementptr i64, ptr %dp, i64 1
  %dp2 = getelementptr i64, ptr %dp, i64 2
  %ba = add i64 %at, %b
  %ea = add i64 %at, %e
  store i64 %row1, ptr %dp, align 8
  store i64 %ba, ptr %dp1, align 8
  store i64 %ea, ptr %dp2, align 8
  br label %spread
compared:
  %used2 = add i64 %used1, %found
  br label %piece
region_done:
  %row4 = phi i64 [ %row1, %piece ]
  %used4 = phi i64 [ %used1, %piece ]
  %r1 = add i64 %r, 1
  br label %region
exit:
  ret i64 %used
}}

define i64 @words(ptr %live, ptr %known, i64 %words, ptr %out, i64 %room) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %skip, %pass ], [ %next, %more ]
  %n = phi i64 [ 0, %entry ], [ %n, %pass ], [ %n2, %more ]
  %done = icmp uge i64 %i, %words
  br i1 %done, label %exit, label %block
block:
  %inside = and i64 %i, 15
  %begins = icmp eq i64 %inside, 0
  br i1 %begins, label %test, label %look
test:
  %half = lshr i64 %i, 1
  %equal = call i1 @same(ptr %live, ptr %known, i64 %half)
  br i1 %equal, label %pass, label %look
pass:
  %skip = add i64 %i, 16
  br label %loop
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


Job = ctypes.Array[ctypes.c_uint64]


class _Built(NamedTuple):
    runs: Callable[[int, int, int, int], int]
    words: Callable[[int, int, int, int, int], int]
    look: Callable[[int], int]
    engine: object  # owns the code


@lru_cache(maxsize=1)
def _built() -> _Built:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2)
    module = llvm.parse_assembly(_SOURCE)
    module.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    passes.getModulePassManager().run(module, passes)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    u64 = ctypes.c_uint64
    runs = ctypes.CFUNCTYPE(u64, u64, u64, u64, u64)(engine.get_function_address("runs"))
    words = ctypes.CFUNCTYPE(u64, u64, u64, u64, u64, u64)(engine.get_function_address("words"))
    look = ctypes.CFUNCTYPE(ctypes.c_int64, u64)(engine.get_function_address("look"))
    return _Built(runs, words, look, engine)


class Comparer:
    """The two loops, with room for their answers. Sizes are multiples of 64, addresses of 8."""

    def __init__(self) -> None:
        self._runs, self._words, self._look, _ = _built()
        self._found = (ctypes.c_uint64 * (2 * (STEP // (GAP + 1) + 2)))()
        self._listed = (ctypes.c_uint32 * (3 * WORDS))()
        self._found_at = ctypes.addressof(self._found)
        self._listed_at = ctypes.addressof(self._listed)
        self._pieces = (ctypes.c_uint64 * (PIECES + 2))()
        self._pieces_at = ctypes.addressof(self._pieces)
        self.looked = 0
        """Bytes that `look` has compared."""
        self.regions = 0
        """How many regions the last `look` had, if some page of them has no mark."""

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

    def job(self, pagemap: int, request: int, rows: int, count: int) -> Job:
        """Return what `look` is given: a descriptor, addresses, and how many rows there are.

        `request` is the address of a struct pm_scan_arg, `rows` that of `count` rows of five 64-bit
        values, sorted: address of a range, its end, where its bytes are, where the known ones are,
        and where there is a byte for each page, zero for one that has no mark.
        """
        return (ctypes.c_uint64 * 5)(pagemap, request, rows, count, self._pieces_at)

    def look(self, job: int) -> list[int] | int | None:
        """Ask which pages were written and compare them, as the job at an address says.

        Return four values for each change: row, first byte in its range, byte after the last, and
        one that means nothing. Where there is too much to compare at once, return the number of
        regions in the request's vector, nothing compared yet; None when the call failed.
        """
        found = self._look(job)
        if found < 0:
            return None if found == REFUSED else ~found
        got = self._pieces
        self.looked += got[PIECES]
        self.regions = got[PIECES + 1]
        return got[: 4 * found]

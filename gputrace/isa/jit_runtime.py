"""The helpers of compiled code, in LLVM IR: one module for each wave size.

All regions are linked with it: the search in the table of memory ranges, accesses of all lanes to
memory and LDS with short ways for lanes that lie side by side or at one place, moves between lanes,
and functions of the C library lane by lane.
"""

from typing import Final

from gputrace.isa import jit_atomics, jit_gather, jit_rows
from gputrace.isa.jit_layout import ATTRIBUTES, numbered


def helpers(wave_size: int) -> str:
    """Return the module of helpers for waves of this size."""
    parts = [_DECLARATIONS, _SEARCH]
    for bits in (8, 16, 32, 64):
        gather = _GATHER_BY_LANE if bits < 32 else _GATHER_AT_ONCE
        if bits == 32:
            gather = jit_gather.rows(wave_size) + gather
        values = {"GATHER": gather, "T": f"i{bits}", "BITS": str(bits), "BYTES": str(bits // 8)}
        texts = (_declared(bits), _LOAD, _STORE, _PERMUTE, _LDS_LOAD, _LDS_STORE)
        parts += [_filled(text, values) for text in texts]
    parts += [jit_gather.four_words(wave_size), jit_rows.functions(wave_size), _SCATTER]
    parts += [_MATHEMATICS.replace("@NAME@", name) for name in MATHEMATICS]
    for name in jit_atomics.HELPERS:
        parts += [jit_atomics.helper(name, space) for space in ("global", "lds")]
    shape = {
        "W": str(wave_size),
        "LANES": "<" + ", ".join(f"i64 {lane}" for lane in range(wave_size)) + ">",
        "LAST": str(wave_size - 1),
        "WIDEN": f"zext i{wave_size} %raw to i64" if wave_size < 64 else "or i64 %raw, 0",
        "NARROW": f"trunc i64 %mask to i{wave_size}" if wave_size < 64 else "or i64 %mask, 0",
    }
    return numbered(_filled("\n".join(parts), shape) + ATTRIBUTES)


def names() -> list[str]:
    """Return the names of all helpers that regions may call."""
    found = ["find", "hosts", "hosts.words", "scatter32"]
    found += [*jit_rows.names(), *(f"{name}.lanes" for name in MATHEMATICS)]
    for bits in (8, 16, 32, 64):
        found += [f"{name}{bits}" for name in ("load", "store", "permute", "lds.load", "lds.store")]
    return [*found, *jit_atomics.HELPERS, *(f"lds.{name}" for name in jit_atomics.HELPERS)]


def _filled(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


_DECLARATIONS = """
declare i64 @llvm.cttz.i64(i64, i1)
declare <16 x i32> @llvm.masked.load.v16i32.p0(ptr, i32, <16 x i1>, <16 x i32>)
"""


def _declared(bits: int) -> str:
    kind = f"<@W@ x i{bits}>"
    return f"""
declare {kind} @llvm.masked.load.v@W@i{bits}.p0(ptr, i32, <@W@ x i1>, {kind})
declare void @llvm.masked.store.v@W@i{bits}.p0({kind}, ptr, i32, <@W@ x i1>)
declare {kind} @llvm.masked.gather.v@W@i{bits}.v@W@p0(<@W@ x ptr>, i32, <@W@ x i1>, {kind})
"""


_SEARCH = """
; Host address of the range that holds [address, address + size), 0 for none. Bit 0 of `need` asks
; for a writable range, the bits above are those that an aligned address has clear. The range is
; left in the site for the next time, unless all that is touched shall be noted.
define i64 @find(ptr %context, ptr %site, i64 %address, i64 %size, i64 %need) #0 {
entry:
  %ranges.at = getelementptr i64, ptr %context, i64 $RANGES
  %ranges = load ptr, ptr %ranges.at
  %count.at = getelementptr i64, ptr %context, i64 $RANGE_COUNT
  %count = load i64, ptr %count.at
  br label %search
search:
  %low = phi i64 [0, %entry], [%low.next, %narrow]
  %high = phi i64 [%count, %entry], [%high.next, %narrow]
  %open = icmp ult i64 %low, %high
  br i1 %open, label %narrow, label %found
narrow:
  %sum = add i64 %low, %high
  %middle = lshr i64 %sum, 1
  %probe = getelementptr [4 x i64], ptr %ranges, i64 %middle
  %probe.first = load i64, ptr %probe
  %below = icmp ule i64 %probe.first, %address
  %after = add i64 %middle, 1
  %low.next = select i1 %below, i64 %after, i64 %low
  %high.next = select i1 %below, i64 %high, i64 %middle
  br label %search
found:
  %none = icmp eq i64 %low, 0
  br i1 %none, label %bad, label %look
look:
  %at = sub i64 %low, 1
  %range = getelementptr [4 x i64], ptr %ranges, i64 %at
  %first = load i64, ptr %range
  %end.at = getelementptr i64, ptr %range, i64 1
  %end = load i64, ptr %end.at
  %span = sub i64 %end, %first
  %fits = icmp ule i64 %size, %span
  %less.one = sub i64 %span, %size
  %starts = add i64 %less.one, 1
  %offset = sub i64 %address, %first
  %inside = icmp ult i64 %offset, %starts
  %writable.at = getelementptr i64, ptr %range, i64 3
  %writable.word = load i64, ptr %writable.at
  %writable = icmp ne i64 %writable.word, 0
  %write = and i64 %need, 1
  %reads = icmp eq i64 %write, 0
  %may = or i1 %writable, %reads
  %odd = lshr i64 %need, 1
  %astray = and i64 %address, %odd
  %straight = icmp eq i64 %astray, 0
  %aligned = and i1 %may, %straight
  %good.size = and i1 %fits, %inside
  %good = and i1 %good.size, %aligned
  br i1 %good, label %keep, label %bad
keep:
  %delta.at = getelementptr i64, ptr %range, i64 2
  %delta = load i64, ptr %delta.at
  %host = add i64 %address, %delta
  %hulls.at = getelementptr i64, ptr %context, i64 $HULLS
  %hulls = load ptr, ptr %hulls.at
  %noted = icmp ne ptr %hulls, null
  br i1 %noted, label %note, label %remember
note:
  %hull.number = mul i64 %at, $HULL_SLOTS
  %side = shl i64 %write, 1
  %hull.slot = add i64 %hull.number, %side
  %low.at = getelementptr i64, ptr %hulls, i64 %hull.slot
  %top.at = getelementptr i64, ptr %low.at, i64 1
  %lowest = load i64, ptr %low.at
  %lower = icmp ult i64 %address, %lowest
  %lowest.new = select i1 %lower, i64 %address, i64 %lowest
  store i64 %lowest.new, ptr %low.at
  %last = add i64 %address, %size
  %top = load i64, ptr %top.at
  %beyond = icmp ugt i64 %last, %top
  %top.new = select i1 %beyond, i64 %last, i64 %top
  store i64 %top.new, ptr %top.at
  ret i64 %host
remember:
  store i64 %first, ptr %site
  %starts.to = getelementptr i64, ptr %site, i64 1
  store i64 %starts, ptr %starts.to
  %delta.to = getelementptr i64, ptr %site, i64 2
  store i64 %delta, ptr %delta.to
  ret i64 %host
bad:
  ret i64 0
}

; Turn the addresses of all lanes in the mask into host addresses; 0, or the mask of bad lanes.
define i64 @locate(ptr %context, ptr %site, ptr %addresses, i64 %mask, i64 %size,
                            i64 %need) #0 {
entry:
  br label %next
next:
  %left = phi i64 [%mask, %entry], [%rest, %after]
  %bad = phi i64 [0, %entry], [%bad.next, %after]
  %fault = phi i64 [0, %entry], [%fault.next, %after]
  %more = icmp ne i64 %left, 0
  br i1 %more, label %lane, label %done
lane:
  %number = call i64 @llvm.cttz.i64(i64 %left, i1 true)
  %less = sub i64 %left, 1
  %rest = and i64 %left, %less
  %place = getelementptr i64, ptr %addresses, i64 %number
  %address = load i64, ptr %place
  %host = call i64 @find(ptr %context, ptr %site, i64 %address, i64 %size, i64 %need)
  %is.bad = icmp eq i64 %host, 0
  br i1 %is.bad, label %miss, label %hit
hit:
  store i64 %host, ptr %place
  br label %after
miss:
  %bit = shl i64 1, %number
  %bad.more = or i64 %bad, %bit
  %is.first = icmp eq i64 %bad, 0
  %fault.new = select i1 %is.first, i64 %address, i64 %fault
  br label %after
after:
  %bad.next = phi i64 [%bad, %hit], [%bad.more, %miss]
  %fault.next = phi i64 [%fault, %hit], [%fault.new, %miss]
  br label %next
done:
  %fault.to = getelementptr i64, ptr %context, i64 $FAULT_ADDRESS
  store i64 %fault, ptr %fault.to
  %lanes.to = getelementptr i64, ptr %context, i64 $FAULT_LANES
  store i64 %bad, ptr %lanes.to
  ret i64 %bad
}

; Leave the host addresses of all lanes in the mask in `places`; 0, or the mask of bad lanes.
define i64 @hosts(ptr %context, ptr %site, ptr %places, <@W@ x i64> %address, i64 %mask,
                          i64 %size, i64 %need) #0 {
entry:
  %first = load i64, ptr %site
  %count.at = getelementptr i64, ptr %site, i64 1
  %count = load i64, ptr %count.at
  %delta.at = getelementptr i64, ptr %site, i64 2
  %delta = load i64, ptr %delta.at
  %first.in = insertelement <@W@ x i64> poison, i64 %first, i64 0
  %first.all = shufflevector <@W@ x i64> %first.in, <@W@ x i64> poison, <@W@ x i32> zeroinitializer
  %count.in = insertelement <@W@ x i64> poison, i64 %count, i64 0
  %count.all = shufflevector <@W@ x i64> %count.in, <@W@ x i64> poison, <@W@ x i32> zeroinitializer
  %delta.in = insertelement <@W@ x i64> poison, i64 %delta, i64 0
  %delta.all = shufflevector <@W@ x i64> %delta.in, <@W@ x i64> poison, <@W@ x i32> zeroinitializer
  %aligned = lshr i64 %need, 1
  %aligned.in = insertelement <@W@ x i64> poison, i64 %aligned, i64 0
  %odd.bits = shufflevector <@W@ x i64> %aligned.in, <@W@ x i64> poison, <@W@ x i32> zeroinitializer
  %offset = sub <@W@ x i64> %address, %first.all
  %outside = icmp uge <@W@ x i64> %offset, %count.all
  %low = and <@W@ x i64> %address, %odd.bits
  %odd = icmp ne <@W@ x i64> %low, zeroinitializer
  %bad = or <@W@ x i1> %outside, %odd
  %raw = bitcast <@W@ x i1> %bad to i@W@
  %bits = @WIDEN@
  %some = and i64 %bits, %mask
  %good = icmp eq i64 %some, 0
  br i1 %good, label %known, label %search
known:
  %host = add <@W@ x i64> %address, %delta.all
  store <@W@ x i64> %host, ptr %places, align 64
  ret i64 0
search:
  store <@W@ x i64> %address, ptr %places, align 64
  %wrong = call i64 @locate(ptr %context, ptr %site, ptr %places, i64 %mask, i64 %size, i64 %need)
  ret i64 %wrong
}

; The same of addresses by their words.
define i64 @hosts.words(ptr %context, ptr %site, ptr %places, <@W@ x i32> %low, <@W@ x i32> %high,
                        i64 %mask, i64 %size, i64 %need) #0 {
entry:
  %low.wide = zext <@W@ x i32> %low to <@W@ x i64>
  %high.wide = zext <@W@ x i32> %high to <@W@ x i64>
  %raised = shl <@W@ x i64> %high.wide, splat (i64 32)
  %address = or <@W@ x i64> %low.wide, %raised
  %wrong = call i64 @hosts(ptr %context, ptr %site, ptr %places, <@W@ x i64> %address, i64 %mask,
                           i64 %size, i64 %need)
  ret i64 %wrong
}
"""

# The first active lane says where a row of lanes would begin.
_FIRST = """
  %none = icmp eq i64 %mask, 0
  br i1 %none, label %nothing, label %some
some:
  %cut = @NARROW@
  %k = bitcast i@W@ %cut to <@W@ x i1>
  %odd = and i64 %mask, 1
  %quick = icmp ne i64 %odd, 0
  br i1 %quick, label %lane.zero, label %lane.any
lane.zero:
  %zero.place = extractelement <@W@ x i64> %places, i64 0
  br label %first
lane.any:
  %number = call i64 @llvm.cttz.i64(i64 %mask, i1 true)
  %any.place = extractelement <@W@ x i64> %places, i64 %number
  %any.skip = mul i64 %number, @BYTES@
  %any.start = sub i64 %any.place, %any.skip
  br label %first
first:
  %start = phi i64 [%zero.place, %lane.zero], [%any.start, %lane.any]
  %one = phi i64 [%zero.place, %lane.zero], [%any.place, %lane.any]
  %start.in = insertelement <@W@ x i64> poison, i64 %start, i64 0
  %start.all = shufflevector <@W@ x i64> %start.in, <@W@ x i64> poison, <@W@ x i32> zeroinitializer
  %steps = mul <@W@ x i64> @LANES@, splat (i64 @BYTES@)
  %row.places = add <@W@ x i64> %start.all, %steps
  %off.row = icmp ne <@W@ x i64> %places, %row.places
  %off.row.k = and <@W@ x i1> %off.row, %k
  %off.row.raw = bitcast <@W@ x i1> %off.row.k to i@W@
  %in.row = icmp eq i@W@ %off.row.raw, 0
"""

_LOAD = """
define <@W@ x @T@> @load@BITS@(<@W@ x i64> %places, i64 %mask) #0 {
entry:
  %buffer = alloca <@W@ x @T@>, align 64
  %list = alloca <@W@ x i64>, align 64
""" + _FIRST + """
  br i1 %in.row, label %row, label %ragged
row:
  %row.at = inttoptr i64 %start to ptr
  %row.value = call <@W@ x @T@> @llvm.masked.load.v@W@i@BITS@.p0(ptr %row.at, i32 1, <@W@ x i1> %k,
      <@W@ x @T@> zeroinitializer)
  ret <@W@ x @T@> %row.value
ragged:
  %one.in = insertelement <@W@ x i64> poison, i64 %one, i64 0
  %one.all = shufflevector <@W@ x i64> %one.in, <@W@ x i64> poison, <@W@ x i32> zeroinitializer
  %other = icmp ne <@W@ x i64> %places, %one.all
  %other.k = and <@W@ x i1> %other, %k
  %other.raw = bitcast <@W@ x i1> %other.k to i@W@
  %same = icmp eq i@W@ %other.raw, 0
  br i1 %same, label %single, label %gather
single:
  %one.at = inttoptr i64 %one to ptr
  %one.value = load @T@, ptr %one.at, align 1
  %one.v.in = insertelement <@W@ x @T@> poison, @T@ %one.value, i64 0
  %one.v = shufflevector <@W@ x @T@> %one.v.in, <@W@ x @T@> poison, <@W@ x i32> zeroinitializer
  %one.k = select <@W@ x i1> %k, <@W@ x @T@> %one.v, <@W@ x @T@> zeroinitializer
  ret <@W@ x @T@> %one.k
gather:
  @GATHER@
nothing:
  ret <@W@ x @T@> zeroinitializer
}
"""

_GATHER_AT_ONCE = """%pointers = inttoptr <@W@ x i64> %places to <@W@ x ptr>
  %gathered = call <@W@ x @T@> @llvm.masked.gather.v@W@i@BITS@.v@W@p0(<@W@ x ptr> %pointers, i32 1,
      <@W@ x i1> %k, <@W@ x @T@> zeroinitializer)
  ret <@W@ x @T@> %gathered"""

_GATHER_BY_LANE = """store <@W@ x i64> %places, ptr %list, align 64
  store <@W@ x @T@> zeroinitializer, ptr %buffer, align 64
  br label %next
next:
  %left = phi i64 [%mask, %gather], [%rest, %lane]
  %more = icmp ne i64 %left, 0
  br i1 %more, label %lane, label %done
lane:
  %n = call i64 @llvm.cttz.i64(i64 %left, i1 true)
  %less = sub i64 %left, 1
  %rest = and i64 %left, %less
  %from.at = getelementptr i64, ptr %list, i64 %n
  %from = load ptr, ptr %from.at
  %v = load @T@, ptr %from, align 1
  %to = getelementptr @T@, ptr %buffer, i64 %n
  store @T@ %v, ptr %to
  br label %next
done:
  %all = load <@W@ x @T@>, ptr %buffer, align 64
  ret <@W@ x @T@> %all"""

_STORE = """
define void @store@BITS@(ptr %changes, <@W@ x i64> %places, <@W@ x @T@> %value, i64 %mask) #0 {
entry:
  %list = alloca <@W@ x i64>, align 64
  %buffer = alloca <@W@ x @T@>, align 64
  %changed.before = load i64, ptr %changes
""" + _FIRST + """
  br i1 %in.row, label %row, label %ragged
row:
  %row.at = inttoptr i64 %start to ptr
  %row.old = call <@W@ x @T@> @llvm.masked.load.v@W@i@BITS@.p0(ptr %row.at, i32 1, <@W@ x i1> %k,
      <@W@ x @T@> zeroinitializer)
  %row.new = icmp ne <@W@ x @T@> %row.old, %value
  %row.new.k = and <@W@ x i1> %row.new, %k
  %row.new.raw = bitcast <@W@ x i1> %row.new.k to i@W@
  %row.differs = icmp ne i@W@ %row.new.raw, 0
  %row.count = zext i1 %row.differs to i64
  %row.sum = add i64 %changed.before, %row.count
  store i64 %row.sum, ptr %changes
  call void @llvm.masked.store.v@W@i@BITS@.p0(<@W@ x @T@> %value, ptr %row.at, i32 1, <@W@ x i1> %k)
  ret void
ragged:
  store <@W@ x i64> %places, ptr %list, align 64
  store <@W@ x @T@> %value, ptr %buffer, align 64
  br label %next
next:
  %left = phi i64 [%mask, %ragged], [%rest, %lane]
  %sum = phi i64 [%changed.before, %ragged], [%sum.next, %lane]
  %more = icmp ne i64 %left, 0
  br i1 %more, label %lane, label %done
lane:
  %n = call i64 @llvm.cttz.i64(i64 %left, i1 true)
  %less = sub i64 %left, 1
  %rest = and i64 %left, %less
  %to.at = getelementptr i64, ptr %list, i64 %n
  %to = load ptr, ptr %to.at
  %from = getelementptr @T@, ptr %buffer, i64 %n
  %v = load @T@, ptr %from
  %old = load @T@, ptr %to, align 1
  %differs = icmp ne @T@ %old, %v
  %count = zext i1 %differs to i64
  %sum.next = add i64 %sum, %count
  store @T@ %v, ptr %to, align 1
  br label %next
done:
  store i64 %sum, ptr %changes
  ret void
nothing:
  ret void
}
"""

_PERMUTE = """
define <@W@ x @T@> @permute@BITS@(<@W@ x @T@> %value, <@W@ x i32> %index) #0 {
entry:
  %from = alloca <@W@ x @T@>, align 64
  %to = alloca <@W@ x @T@>, align 64
  %list = alloca <@W@ x i32>, align 64
  store <@W@ x @T@> %value, ptr %from, align 64
  %cut = and <@W@ x i32> %index, splat (i32 @LAST@)
  store <@W@ x i32> %cut, ptr %list, align 64
  br label %lane
lane:
  %n = phi i64 [0, %entry], [%next, %lane]
  %at.at = getelementptr i32, ptr %list, i64 %n
  %at = load i32, ptr %at.at
  %at.wide = zext i32 %at to i64
  %source = getelementptr @T@, ptr %from, i64 %at.wide
  %v = load @T@, ptr %source
  %target = getelementptr @T@, ptr %to, i64 %n
  store @T@ %v, ptr %target
  %next = add i64 %n, 1
  %more = icmp ult i64 %next, @W@
  br i1 %more, label %lane, label %done
done:
  %result = load <@W@ x @T@>, ptr %to, align 64
  ret <@W@ x @T@> %result
}
"""

_SCATTER = """
define <@W@ x i32> @scatter32(<@W@ x i32> %value, <@W@ x i32> %index, i64 %mask) #0 {
entry:
  %from = alloca <@W@ x i32>, align 64
  %to = alloca <@W@ x i32>, align 64
  %list = alloca <@W@ x i32>, align 64
  store <@W@ x i32> %value, ptr %from, align 64
  store <@W@ x i32> zeroinitializer, ptr %to, align 64
  %cut = and <@W@ x i32> %index, splat (i32 @LAST@)
  store <@W@ x i32> %cut, ptr %list, align 64
  br label %next
next:
  %left = phi i64 [%mask, %entry], [%rest, %lane]
  %more = icmp ne i64 %left, 0
  br i1 %more, label %lane, label %done
lane:
  %n = call i64 @llvm.cttz.i64(i64 %left, i1 true)
  %less = sub i64 %left, 1
  %rest = and i64 %left, %less
  %at.at = getelementptr i32, ptr %list, i64 %n
  %at = load i32, ptr %at.at
  %at.wide = zext i32 %at to i64
  %source = getelementptr i32, ptr %from, i64 %n
  %v = load i32, ptr %source
  %target = getelementptr i32, ptr %to, i64 %at.wide
  store i32 %v, ptr %target
  br label %next
done:
  %result = load <@W@ x i32>, ptr %to, align 64
  ret <@W@ x i32> %result
}
"""

# What lies outside the group's LDS reads as zero and is not written. The lanes that remain are
# accessed like memory.
_LDS_PLACES = """
entry:
  %ignored = alloca i64
  %small = icmp ult i64 %size, @BYTES@
  br i1 %small, label %nothing, label %big
big:
  %last = sub i64 %size, @BYTES@
  %last.in = insertelement <@W@ x i64> poison, i64 %last, i64 0
  %last.all = shufflevector <@W@ x i64> %last.in, <@W@ x i64> poison, <@W@ x i32> zeroinitializer
  %wide = zext <@W@ x i32> %at to <@W@ x i64>
  %inside = icmp ule <@W@ x i64> %wide, %last.all
  %base = ptrtoint ptr %lds to i64
  %base.in = insertelement <@W@ x i64> poison, i64 %base, i64 0
  %base.all = shufflevector <@W@ x i64> %base.in, <@W@ x i64> poison, <@W@ x i32> zeroinitializer
  %places = add <@W@ x i64> %base.all, %wide
  %raw = bitcast <@W@ x i1> %inside to i@W@
  %inside.bits = @WIDEN@
  %rest = and i64 %inside.bits, %mask
"""

_LDS_LOAD = """
define <@W@ x @T@> @lds.load@BITS@(ptr %lds, i64 %size, <@W@ x i32> %at, i64 %mask) #0 {
""" + _LDS_PLACES + """
  %value = call <@W@ x @T@> @load@BITS@(<@W@ x i64> %places, i64 %rest)
  ret <@W@ x @T@> %value
nothing:
  ret <@W@ x @T@> zeroinitializer
}
"""

_LDS_STORE = """
define void @lds.store@BITS@(ptr %lds, i64 %size, <@W@ x i32> %at, <@W@ x @T@> %value,
                             i64 %mask) #0 {
""" + _LDS_PLACES + """
  store i64 0, ptr %ignored
  call void @store@BITS@(ptr %ignored, <@W@ x i64> %places, <@W@ x @T@> %value, i64 %rest)
  ret void
nothing:
  ret void
}
"""

MATHEMATICS: Final = ("exp2", "log2", "sin", "cos")
"""Functions of the C library, by their names there."""

_MATHEMATICS = """
declare double @@NAME@(double)
define <@W@ x double> @@NAME@.lanes(<@W@ x double> %value) #0 {
entry:
  %from = alloca <@W@ x double>, align 64
  store <@W@ x double> %value, ptr %from, align 64
  br label %lane
lane:
  %n = phi i64 [0, %entry], [%next, %lane]
  %at = getelementptr double, ptr %from, i64 %n
  %v = load double, ptr %at
  %r = call double @@NAME@(double %v)
  store double %r, ptr %at
  %next = add i64 %n, 1
  %more = icmp ult i64 %next, @W@
  br i1 %more, label %lane, label %done
done:
  %result = load <@W@ x double>, ptr %from, align 64
  ret <@W@ x double> %result
}
"""

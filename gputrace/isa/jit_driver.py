"""The loop over work-groups and waves, in LLVM IR: what stays compiled between two regions.

`drive` gives each wave of the current group its turn, lets the group through barriers, and starts
the next group from templates, until the dispatch is done, the budget is used up, a wave faults, or
a wave comes to code that nobody has compiled. The order is that of `Execution` with any engine.
"""

from gputrace.isa.jit_layout import ATTRIBUTES, RECORD_BYTES, numbered

_TEXT = """
; Whole vectors: what is copied or cleared is aligned and has a vector's bytes to spare.
define internal void @copy(ptr %to, ptr %from, i64 %size) noinline #0 {
entry:
  %none = icmp eq i64 %size, 0
  br i1 %none, label %done, label %step
step:
  %at = phi i64 [0, %entry], [%next, %step]
  %source = getelementptr i8, ptr %from, i64 %at
  %target = getelementptr i8, ptr %to, i64 %at
  %part = load volatile <16 x i32>, ptr %source, align 64
  store <16 x i32> %part, ptr %target, align 64
  %next = add i64 %at, 64
  %more = icmp ult i64 %next, %size
  br i1 %more, label %step, label %done
done:
  ret void
}
define internal void @clear(ptr %to, i64 %size) noinline #0 {
entry:
  %none = icmp eq i64 %size, 0
  br i1 %none, label %done, label %step
step:
  %at = phi i64 [0, %entry], [%next, %step]
  %target = getelementptr i8, ptr %to, i64 %at
  store volatile <16 x i32> zeroinitializer, ptr %target, align 64
  %next = add i64 %at, 64
  %more = icmp ult i64 %next, %size
  br i1 %more, label %step, label %done
done:
  ret void
}

define internal i64 @get(ptr %context, i64 %slot) alwaysinline {
  %at = getelementptr i64, ptr %context, i64 %slot
  %value = load i64, ptr %at
  ret i64 %value
}
define internal void @put(ptr %context, i64 %slot, i64 %value) alwaysinline {
  %at = getelementptr i64, ptr %context, i64 %slot
  store i64 %value, ptr %at
  ret void
}
define internal ptr @record(ptr %context, i64 %wave) alwaysinline {
  %base = call i64 @get(ptr %context, i64 $RECORDS)
  %offset = mul i64 %wave, $RECORD_BYTES
  %at = add i64 %base, %offset
  %record = inttoptr i64 %at to ptr
  ret ptr %record
}

; One turn of one wave: 0 when it is over, else why `drive` returns.
define internal i64 @turn(ptr %context, i64 %wave) noinline {
entry:
  %record = call ptr @record(ptr %context, i64 %wave)
  %words = load ptr, ptr %record
  %pc.at = getelementptr i64, ptr %record, i64 1
  %status.at = getelementptr i64, ptr %record, i64 2
  %executed.at = getelementptr i64, ptr %record, i64 3
  %table.raw = call i64 @get(ptr %context, i64 $TABLE)
  %table = inttoptr i64 %table.raw to ptr
  %mask = call i64 @get(ptr %context, i64 $TABLE_MASK)
  %lds.raw = call i64 @get(ptr %context, i64 $LDS)
  %lds = inttoptr i64 %lds.raw to ptr
  br label %again
again:
  %pc = load i64, ptr %pc.at
  %start = lshr i64 %pc, 2
  br label %probe
probe:
  %index.raw = phi i64 [%start, %again], [%index.more, %step]
  %index = and i64 %index.raw, %mask
  %entry.at = getelementptr [$ENTRY_SLOTS x i64], ptr %table, i64 %index
  %key = load i64, ptr %entry.at
  %function.at = getelementptr i64, ptr %entry.at, i64 1
  %function = load ptr, ptr %function.at
  %empty = icmp eq ptr %function, null
  br i1 %empty, label %missing, label %compare
compare:
  %same = icmp eq i64 %key, %pc
  br i1 %same, label %call, label %step
step:
  %index.more = add i64 %index, 1
  br label %probe
missing:
  ret i64 $MISSING
call:
  %sites.at = getelementptr i64, ptr %entry.at, i64 2
  %sites = load ptr, ptr %sites.at
  %base.at = getelementptr i64, ptr %entry.at, i64 3
  %base = load i64, ptr %base.at
  %number.at = getelementptr i64, ptr %entry.at, i64 4
  %number = load i64, ptr %number.at
  %before = call i64 @get(ptr %context, i64 $EXECUTED)
  %code = call i64 %function(ptr %words, ptr %context, ptr %lds, ptr %sites, i64 %base,
                             i64 %number)
  %after = call i64 @get(ptr %context, i64 $EXECUTED)
  %done = sub i64 %after, %before
  %executed = load i64, ptr %executed.at
  %executed.sum = add i64 %executed, %done
  store i64 %executed.sum, ptr %executed.at
  %group = call i64 @get(ptr %context, i64 $GROUP_EXECUTED)
  %group.sum = add i64 %group, %done
  call void @put(ptr %context, i64 $GROUP_EXECUTED, i64 %group.sum)
  %pc.new = call i64 @get(ptr %context, i64 $PC)
  store i64 %pc.new, ptr %pc.at
  switch i64 %code, label %fault [i64 $LEFT, label %left
                                  i64 $END, label %end
                                  i64 $BARRIER, label %barrier
                                  i64 $TURN, label %over]
left:
  ; A region that cannot run its first instruction gives it back at once.
  %nothing = icmp eq i64 %done, 0
  br i1 %nothing, label %missing, label %again
end:
  store i64 $ENDED, ptr %status.at
  ret i64 0
barrier:
  store i64 $WAITING, ptr %status.at
  ret i64 0
over:
  %turn.end = call i64 @get(ptr %context, i64 $TURN_END)
  %is.over = icmp uge i64 %after, %turn.end
  %why = select i1 %is.over, i64 0, i64 $PAUSED
  ret i64 %why
fault:
  ret i64 $FAULT
}

; A turn of each wave that can run, from CURRENT on; 0, or why `drive` returns.
define internal i64 @round(ptr %context) noinline {
entry:
  %count = call i64 @get(ptr %context, i64 $WAVE_COUNT)
  %stop.at = call i64 @get(ptr %context, i64 $STOP_AT)
  %from = call i64 @get(ptr %context, i64 $CURRENT)
  br label %loop
loop:
  %wave = phi i64 [%from, %entry], [%next, %skip]
  %more = icmp ult i64 %wave, %count
  br i1 %more, label %look, label %done
look:
  %record = call ptr @record(ptr %context, i64 %wave)
  %status.at = getelementptr i64, ptr %record, i64 2
  %status = load i64, ptr %status.at
  %runs = icmp eq i64 %status, $RUNNING
  br i1 %runs, label %check, label %skip
check:
  call void @put(ptr %context, i64 $CURRENT, i64 %wave)
  %now = call i64 @get(ptr %context, i64 $EXECUTED)
  %spent = icmp uge i64 %now, %stop.at
  br i1 %spent, label %pause, label %prepare
pause:
  ret i64 $PAUSED
prepare:
  %going = call i64 @get(ptr %context, i64 $IN_TURN)
  %is.going = icmp ne i64 %going, 0
  br i1 %is.going, label %run, label %fresh
fresh:
  %until = add i64 %now, $SLICE
  call void @put(ptr %context, i64 $TURN_END, i64 %until)
  call void @put(ptr %context, i64 $IN_TURN, i64 1)
  br label %run
run:
  %turn.end = call i64 @get(ptr %context, i64 $TURN_END)
  %sooner = icmp ult i64 %turn.end, %stop.at
  %limit = select i1 %sooner, i64 %turn.end, i64 %stop.at
  call void @put(ptr %context, i64 $LIMIT, i64 %limit)
  %why = call i64 @turn(ptr %context, i64 %wave)
  %goes.on = icmp eq i64 %why, 0
  br i1 %goes.on, label %over, label %stop
over:
  call void @put(ptr %context, i64 $IN_TURN, i64 0)
  br label %skip
skip:
  %next = add i64 %wave, 1
  br label %loop
stop:
  ret i64 %why
done:
  call void @put(ptr %context, i64 $CURRENT, i64 0)
  ret i64 0
}

; When all living waves have signalled the barrier is complete: those that wait for it run on, the
; others will pass it. 0: some wave runs, 1: none lives, 2: none that lives will ever run.
define internal i64 @release(ptr %context) noinline {
entry:
  %count = call i64 @get(ptr %context, i64 $WAVE_COUNT)
  br label %loop
loop:
  %wave = phi i64 [0, %entry], [%next, %body]
  %complete = phi i1 [true, %entry], [%complete.next, %body]
  %living = phi i1 [false, %entry], [%living.next, %body]
  %more = icmp ult i64 %wave, %count
  br i1 %more, label %body, label %judge
body:
  %record = call ptr @record(ptr %context, i64 %wave)
  %words = load ptr, ptr %record
  %status.at = getelementptr i64, ptr %record, i64 2
  %status = load i64, ptr %status.at
  %lives = icmp ne i64 %status, $ENDED
  %ended = xor i1 %lives, true
  %signalled.at = getelementptr i32, ptr %words, i64 $SIGNALLED
  %signalled = load i32, ptr %signalled.at
  %has.signalled = icmp ne i32 %signalled, 0
  %agrees = or i1 %has.signalled, %ended
  %complete.next = and i1 %complete, %agrees
  %living.next = or i1 %living, %lives
  %next = add i64 %wave, 1
  br label %loop
judge:
  br i1 %living, label %waker, label %none
waker:
  %wave2 = phi i64 [0, %judge], [%next2, %waker.step]
  %runs = phi i1 [false, %judge], [%runs.next, %waker.step]
  %more2 = icmp ult i64 %wave2, %count
  br i1 %more2, label %waker.body, label %told
waker.body:
  %record2 = call ptr @record(ptr %context, i64 %wave2)
  %words2 = load ptr, ptr %record2
  %signalled2.at = getelementptr i32, ptr %words2, i64 $SIGNALLED
  %passed2.at = getelementptr i32, ptr %words2, i64 $PASSED
  br i1 %complete, label %waker.mark, label %waker.look
waker.mark:
  store i32 0, ptr %signalled2.at
  store i32 1, ptr %passed2.at
  br label %waker.look
waker.look:
  %status2.at = getelementptr i64, ptr %record2, i64 2
  %status2 = load i64, ptr %status2.at
  %passed2 = load i32, ptr %passed2.at
  %may = icmp ne i32 %passed2, 0
  %waits = icmp eq i64 %status2, $WAITING
  %wakes = and i1 %waits, %may
  br i1 %wakes, label %waker.wake, label %waker.step
waker.wake:
  store i32 0, ptr %passed2.at
  store i64 $RUNNING, ptr %status2.at
  br label %waker.step
waker.step:
  %status3 = load i64, ptr %status2.at
  %running = icmp eq i64 %status3, $RUNNING
  %runs.next = or i1 %runs, %running
  %next2 = add i64 %wave2, 1
  br label %waker
told:
  %answer = select i1 %runs, i64 0, i64 2
  ret i64 %answer
none:
  ret i64 1
}

; Move on to the next work-group (x runs fastest) and put its waves into their first state.
define internal void @begin(ptr %context) noinline {
entry:
  %x = call i64 @get(ptr %context, i64 $X)
  %x.more = add i64 %x, 1
  %x.end = call i64 @get(ptr %context, i64 $END_X)
  %x.over = icmp uge i64 %x.more, %x.end
  %x.first = call i64 @get(ptr %context, i64 $FIRST_X)
  %x.new = select i1 %x.over, i64 %x.first, i64 %x.more
  call void @put(ptr %context, i64 $X, i64 %x.new)
  %x.carry = zext i1 %x.over to i64
  %y = call i64 @get(ptr %context, i64 $Y)
  %y.more = add i64 %y, %x.carry
  %y.end = call i64 @get(ptr %context, i64 $END_Y)
  %y.over = icmp uge i64 %y.more, %y.end
  %y.first = call i64 @get(ptr %context, i64 $FIRST_Y)
  %y.new = select i1 %y.over, i64 %y.first, i64 %y.more
  call void @put(ptr %context, i64 $Y, i64 %y.new)
  %y.carry = zext i1 %y.over to i64
  %z = call i64 @get(ptr %context, i64 $Z)
  %z.new = add i64 %z, %y.carry
  call void @put(ptr %context, i64 $Z, i64 %z.new)
  %more = call i64 @get(ptr %context, i64 $MORE)
  %more.less = sub i64 %more, 1
  call void @put(ptr %context, i64 $MORE, i64 %more.less)
  call void @put(ptr %context, i64 $GROUP_EXECUTED, i64 0)
  %waves = call i64 @get(ptr %context, i64 $WAVE_COUNT)
  %patience = mul i64 %waves, $FIRST_PATIENCE
  call void @put(ptr %context, i64 $PATIENCE, i64 %patience)
  %lds.raw = call i64 @get(ptr %context, i64 $LDS)
  %lds = inttoptr i64 %lds.raw to ptr
  %lds.size = call i64 @get(ptr %context, i64 $LDS_SIZE)
  call void @clear(ptr %lds, i64 %lds.size)
  %count = call i64 @get(ptr %context, i64 $WAVE_COUNT)
  %pc = call i64 @get(ptr %context, i64 $ENTRY)
  br label %loop
loop:
  %wave = phi i64 [0, %entry], [%next, %body]
  %open = icmp ult i64 %wave, %count
  br i1 %open, label %body, label %done
body:
  %distance = call i64 @get(ptr %context, i64 $FIRST_BYTES)
  %offset = mul i64 %wave, %distance
  %templates = call i64 @get(ptr %context, i64 $TEMPLATES)
  %from.raw = add i64 %templates, %offset
  %from = inttoptr i64 %from.raw to ptr
  %record = call ptr @record(ptr %context, i64 %wave)
  %to = load ptr, ptr %record
  call void @copy(ptr %to, ptr %from, i64 %distance)
  %used = call i64 @get(ptr %context, i64 $USED)
  %behind = getelementptr i8, ptr %to, i64 %distance
  call void @clear(ptr %behind, i64 %used)
  %again = call i64 @get(ptr %context, i64 $USED_AGAIN)
  %again.at = call i64 @get(ptr %context, i64 $AGAIN_AT)
  %again.to = getelementptr i8, ptr %to, i64 %again.at
  call void @clear(ptr %again.to, i64 %again)
  call void @identify(ptr %context, ptr %to, i64 $X_AT, i64 %x.new)
  %y.at = call i64 @get(ptr %context, i64 $Y_AT)
  %z.at = call i64 @get(ptr %context, i64 $Z_AT)
  %shared = icmp eq i64 %y.at, %z.at
  %z.high = shl i64 %z.new, 16
  %both = or i64 %y.new, %z.high
  %z.word = select i1 %shared, i64 %both, i64 %z.new
  call void @identify(ptr %context, ptr %to, i64 $Y_AT, i64 %y.new)
  call void @identify(ptr %context, ptr %to, i64 $Z_AT, i64 %z.word)
  %pc.at = getelementptr i64, ptr %record, i64 1
  store i64 %pc, ptr %pc.at
  %status.at = getelementptr i64, ptr %record, i64 2
  store i64 $RUNNING, ptr %status.at
  %executed.at = getelementptr i64, ptr %record, i64 3
  store i64 0, ptr %executed.at
  %next = add i64 %wave, 1
  br label %loop
done:
  ret void
}

define internal void @identify(ptr %context, ptr %words, i64 %slot, i64 %value) alwaysinline {
  %at = call i64 @get(ptr %context, i64 %slot)
  %none = icmp slt i64 %at, 0
  br i1 %none, label %done, label %write
write:
  %to = getelementptr i32, ptr %words, i64 %at
  %low = trunc i64 %value to i32
  store i32 %low, ptr %to
  br label %done
done:
  ret void
}

define i64 @drive(ptr %context) {
entry:
  br label %go
go:
  %why = call i64 @round(ptr %context)
  %bad = icmp ne i64 %why, 0
  br i1 %bad, label %stop, label %after
stop:
  ret i64 %why
after:
  %left = call i64 @release(ptr %context)
  switch i64 %left, label %is.slow [i64 0, label %alive
                                    i64 1, label %finished]
finished:
  %more = call i64 @get(ptr %context, i64 $MORE)
  %none = icmp eq i64 %more, 0
  br i1 %none, label %done, label %start
done:
  ret i64 $DONE
start:
  call void @begin(ptr %context)
  br label %go
alive:
  %taken = call i64 @get(ptr %context, i64 $GROUP_EXECUTED)
  %patience = call i64 @get(ptr %context, i64 $PATIENCE)
  %slow = icmp ugt i64 %taken, %patience
  br i1 %slow, label %is.slow, label %go
is.slow:
  ret i64 $ROUND
}
"""


def driver() -> str:
    """Return the module that holds `drive`."""
    return numbered(_TEXT.replace("$RECORD_BYTES", str(RECORD_BYTES))) + ATTRIBUTES

"""Write a region as LLVM IR: one function, whose blocks are those of the region.

It is entered with the number of one of the region's entries, counts the instructions that it has
executed, and returns where the wave goes on with the reason.
"""

from gputrace.isa import jit_layout as rt
from gputrace.isa.jit_block import BlockEmitter
from gputrace.isa.jit_region import Item, Region
from gputrace.isa.jit_writer import CannotLift, Module


class RegionEmitter(Module):
    """Emits the function of one region."""

    def __init__(self, region: Region, wave_size: int, width: int) -> None:
        super().__init__(wave_size, width)
        self.region = region
        self.useless = False
        """Whether not even the first instruction could be compiled."""

    def module(self) -> str:
        """Return the text of the module; its function is called `region`."""
        body: list[str] = []
        for at, block in sorted(self.region.blocks.items()):
            body += self._block(at, block)
        whole = [*self._head(), *body, *self.cold, "}", *self.functions, rt.ATTRIBUTES]
        return "\n".join([*self.declarations, *whole])

    def _head(self) -> list[str]:
        lanes = self.wave_size
        entries = " ".join(
            f"i64 {number}, label %{_label(at)}"
            for number, at in enumerate(self.region.entries)
            if number
        )
        return [
            "define i64 @region(ptr noalias %words, ptr noalias %context, ptr noalias %lds,"
            " ptr noalias %sites, i64 %base, i64 %entry) #0 {",
            "start:",
            f"  %addresses = alloca <{lanes} x i64>, align 64",
            f"  %four = alloca [4 x <{lanes} x i32>], align 64",
            "  %count = alloca i64",
            f"  %executed.at = getelementptr i64, ptr %context, i64 {rt.EXECUTED}",
            "  %executed = load i64, ptr %executed.at",
            "  store i64 %executed, ptr %count",
            f"  %limit.at = getelementptr i64, ptr %context, i64 {rt.LIMIT}",
            "  %limit = load i64, ptr %limit.at",
            f"  %lds.size.at = getelementptr i64, ptr %context, i64 {rt.LDS_SIZE}",
            "  %lds.size = load i64, ptr %lds.size.at",
            f"  %pc.at = getelementptr i64, ptr %context, i64 {rt.PC}",
            f"  %changes = getelementptr i64, ptr %context, i64 {rt.CHANGES}",
            f"  %ignored = getelementptr i64, ptr %context, i64 {rt.IGNORED}",
            *_quiet_lines(),
            f"  switch i64 %entry, label %b0 [{entries}]",
        ]

    def _block(self, at: int, block: list[Item]) -> list[str]:
        name = _label(at)
        emitter = BlockEmitter(self, name)
        emitter.begin(name)
        emitter.line(f"%count.{name} = load i64, ptr %count")
        arguments: list[str] = []
        done = 0
        for item in block:
            undo = emitter.snapshot()
            try:
                if item.last.prim == "sync":
                    raise CannotLift("global wave sync is not compiled")
                arguments = emitter.instruction(item, done)
            except CannotLift:
                # The numpy engine takes over in front of this instruction.
                self.useless = self.useless or (at == 0 and done == 0)
                undo()
                emitter.settle()
                emitter.line(f"%here.{name} = add i64 %base, {item.at}")
                emitter.line(f"%done.{name} = add i64 %count.{name}, {done}")
                emitter.lines += self.leaving(rt.LEFT, f"%here.{name}", f"%done.{name}")
                return emitter.lines
            done += 1
        emitter.settle()
        emitter.line(f"%done.{name} = add i64 %count.{name}, {done}")
        self._end(emitter, block[-1], arguments)
        return emitter.lines

    # --- where a block leads

    def _end(self, emitter: BlockEmitter, item: Item, arguments: list[str]) -> None:
        last, done = item.last, f"%done.{emitter.block}"
        match last.prim:
            case "jump":
                assert isinstance(last.attribute, int)
                emitter.line(f"br label %{self._edge(emitter, item, last.attribute)}")
            case "branch":
                assert isinstance(last.attribute, tuple)
                yes, no = (self._edge(emitter, item, int(t)) for t in last.attribute)
                emitter.line(f"br i1 {arguments[0]}, label %{yes}, label %{no}")
            case "jump_to":
                over = emitter.fresh(f"icmp uge i64 {done}, %limit")
                code = emitter.fresh(f"select i1 {over}, i64 {rt.TURN}, i64 {rt.LEFT}")
                emitter.lines += self.leaving(0, arguments[0], done)[:-1]
                emitter.line(f"ret i64 {code}")
            case "barrier":
                pc = emitter.fresh(f"add i64 %base, {last.attribute}")
                emitter.lines += self.leaving(rt.BARRIER, pc, done)
            case "end":
                pc = emitter.fresh(f"add i64 %base, {item.at}")
                emitter.lines += self.leaving(rt.END, pc, done)
            case _:
                raise AssertionError(last.prim)

    def _edge(self, emitter: BlockEmitter, item: Item, target: int) -> str:
        # The label to branch to: of a small block that checks what must be checked on the way.
        label, done = emitter.place("edge"), f"%done.{emitter.block}"
        lines = [f"{label}:"]
        known = target in self.region.blocks
        if target <= item.at:
            out, on = emitter.place("over"), emitter.place("on")
            over = self.name()
            lines.append(f"  {over} = icmp uge i64 {done}, %limit")
            lines.append(f"  br i1 {over}, label %{out}, label %{on}, !prof !0")
            lines += [f"{out}:", *self._away(rt.TURN, target, done), f"{on}:"]
        if known:
            lines += [f"  store i64 {done}, ptr %count", f"  br label %{_label(target)}"]
        else:
            lines += self._away(rt.LEFT, target, done)
        self.cold += lines
        return label

    def _away(self, code: int, target: int, done: str) -> list[str]:
        pc = self.name()
        return [f"  {pc} = add i64 %base, {target}", *self.leaving(code, pc, done)]


def _quiet_lines() -> list[str]:
    lines = []
    for bits, slot in ((16, rt.QUIET_16), (32, rt.QUIET_32), (64, rt.QUIET_64)):
        lines.append(f"  %quiet.{bits}.at = getelementptr i64, ptr %context, i64 {slot}")
        lines.append(f"  %quiet.{bits} = load i{bits}, ptr %quiet.{bits}.at")
    return lines


def _label(at: int) -> str:
    return f"b{at}" if at >= 0 else f"bm{-at}"

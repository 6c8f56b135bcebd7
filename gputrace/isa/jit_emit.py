"""Write a region as LLVM IR: one function, lanes as vectors, registers in the wave's memory.

Registers are written to memory at once, so that the state is whole at each place where a wave may
stop; what an instruction read or wrote before in the same block is taken from there when it still
holds. The meaning of each primitive is in `gputrace.isa.primitives`; here are the effects.
"""

from collections.abc import Callable

from gputrace.isa import jit_atomics, state
from gputrace.isa import jit_layout as rt
from gputrace.isa.graph import I1, U32, U64, Node
from gputrace.isa.jit_access import (
    Access,
    find_accesses,
    load_near,
    load_row,
    near_lanes,
    row_of,
    store_near,
    store_row,
)
from gputrace.isa.jit_exact import is_active, wants_all_lanes
from gputrace.isa.jit_region import Item, Region
from gputrace.isa.primitives import PRIMS

_WINDOW = 6  # vector registers whose last values are taken from the block itself
_MATHEMATICS = ("llvm.exp2", "llvm.log2", "llvm.sin", "llvm.cos")


class CannotLift(Exception):
    """An instruction that only the numpy engine can run; the text is the reason."""


class BlockEmitter:
    """Emits the instructions of one block; the `Emitter` of `gputrace.isa.primitives`."""

    def __init__(self, region: "RegionEmitter", name: str) -> None:
        self.region = region
        self.wave_size = region.wave_size
        self.block = name
        self.lines: list[str] = []
        self._known: dict[str, str] = {}
        self._scalars: dict[int, str] = {}
        self._vectors: dict[int, tuple[str, str]] = {}
        self._halves: dict[str, tuple[str, int]] = {}  # which half of what a value is
        self._shared_site = ""  # of a short way, for the general one beside it
        self._active = "?"  # the name that EXEC as lanes has now
        self._all_lanes: frozenset[int] = frozenset()
        self.item: Item
        self.number = 0
        self._effects: dict[str, Callable[..., str]] = {
            "get_scalar": self._get_scalar,
            "put_scalar": self._put_scalar,
            "get_vector": self._get_vector,
            "put_vector": self._put_vector,
            "here": self._here,
            "clock": self._clock,
            "check": self._check,
            "load": self._load,
            "store": self._store,
            "atomic": self._atomic,
            "permute": self._permute,
            "scatter": self._scatter,
            "splat": self._splat,
        }

    # --- the protocol of the primitives

    def type(self, node: Node) -> str:
        """Return the LLVM type of a node's value."""
        return f"<{self.wave_size} x {node.type.llvm}>" if node.lanes else node.type.llvm

    def inst(self, text: str) -> str:
        """Append an instruction without effects; an equal one of this block is used again."""
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = self.fresh(text)
        return known

    def fresh(self, text: str) -> str:
        """Append an instruction in any case."""
        name = self.region.name()
        self.lines.append(f"  {name} = {text}")
        return name

    def call(self, result: str, name: str, *args: tuple[str, str]) -> str:
        """Append a call of a function without effects."""
        if name.startswith(_MATHEMATICS):
            name = name.split(".")[1] + (".lanes" if result.startswith("<") else "")
        self.region.declare(result, name, *(kind for kind, _ in args))
        return self.inst(f"call {result} @{name}({_listed(args)})")

    def constant(self, node: Node, value: int) -> str:
        """Return a constant of the node's type, given its bits."""
        if node.type.kind == "f":
            raw = f"i{node.type.bits}"
            one = self.inst(f"bitcast {raw} {value} to {node.type.llvm}")
            return self._spread(self.type(node), node.type.llvm, one) if node.lanes else one
        text = ("true" if value & 1 else "false") if node.type == I1 else str(value)
        return f"splat ({node.type.llvm} {text})" if node.lanes else text

    def quiet(self, node: Node) -> str:
        """Return the NaN that arithmetic gives, as integers that LLVM does not know."""
        name, kind = f"%quiet.{node.type.bits}", f"i{node.type.bits}"
        return self._spread(f"<{self.wave_size} x {kind}>", kind, name) if node.lanes else name

    def effect(self, node: Node, *args: str) -> str:
        """Carry out an effect and return its value."""
        handler = self._effects.get(node.prim)
        if handler is None:
            raise CannotLift(f"{node.prim} is not compiled")
        return handler(node, *args)

    # --- one instruction

    def instruction(self, item: Item, number: int) -> list[str]:
        """Emit all but the last node, and return the names of the last one's arguments."""
        self.item, self.number = item, number
        self._all_lanes = wants_all_lanes(item.graph, self.wave_size)
        names: dict[int, str] = {}
        accesses = find_accesses(item.graph)
        covered = frozenset[int]().union(*(access.covered for access in accesses.values()))
        for node in item.graph.nodes[:-1]:
            if node.index in accesses:
                names.update(self._short(accesses[node.index], names))
            if node.index in covered:
                continue
            args = [names[arg.index] for arg in node.args]
            joined = self._halved(node, names)
            if joined:
                names[node.index] = joined
                continue
            special = self._effects.get(node.prim)
            if special is not None:
                names[node.index] = special(node, *args)
                continue
            names[node.index] = PRIMS[node.prim].llvm(self, node, *args)
            if is_active(node, self.wave_size):
                self._active = names[node.index]
        return [names[arg.index] for arg in item.last.args]

    def place(self, name: str) -> str:
        """Return the label of a new LLVM block of this block's code."""
        return f"{self.block}.{name}{self.region.number()}"

    def begin(self, label: str) -> None:
        """Go on in an LLVM block."""
        self.lines.append(f"{label}:")

    def line(self, text: str) -> None:
        """Append an instruction that has no value."""
        self.lines.append(f"  {text}")

    # --- registers

    def _scalar_at(self, index: int) -> str:
        if not 0 <= index < state.SCALARS:
            raise CannotLift(f"scalar word {index}")
        return self.inst(f"getelementptr inbounds i32, ptr %words, i64 {index}")

    def _vector_at(self, index: int) -> str:
        if not 0 <= index < state.VECTORS:
            raise CannotLift(f"vector register {index}")
        at = state.SCALARS + index * self.wave_size
        return self.inst(f"getelementptr inbounds i32, ptr %words, i64 {at}")

    def _get_scalar(self, node: Node) -> str:
        assert isinstance(node.attribute, int)
        index = node.attribute
        if index not in self._scalars:
            self._scalars[index] = self.fresh(f"load i32, ptr {self._scalar_at(index)}, align 4")
        return self._scalars[index]

    def _put_scalar(self, node: Node, value: str) -> str:
        assert isinstance(node.attribute, int)
        self.line(f"store i32 {value}, ptr {self._scalar_at(node.attribute)}, align 4")
        self._scalars[node.attribute] = value
        if node.attribute in (state.EXEC, state.EXEC + 1):
            self._active = "?"
        return ""

    def _get_vector(self, node: Node) -> str:
        assert isinstance(node.attribute, int)
        index = node.attribute
        value, mask = self._vectors.get(index, ("", ""))
        if value and (mask == "" or (node.index not in self._all_lanes and mask == self._active)):
            return value
        kind = f"<{self.wave_size} x i32>"
        value = self.fresh(f"load {kind}, ptr {self._vector_at(index)}, align 64")
        self._remember(index, value, "")
        return value

    def _put_vector(self, node: Node, value: str, mask: str) -> str:
        assert isinstance(node.attribute, int)
        index, kind = node.attribute, f"<{self.wave_size} x i32>"
        at, mask_kind = self._vector_at(index), f"<{self.wave_size} x i1>"
        if mask == "splat (i1 true)":
            self.line(f"store {kind} {value}, ptr {at}, align 64")
            self._remember(index, value, "")
            return ""
        name = f"llvm.masked.store.v{self.wave_size}i32.p0"
        self.region.declare("void", name, kind, "ptr", "i32", mask_kind)
        self.line(f"call void @{name}({kind} {value}, ptr {at}, i32 64, {mask_kind} {mask})")
        self._remember(index, value, mask)
        return ""

    def _remember(self, index: int, value: str, mask: str) -> None:
        self._vectors.pop(index, None)
        self._vectors[index] = value, mask
        if len(self._vectors) > _WINDOW:
            self._vectors.pop(next(iter(self._vectors)))

    def forget_vector(self, index: int) -> None:
        """Take a register from memory from now on."""
        self._vectors.pop(index, None)

    # --- values that the region knows better

    def _halved(self, node: Node, names: dict[int, str]) -> str:
        # Words of 64-bit lanes by one shuffle, and lanes put together from words again.
        if not node.lanes:
            return ""
        if node.prim == "trunc" and node.type == U32 and node.args[0].type == U64:
            whole, half = node.args[0], 0
            if whole.prim == "lshr" and _is_number(whole.args[1], 32):
                whole, half = whole.args[0], 1
            return self._half(names[whole.index], half)
        if node.prim != "or" or node.type != U64:
            return ""
        low, raised = node.args
        if raised.prim != "shl" or not _is_number(raised.args[1], 32):
            return ""
        high = raised.args[0]
        if any(part.prim != "zext" or part.args[0].type != U32 for part in (low, high)):
            return ""
        return self._whole(*(names[part.args[0].index] for part in (low, high)))

    def _half(self, value: str, half: int) -> str:
        lanes = self.wave_size
        raw = self.inst(f"bitcast <{lanes} x i64> {value} to <{2 * lanes} x i32>")
        index = ", ".join(f"i32 {2 * lane + half}" for lane in range(lanes))
        pair = f"<{2 * lanes} x i32>"
        name = self.inst(
            f"shufflevector {pair} {raw}, {pair} poison, <{lanes} x i32> <{index}>"
        )
        self._halves[name] = value, half
        return name

    def _whole(self, low: str, high: str) -> str:
        first, second = self._halves.get(low, ("", 0)), self._halves.get(high, ("", 0))
        if first[0] and first == (second[0], 0) and second[1] == 1:
            return first[0]
        lanes = self.wave_size
        index = ", ".join(f"i32 {lane}, i32 {lane + lanes}" for lane in range(lanes))
        one = f"<{lanes} x i32>"
        both = self.inst(f"shufflevector {one} {low}, {one} {high}, <{2 * lanes} x i32> <{index}>")
        return self.inst(f"bitcast <{2 * lanes} x i32> {both} to <{lanes} x i64>")

    def _spread(self, many: str, one: str, value: str) -> str:
        first = self.inst(f"insertelement {many} poison, {one} {value}, i64 0")
        zeros = f"<{self.wave_size} x i32> zeroinitializer"
        return self.inst(f"shufflevector {many} {first}, {many} poison, {zeros}")

    def _splat(self, node: Node, value: str) -> str:
        source = node.args[0]
        if source.prim == "const":
            assert isinstance(source.attribute, int)
            return self.constant(node, source.attribute)
        if node.type == I1:
            bits = self.inst(f"sext i1 {value} to i{self.wave_size}")
            return self.inst(f"bitcast i{self.wave_size} {bits} to {self.type(node)}")
        return self._spread(self.type(node), node.type.llvm, value)

    def _here(self, node: Node) -> str:
        return self.inst(f"add i64 %base, {node.attribute}")

    def _clock(self, node: Node) -> str:
        self._count_change()
        return self.fresh(f"add i64 %count.{self.block}, {self.number}")

    def _count_change(self) -> None:
        at = self.inst(f"getelementptr inbounds i64, ptr %context, i64 {rt.CHANGES}")
        old = self.fresh(f"load i64, ptr {at}")
        self.line(f"store i64 {self.fresh(f'add i64 {old}, 1')}, ptr {at}")

    def bits(self, mask: str) -> str:
        """Return a lane mask as i64."""
        kind = f"<{self.wave_size} x i1>"
        raw = self.inst(f"bitcast {kind} {mask} to i{self.wave_size}")
        return raw if self.wave_size == 64 else self.inst(f"zext i32 {raw} to i64")

    # --- memory

    def external(self, result: str, name: str, *args: tuple[str, str]) -> str:
        """Append a call of a declared function, in any case."""
        return self._helper(result, name, *args)

    def _short(self, access: Access, names: dict[int, str]) -> dict[int, str]:
        # A short way with the general one beside it; returns the values of the loads.
        root, mask = access.root, names[access.mask.index]
        values = [names[node.args[1].index] for node in access.nodes if node.prim == "store"]
        if root.prim == "check":
            holds, short = self._row_way(access, names[root.args[0].index], mask, values)
        else:
            holds, short = self._near_way(access, names[root.index], mask, values)
        fast, slow, end = (self.place(n) for n in ("fast", "slow", "end"))
        self.line(f"br i1 {holds}, label %{fast}, label %{slow}, !prof !1")
        known = dict(self._known)
        self.begin(fast)
        quick = short()
        self.line(f"br label %{end}")
        self._known = dict(known)
        self.begin(slow)
        careful = self._long_way(access, names, mask)
        last = self.place("slow.end")
        self.line(f"br label %{last}")
        self.begin(last)
        self.line(f"br label %{end}")
        self._known = known
        self.begin(end)
        if access.stores:
            return {}
        kind = f"<{self.wave_size} x i32>"
        return {
            node.index: self.fresh(f"phi {kind} [{one}, %{fast}], [{other}, %{last}]")
            for node, one, other in zip(access.nodes, quick, careful, strict=True)
        }

    def _row_way(
        self, access: Access, address: str, mask: str, values: list[str]
    ) -> tuple[str, Callable[[], list[str]]]:
        words = len(access.nodes)
        self._shared_site = self._site()
        slots = [self._site_slot(self._shared_site, k) for k in range(3)]
        row = row_of(self, address, mask, words, slots, whole=access.stores and words > 1)

        def short() -> list[str]:
            if access.stores:
                store_row(self, row.host, mask, values, "%changes")
                return []
            return load_row(self, row.host, mask, words)

        return row.holds, short

    def _near_way(
        self, access: Access, address: str, mask: str, values: list[str]
    ) -> tuple[str, Callable[[], list[str]]]:
        width, last = self.region.width, max(access.offsets)
        near = near_lanes(self, address, mask, last, width, exact=access.stores)

        def short() -> list[str]:
            if not access.stores:
                return [load_near(self, near, offset, width) for offset in access.offsets]
            for offset, value in zip(access.offsets, values, strict=True):
                store_near(self, near, offset, width, value, mask)
            return []

        return near.holds, short

    def _long_way(self, access: Access, names: dict[int, str], mask: str) -> list[str]:
        root, lanes = access.root, self.wave_size
        if root.prim == "check":
            start, kind = self._check(root, names[root.args[0].index], mask), "i64"
        else:
            start, kind = names[root.index], "i32"
        results = []
        for node, offset in zip(access.nodes, access.offsets, strict=True):
            place = start
            if offset:
                place = self.fresh(f"add <{lanes} x {kind}> {start}, splat ({kind} {offset})")
            if access.stores:
                self._store(node, place, names[node.args[1].index], mask)
            else:
                results.append(self._load(node, place, mask))
        return results

    def _check(self, node: Node, address: str, mask: str) -> str:
        assert isinstance(node.attribute, tuple)
        access, size = str(node.attribute[0]), int(node.attribute[1])
        aligned = size - 1 if access == "atomic" else 0
        need = (access != "read") | aligned << 1
        site = self._shared_site or self._site()
        self._shared_site = ""
        slots = [self._site_slot(site, k) for k in range(3)]
        if not node.lanes:
            return self._check_one(address, mask, site, slots, f"i64 {size}, i64 {need}", access)
        kind = f"<{self.wave_size} x i64>"
        first, count, delta = (self._spread(kind, "i64", slot) for slot in slots)
        offset = self.fresh(f"sub {kind} {address}, {first}")
        outside = self.fresh(f"icmp uge {kind} {offset}, {count}")
        if aligned:
            low = self.fresh(f"and {kind} {address}, splat (i64 {aligned})")
            odd = self.fresh(f"icmp ne {kind} {low}, zeroinitializer")
            outside = self.fresh(f"or <{self.wave_size} x i1> {outside}, {odd}")
        bad = self.fresh(f"and <{self.wave_size} x i1> {outside}, {mask}")
        raw = self.fresh(f"bitcast <{self.wave_size} x i1> {bad} to i{self.wave_size}")
        some = self.fresh(f"icmp ne i{self.wave_size} {raw}, 0")
        bits = self.bits(mask)
        host = self.fresh(f"add {kind} {address}, {delta}")
        before, slow, found, on = (self.place(n) for n in ("in", "slow", "found", "on"))
        self.line(f"br label %{before}")
        self.begin(before)
        self.line(f"br i1 {some}, label %{slow}, label %{on}, !prof !0")
        self.begin(slow)
        self.line(f"store {kind} {address}, ptr %addresses, align 64")
        self.region.declare("i64", "locate", "ptr", "ptr", "ptr", "i64", "i64", "i64")
        wrong = self.fresh(
            f"call i64 @locate(ptr %context, ptr {site}, ptr %addresses, i64 {bits},"
            f" i64 {size}, i64 {need})"
        )
        good = self.fresh(f"icmp eq i64 {wrong}, 0")
        self.line(f"br i1 {good}, label %{found}, label %{self._fault(access, size)}")
        self.begin(found)
        looked = self.fresh(f"load {kind}, ptr %addresses, align 64")
        self.line(f"br label %{on}")
        self.begin(on)
        return self.fresh(f"phi {kind} [{host}, %{before}], [{looked}, %{found}]")

    def _check_one(
        self, address: str, mask: str, site: str, slots: list[str], need: str, access: str
    ) -> str:
        if mask != "true":
            raise CannotLift("a uniform access under a condition")
        size = int(need.split(",")[0].split()[1])
        offset = self.fresh(f"sub i64 {address}, {slots[0]}")
        inside = self.fresh(f"icmp ult i64 {offset}, {slots[1]}")
        host = self.fresh(f"add i64 {address}, {slots[2]}")
        before, slow, on = (self.place(n) for n in ("in", "slow", "on"))
        self.line(f"br label %{before}")
        self.begin(before)
        self.line(f"br i1 {inside}, label %{on}, label %{slow}, !prof !1")
        self.begin(slow)
        self.region.declare("i64", "find", "ptr", "ptr", "i64", "i64", "i64")
        looked = self.fresh(f"call i64 @find(ptr %context, ptr {site}, i64 {address}, {need})")
        good = self.fresh(f"icmp ne i64 {looked}, 0")
        fault = self._fault(access, size, address)
        self.line(f"br i1 {good}, label %{on}, label %{fault}")
        self.begin(on)
        return self.fresh(f"phi i64 [{host}, %{before}], [{looked}, %{slow}]")

    def _site(self) -> str:
        offset = 8 * rt.SITE_SLOTS * self.region.sites
        self.region.sites += 1
        return self.fresh(f"getelementptr inbounds i8, ptr %sites, i64 {offset}")

    def _site_slot(self, site: str, slot: int) -> str:
        at = self.fresh(f"getelementptr inbounds i64, ptr {site}, i64 {slot}")
        return self.fresh(f"load i64, ptr {at}")

    def _fault(self, access: str, size: int, address: str = "") -> str:
        # A block of its own that leaves the region at this instruction.
        label = self.place("fault")
        lines = [f"{label}:"]
        slots = {rt.FAULT_ACCESS: rt.ACCESSES.index(access) | size << 8}
        if address:
            slots[rt.FAULT_LANES] = 1
            at = self.region.name()
            lines.append(f"  {at} = getelementptr i64, ptr %context, i64 {rt.FAULT_ADDRESS}")
            lines.append(f"  store i64 {address}, ptr {at}")
        for slot, value in slots.items():
            at = self.region.name()
            lines.append(f"  {at} = getelementptr i64, ptr %context, i64 {slot}")
            lines.append(f"  store i64 {value}, ptr {at}")
        count = self.region.name()
        lines.append(f"  {count} = add i64 %count.{self.block}, {self.number}")
        pc = self.region.name()
        lines.append(f"  {pc} = add i64 %base, {self.item.at}")
        lines += self.region.leaving(rt.FAULT, pc, count)
        self.region.cold += lines
        return label

    def _load(self, node: Node, place: str, mask: str) -> str:
        kind = node.type.llvm
        if not node.lanes:
            if mask != "true" or node.attribute == "lds":
                raise CannotLift("a uniform load under a condition")
            at = self.fresh(f"inttoptr i64 {place} to ptr")
            return self.fresh(f"load {kind}, ptr {at}, align 1")
        many, bits = self.type(node), self.bits(mask)
        if node.attribute == "lds":
            args = [("ptr", "%lds"), ("i64", "%lds.size"), (self.type(node.args[0]), place)]
            return self._helper(many, f"lds.load{node.type.bits}", *args, ("i64", bits))
        args = [(self.type(node.args[0]), place), ("i64", bits)]
        return self._helper(many, f"load{node.type.bits}", *args)

    def _store(self, node: Node, place: str, value: str, mask: str) -> str:
        address, data = node.args[0], node.args[1]
        if not address.lanes:
            raise CannotLift("a uniform store")
        args = [(self.type(address), place), (self.type(data), value), ("i64", self.bits(mask))]
        if node.attribute == "lds":
            head = [("ptr", "%lds"), ("i64", "%lds.size")]
            self._helper("void", f"lds.store{data.type.bits}", *head, *args)
        else:
            self._helper("void", f"store{data.type.bits}", ("ptr", "%changes"), *args)
        return ""

    def _helper(self, result: str, name: str, *args: tuple[str, str]) -> str:
        self.region.declare(result, name, *(kind for kind, _ in args))
        text = f"call {result} @{name}({_listed(args)})"
        if result == "void":
            self.line(text)
            return ""
        return self.fresh(text)

    def _atomic(self, node: Node, place: str, *args: str) -> str:
        assert isinstance(node.attribute, tuple)
        space, operation = node.attribute
        *data, mask = args
        many = self.type(node)
        changes, host = "%changes", place
        if space == "lds":
            changes, host, mask = "%ignored", *self._lds_hosts(node, place, mask)
        third = data[1] if len(data) > 1 else "zeroinitializer"
        name = f"atomic.{operation}.{node.type.llvm}"
        if name not in jit_atomics.HELPERS:
            raise CannotLift(f"atomic {operation} of {node.type}")
        addresses = (f"<{self.wave_size} x i64>", host)
        name = f"lds.{name}" if space == "lds" else name
        return self._helper(
            many, name, ("ptr", changes), addresses, (many, data[0]), (many, third),
            ("i64", self.bits(mask)),
        )  # fmt: skip

    def _lds_hosts(self, node: Node, place: str, mask: str) -> tuple[str, str]:
        lanes, size = self.wave_size, node.type.bits // 8
        wide = self.inst(f"zext <{lanes} x i32> {place} to <{lanes} x i64>")
        end = self.inst(f"add <{lanes} x i64> {wide}, splat (i64 {size})")
        limit = self._spread(f"<{lanes} x i64>", "i64", "%lds.size")
        inside = self.inst(f"icmp ule <{lanes} x i64> {end}, {limit}")
        start = self._spread(f"<{lanes} x i64>", "i64", self.inst("ptrtoint ptr %lds to i64"))
        host = self.inst(f"add <{lanes} x i64> {start}, {wide}")
        return host, self.inst(f"and <{lanes} x i1> {inside}, {mask}")

    # --- between lanes

    def _permute(self, node: Node, value: str, index: str) -> str:
        raw, many, lanes = f"i{node.type.bits}", self.type(node), self.wave_size
        word = f"<{lanes} x {raw}>"
        if node.type.kind == "f":
            value = self.inst(f"bitcast {many} {value} to {word}")
        args = (word, value), (f"<{lanes} x i32>", self._as_word(node.args[1], index))
        moved = self._helper(word, f"permute{node.type.bits}", *args)
        return self.inst(f"bitcast {word} {moved} to {many}") if many != word else moved

    def _scatter(self, node: Node, value: str, index: str, mask: str) -> str:
        if node.type.kind == "f" or node.type.bits != 32:
            raise CannotLift(f"scatter of {node.type}")
        lanes = f"<{self.wave_size} x i32>"
        at = (lanes, self._as_word(node.args[1], index))
        return self._helper(lanes, "scatter32", (lanes, value), at, ("i64", self.bits(mask)))

    def _as_word(self, node: Node, value: str) -> str:
        if node.type.bits == 32:
            return value
        op = "trunc" if node.type.bits > 32 else "zext"
        return self.inst(f"{op} {self.type(node)} {value} to <{self.wave_size} x i32>")


def _is_number(node: Node, value: int) -> bool:
    # Whether a value of the lanes is one constant.
    if node.prim != "splat" or node.args[0].prim != "const":
        return False
    return node.args[0].attribute == value


def _listed(args: tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> str:
    return ", ".join(f"{kind} {value}" for kind, value in args)


class RegionEmitter:
    """Emits the function of one region."""

    def __init__(self, region: Region, wave_size: int, width: int) -> None:
        self.region = region
        self.wave_size = wave_size
        self.width = width
        """Words of the host's vectors."""
        self.sites = 0
        self.useless = False
        """Whether not even the first instruction could be compiled."""
        self.cold: list[str] = []
        self._count = 0
        self._declared: dict[str, str] = {}

    def number(self) -> int:
        """Return a number that nothing else in the module has."""
        self._count += 1
        return self._count

    def name(self) -> str:
        """Return a new name of a value."""
        return f"%v{self.number()}"

    def declare(self, result: str, name: str, *kinds: str) -> None:
        """Declare a function that is defined elsewhere."""
        self._declared[name] = f"declare {result} @{name}({', '.join(kinds)}) #0"

    @property
    def helpers(self) -> list[str]:
        """Names of the functions that the module takes from elsewhere."""
        return [name for name in self._declared if not name.startswith("llvm.")]

    def leaving(self, code: int, pc: str, count: str) -> list[str]:
        """Return the lines that leave the function."""
        return [
            f"  store i64 {pc}, ptr %pc.at",
            f"  store i64 {count}, ptr %executed.at",
            f"  ret i64 {code}",
        ]

    def module(self) -> str:
        """Return the text of the module; its function is called `region`."""
        body: list[str] = []
        for at, block in sorted(self.region.blocks.items()):
            body += self._block(at, block)
        declared = list(self._declared.values())
        return "\n".join([*declared, *self._head(), *body, *self.cold, "}", _TAIL, ""])

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
            before, cold = len(emitter.lines), len(self.cold)
            try:
                arguments = emitter.instruction(item, done)
            except CannotLift:
                # The numpy engine takes over in front of this instruction.
                self.useless = self.useless or (at == 0 and done == 0)
                del emitter.lines[before:], self.cold[cold:]
                emitter.line(f"%here.{name} = add i64 %base, {item.at}")
                emitter.line(f"%done.{name} = add i64 %count.{name}, {done}")
                emitter.lines += self.leaving(rt.LEFT, f"%here.{name}", f"%done.{name}")
                return emitter.lines
            done += 1
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


_TAIL = """
attributes #0 = { nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" }
!0 = !{!"branch_weights", i32 1, i32 2000}
!1 = !{!"branch_weights", i32 2000, i32 1}
"""

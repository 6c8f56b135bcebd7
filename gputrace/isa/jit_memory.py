"""Memory instructions as LLVM IR: checks against the ranges of memory, loads, stores, atomics.

Each check has a site that remembers the range that it found last, so that most accesses are
compared with one range; what does not lie in it is looked up by `locate`, which says what faults.
"""

from collections.abc import Callable

from gputrace.isa import jit_atomics, jit_rows, state
from gputrace.isa import jit_layout as rt
from gputrace.isa.graph import Node
from gputrace.isa.jit_access import (
    Access,
    Address,
    load_near,
    load_side_by_side,
    near_lanes,
    store_near,
    store_side_by_side,
)
from gputrace.isa.jit_words import Words, WordWriter
from gputrace.isa.jit_writer import CannotLift, Module


class MemoryWriter(WordWriter):
    """Writes what an instruction does to memory and LDS."""

    def __init__(self, region: Module, name: str) -> None:
        super().__init__(region, name)
        self.at = 0
        """Place of the current instruction in the region."""
        self.number = 0
        """Instructions of the block before it."""

    def called(self) -> None:
        """Forget values of lanes: behind a call they are not in the host's registers any more."""
        self._known = {text: name for text, name in self._known.items() if "<" not in text}

    def register(self, index: int) -> str:
        """Return where a vector register lies."""
        if not 0 <= index < state.VECTORS:
            raise CannotLift(f"vector register {index}")
        at = state.SCALARS + index * self.wave_size
        return self.inst(f"getelementptr inbounds i32, ptr %words, i64 {at}")

    def settle(self) -> None:
        """Write all vector registers to memory: the wave may stop here, or others read them."""
        raise NotImplementedError

    def access(self, access: Access, names: dict[int, str]) -> dict[int, str]:
        """Write the loads or stores of one address; return the values of the loads."""
        if access.root.prim == "check":
            return self._row(access, names)
        return self._near(access, names)

    # --- memory

    def _row(self, access: Access, names: dict[int, str]) -> dict[int, str]:
        # A call of one of the functions of `jit_rows`.
        address = Address.of(access.root.args[0])
        low, high, whole = self._address(address, names)
        added = "0"
        for node in address.added:
            added = names[node.index] if added == "0" else self.inst(
                f"add i64 {added}, {names[node.index]}"
            )
        words, data = len(access.nodes), "%four"
        if access.registers is not None:
            data = self.register(access.registers)
            self.register(access.registers + words - 1)
        else:
            for number, node in enumerate(access.values):
                self._keep(f"<{self.wave_size} x i32>", names[node.index], self._data(number))
        bits = self.bits(names[access.mask.index])
        self.settle()
        values = "%context", self._site(), low, high, added, bits, data
        args = zip(jit_rows.PARAMETERS, values, strict=True)
        wrong = self.external("i64", jit_rows.name(words, access.stores, whole), *args)
        good, on = self.fresh(f"icmp eq i64 {wrong}, 0"), self.place("on")
        self.line(f"br i1 {good}, label %{on}, label %{self._fault()}, !prof !1")
        self.begin(on)
        self.called()
        if access.stores or access.registers is not None:
            return {}
        kind = f"<{self.wave_size} x i32>"
        return {
            node.index: self.fresh(f"load {kind}, ptr {self._data(number)}, align 64")
            for number, node in enumerate(access.nodes)
        }

    def _address(self, address: Address, names: dict[int, str]) -> tuple[str, str, bool]:
        # Where the words of an address are, or all of it.
        if address.words is not None:
            low, high = address.words
            return self.register(low), "null" if high is None else self.register(high), False
        lanes, value = self.wave_size, names[address.lanes.index]
        words = self.words(address.lanes, names)
        if words is None:
            self._keep(f"<{lanes} x i64>", value, "%addresses")
            return "%addresses", "null", True
        self._keep(f"<{lanes} x i32>", words[0], "%addresses")
        if words[1] == "zeroinitializer":
            return "%addresses", "null", False
        behind = self.inst(f"getelementptr i32, ptr %addresses, i64 {lanes}")
        self._keep(f"<{lanes} x i32>", words[1], behind)
        return "%addresses", behind, False

    def _data(self, number: int) -> str:
        return self.inst(f"getelementptr i32, ptr %four, i64 {number * self.wave_size}")

    def _keep(self, kind: str, value: str, at: str) -> None:
        self.line(f"store {kind} {value}, ptr {at}, align 64")

    # --- LDS

    def _near(self, access: Access, names: dict[int, str]) -> dict[int, str]:
        # Short ways with the general one beside them.
        address, mask = names[access.root.index], names[access.mask.index]
        values = [names[node.index] for node in access.values]
        end, known = self.place("end"), self._known
        found: list[tuple[str, list[str]]] = []
        for number, way in enumerate(self._ways(access)):
            holds, short = way(access, address, mask, values)
            fast, slow = self.place("fast"), self.place("slow")
            self.line(f"br i1 {holds}, label %{fast}, label %{slow}, !prof !1")
            if number == 0:
                known = dict(self._known)
            before = dict(self._known)
            self.begin(fast)
            found.append((fast, short()))
            self.line(f"br label %{end}")
            self._known = before
            self.begin(slow)
        careful = self._long_way(access, names, address, mask)
        last = self.place("slow.end")
        self.line(f"br label %{last}")
        self.begin(last)
        self.line(f"br label %{end}")
        self._known = known
        self.begin(end)
        found.append((last, careful))
        if access.stores:
            return {}
        return {node.index: self._either(found, n) for n, node in enumerate(access.nodes)}

    def _ways(self, access: Access) -> list[Callable[..., tuple[str, Callable[[], list[str]]]]]:
        if access.wide:
            return [self._side_way] if access.stores else [self._near_way, self._side_way]
        return [self._near_way]

    def _either(self, found: list[tuple[str, list[str]]], number: int) -> str:
        values = ", ".join(f"[{values[number]}, %{label}]" for label, values in found)
        return self.fresh(f"phi <{self.wave_size} x i32> {values}")

    def _near_way(
        self, access: Access, address: str, mask: str, values: list[str]
    ) -> tuple[str, Callable[[], list[str]]]:
        width, last = self.region.width, max(access.offsets)
        near = near_lanes(self, address, mask, last, width, step=int(access.stores))

        def short() -> list[str]:
            if not access.stores:
                return [load_near(self, near, offset, width) for offset in access.offsets]
            for offset, value in zip(access.offsets, values, strict=True):
                store_near(self, near, offset, width, value, mask)
            return []

        return near.holds, short

    def _side_way(
        self, access: Access, address: str, mask: str, values: list[str]
    ) -> tuple[str, Callable[[], list[str]]]:
        width, words, offset = self.region.width, len(access.nodes), access.offsets[0]
        near = near_lanes(self, address, mask, access.offsets[-1], width, step=words)

        def short() -> list[str]:
            if access.stores:
                store_side_by_side(self, near, offset, width, values)
                return []
            return load_side_by_side(self, near, offset, width, words)

        return near.holds, short

    def _long_way(
        self, access: Access, names: dict[int, str], address: str, mask: str
    ) -> list[str]:
        results, kind = [], f"<{self.wave_size} x i32>"
        for node, offset in zip(access.nodes, access.offsets, strict=True):
            place = address
            if offset:
                place = self.fresh(f"add {kind} {address}, splat (i32 {offset})")
            if access.stores:
                self.store(node, place, names[node.args[1].index], mask)
            else:
                results.append(self.load(node, place, mask))
        return results

    # --- one node

    def check(self, node: Node, address: str, mask: str) -> str:
        """Write a check; return addresses on the host."""
        if node.lanes:
            return self._check_all(node, self.words_known(address) or address, mask)
        access, size, need = _wanted(node)
        return self._check_one(address, mask, self._site(), size, need, access)

    def _check_all(self, node: Node, address: str | Words, mask: str) -> str:
        access, size, need = _wanted(node)
        site = self._site()
        wide, kind = f"<{self.wave_size} x i64>", f"<{self.wave_size} x i32>"
        self.settle()
        if isinstance(address, str):
            name, given = "hosts", [(wide, address)]
        else:
            name, given = "hosts.words", [(kind, word) for word in address]
        wrong = self.external(
            "i64", name, ("ptr", "%context"), ("ptr", site), ("ptr", "%addresses"), *given,
            ("i64", self.bits(mask)), ("i64", str(size)), ("i64", str(need)),
        )  # fmt: skip
        good, on = self.fresh(f"icmp eq i64 {wrong}, 0"), self.place("on")
        self.line(f"br i1 {good}, label %{on}, label %{self._fault(access, size)}, !prof !1")
        self.begin(on)
        return self.fresh(f"load {wide}, ptr %addresses, align 64")

    def _check_one(
        self, address: str, mask: str, site: str, size: int, need: int, access: str
    ) -> str:
        # One access for the wave, which takes place only if the mask, one bit, says so.
        self.settle()
        slots = [self._site_slot(site, k) for k in range(3)]
        offset = self.fresh(f"sub i64 {address}, {slots[0]}")
        inside = self.fresh(f"icmp ult i64 {offset}, {slots[1]}")
        host = self.fresh(f"add i64 {address}, {slots[2]}")
        before, test, slow, on = (self.place(n) for n in ("in", "test", "slow", "on"))
        self.line(f"br label %{before}")
        self.begin(before)
        self.line(f"br i1 {mask}, label %{test}, label %{on}")
        self.begin(test)
        self.line(f"br i1 {inside}, label %{on}, label %{slow}, !prof !1")
        self.begin(slow)
        self.region.declare("i64", "find", "ptr", "ptr", "i64", "i64", "i64")
        looked = self.fresh(
            f"call i64 @find(ptr %context, ptr {site}, i64 {address}, i64 {size}, i64 {need})"
        )
        good = self.fresh(f"icmp ne i64 {looked}, 0")
        fault = self._fault(access, size, address)
        self.line(f"br i1 {good}, label %{on}, label %{fault}")
        self.begin(on)
        return self.fresh(f"phi i64 [0, %{before}], [{host}, %{test}], [{looked}, %{slow}]")

    def _load_one(self, kind: str, place: str, mask: str) -> str:
        before, go, on = (self.place(n) for n in ("in", "go", "on"))
        self.line(f"br label %{before}")
        self.begin(before)
        self.line(f"br i1 {mask}, label %{go}, label %{on}")
        self.begin(go)
        host = self.fresh(f"inttoptr i64 {place} to ptr")
        value = self.fresh(f"load {kind}, ptr {host}, align 1")
        self.line(f"br label %{on}")
        self.begin(on)
        return self.fresh(f"phi {kind} [0, %{before}], [{value}, %{go}]")

    def aligned(self, node: Node, address: str, mask: str) -> str:
        """Write a check of the alignment of an atomic on LDS."""
        assert isinstance(node.attribute, int)
        lanes, size = self.wave_size, node.attribute
        kind, bit = f"<{lanes} x i32>", f"<{lanes} x i1>"
        low = self.inst(f"and {kind} {address}, splat (i32 {size - 1})")
        odd = self.inst(f"icmp ne {kind} {low}, zeroinitializer")
        return self._refuse("misaligned", size, address, self.inst(f"and {bit} {odd}, {mask}"))

    def within(self, node: Node, address: str, mask: str) -> str:
        """Write a check that an access does not go beyond the LDS."""
        assert isinstance(node.attribute, int)
        _, inside = self._lds_hosts(node.attribute, address, mask)
        beyond = self.inst(f"xor <{self.wave_size} x i1> {inside}, {mask}")
        return self._refuse("lds", node.attribute, address, beyond)

    def _refuse(self, access: str, size: int, address: str, lanes: str) -> str:
        # Leave the region if there are such lanes; their addresses are of the LDS.
        bad = self.bits(lanes)
        some = self.fresh(f"icmp ne i64 {bad}, 0")
        self.settle()
        wrong, on = self.place("refused"), self.place("on")
        self.line(f"br i1 {some}, label %{wrong}, label %{on}, !prof !0")
        self.begin(wrong)
        self.region.declare("i64", "llvm.cttz.i64", "i64", "i1")
        first = self.fresh(f"call i64 @llvm.cttz.i64(i64 {bad}, i1 true)")
        at = self.fresh(f"extractelement <{self.wave_size} x i32> {address}, i64 {first}")
        where = self.fresh(f"zext i32 {at} to i64")
        self.line(f"br label %{self._fault(access, size, where, bad)}")
        self.begin(on)
        return ""

    def _site(self) -> str:
        offset = 8 * rt.SITE_SLOTS * self.region.sites
        self.region.sites += 1
        return self.fresh(f"getelementptr inbounds i8, ptr %sites, i64 {offset}")

    def _site_slot(self, site: str, slot: int) -> str:
        at = self.fresh(f"getelementptr inbounds i64, ptr {site}, i64 {slot}")
        return self.fresh(f"load i64, ptr {at}")

    def _fault(
        self, access: str = "", size: int = 0, address: str = "", faulting: str = "1"
    ) -> str:
        # A block of its own that leaves the region at this instruction, and what it tells besides.
        label = self.place("fault")
        lines = [f"{label}:"]
        slots = {rt.FAULT_ACCESS: rt.ACCESSES.index(access) | size << 8} if access else {}
        if address:
            at = self.region.name()
            lines.append(f"  {at} = getelementptr i64, ptr %context, i64 {rt.FAULT_LANES}")
            lines.append(f"  store i64 {faulting}, ptr {at}")
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
        lines.append(f"  {pc} = add i64 %base, {self.at}")
        lines += self.region.leaving(rt.FAULT, pc, count)
        self.region.cold += lines
        return label

    def load(self, node: Node, place: str, mask: str) -> str:
        """Write a load; what lies outside the LDS reads as zero."""
        kind = node.type.llvm
        if not node.lanes:
            if node.attribute == "lds" or node.type.kind == "f":
                raise CannotLift("a uniform load of this kind")
            if mask != "true":
                return self._load_one(kind, place, mask)
            host = self.fresh(f"inttoptr i64 {place} to ptr")
            return self.fresh(f"load {kind}, ptr {host}, align 1")
        many, bits = self.type(node), self.bits(mask)
        if node.attribute == "lds":
            args = [("ptr", "%lds"), ("i64", "%lds.size"), (self.type(node.args[0]), place)]
            return self.external(many, f"lds.load{node.type.bits}", *args, ("i64", bits))
        args = [(self.type(node.args[0]), place), ("i64", bits)]
        return self.external(many, f"load{node.type.bits}", *args)

    def store(self, node: Node, place: str, value: str, mask: str) -> str:
        """Write a store."""
        address, data = node.args[0], node.args[1]
        if not address.lanes:
            raise CannotLift("a uniform store")
        args = [(self.type(address), place), (self.type(data), value), ("i64", self.bits(mask))]
        if node.attribute == "lds":
            head = [("ptr", "%lds"), ("i64", "%lds.size")]
            self.external("void", f"lds.store{data.type.bits}", *head, *args)
        else:
            self.external("void", f"store{data.type.bits}", ("ptr", "%changes"), *args)
        return ""

    def atomic(self, node: Node, place: str, *args: str) -> str:
        """Write an atomic; return what was there before."""
        assert isinstance(node.attribute, tuple)
        space, operation = node.attribute
        *data, mask = args
        many = self.type(node)
        changes, host = "%changes", place
        if space == "lds":
            changes, host, mask = "%ignored", *self._lds_hosts(node.type.bits // 8, place, mask)
        third = data[1] if len(data) > 1 else "zeroinitializer"
        name = f"atomic.{operation}.{node.type.llvm}"
        if name not in jit_atomics.HELPERS:
            raise CannotLift(f"atomic {operation} of {node.type}")
        addresses = (f"<{self.wave_size} x i64>", host)
        name = f"lds.{name}" if space == "lds" else name
        return self.external(
            many, name, ("ptr", changes), addresses, (many, data[0]), (many, third),
            ("i64", self.bits(mask)),
        )  # fmt: skip

    def _lds_hosts(self, size: int, place: str, mask: str) -> tuple[str, str]:
        # Where accesses of so many bytes go, and the lanes whose own is inside the LDS.
        lanes = self.wave_size
        wide = self.inst(f"zext <{lanes} x i32> {place} to <{lanes} x i64>")
        end = self.inst(f"add <{lanes} x i64> {wide}, splat (i64 {size})")
        limit = self.spread(f"<{lanes} x i64>", "i64", "%lds.size")
        inside = self.inst(f"icmp ule <{lanes} x i64> {end}, {limit}")
        start = self.spread(f"<{lanes} x i64>", "i64", self.inst("ptrtoint ptr %lds to i64"))
        host = self.inst(f"add <{lanes} x i64> {start}, {wide}")
        return host, self.inst(f"and <{lanes} x i1> {inside}, {mask}")


def _wanted(node: Node) -> tuple[str, int, int]:
    # The access of a check, its bytes, and what `find` needs to know of it.
    assert isinstance(node.attribute, tuple)
    access, size = str(node.attribute[0]), int(node.attribute[1])
    aligned = size - 1 if access == "atomic" else 0
    return access, size, (access != "read") | aligned << 1

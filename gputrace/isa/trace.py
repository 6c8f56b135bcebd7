"""Trace one instruction into a graph: operands, modifiers, masks and writes, each rule once.

A meaning (see `gputrace.isa.semantics`) reads its sources, computes, and returns results. The
trace appends all writes at the end, so that an instruction reads all, computes, then writes.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from gputrace.errors import GputraceError
from gputrace.isa import state
from gputrace.isa.behaviour import Behaviour
from gputrace.isa.dpp import Crossing, crossing
from gputrace.isa.graph import (
    F16,
    F32,
    F64,
    I1,
    U8,
    U16,
    U32,
    U64,
    Attribute,
    Graph,
    Node,
    Type,
    where,
)
from gputrace.isa.instruction import Instruction, Operand, OperandKind
from gputrace.isa.matrix import Multiplication
from gputrace.isa.numpy_floats import LIMITED
from gputrace.isa.primitives import PRIMS, ROUNDED

_UNSIGNED = {8: U8, 16: U16, 32: U32, 64: U64}
_FLOATS = {16: F16, 32: F32, 64: F64}
_FLOAT_CODES = {16: "<e", 32: "<f", 64: "<d"}

_RELATIVE_SRC, _RELATIVE_DST = 12, 15  # bits of M0

_SPECIAL = {
    "vcc": state.VCC,
    "vcc_lo": state.VCC,
    "vcc_hi": state.VCC + 1,
    "exec": state.EXEC,
    "exec_lo": state.EXEC,
    "exec_hi": state.EXEC + 1,
    "m0": state.M0,
    "src_scc": state.SCC,
    "flat_scratch": state.FLAT_SCRATCH,
    "flat_scratch_lo": state.FLAT_SCRATCH,
    "flat_scratch_hi": state.FLAT_SCRATCH + 1,
    "xnack_mask": state.XNACK_MASK,
    "xnack_mask_lo": state.XNACK_MASK,
    "xnack_mask_hi": state.XNACK_MASK + 1,
}


GPR_INDEX, SKIPS, HALTED, HALF_LIMIT = (1 << bit for bit in (10, 11, 12, 13))
"""Bits of a change beside those of MODE 9:0: GPR_IDX_EN, VSKIP, the wave has halted, FP16_OVFL."""


class NotModelled(GputraceError):
    """An instruction, or a form of it, that has no meaning here; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Mode:
    """What an instruction's meaning depends on beside its own bits.

    `float_mode` is bits 9:0 of the MODE register: rounding of f32 (1:0) and of f16 and f64 (3:2),
    denormals of f32 (5:4) and of f16 and f64 (7:6), DX10_CLAMP (8), IEEE (9). Generations without
    the last two (`Behaviour.ieee_bit`) do not look at them.
    """

    wave_size: int
    float_mode: int
    zero_high: bool
    """16-bit results clear the upper half of their register."""
    lds_aperture: int
    scratch_aperture: int
    behaviour: Behaviour = field(default_factory=Behaviour)
    half_limit: bool = False
    """MODE's FP16_OVFL: halves that are too large become the largest, not infinite."""
    lds_checked: bool = False
    """An access beyond the LDS stops the wave: see `KernelLaunch`."""
    change: int = 0
    """How MODE differs from that of the launch; `float_mode` has it already."""

    def at(self, pc: int) -> "Mode":
        """Return the mode of a wave with this program counter, if this is that of the launch."""
        change = pc >> state.CHANGE_AT
        if not change:
            return self
        mode, limit = self.float_mode ^ (change & 0x3FF), self.half_limit
        limit ^= bool(change & HALF_LIMIT)
        return replace(self, float_mode=mode, half_limit=limit, change=change)

    @property
    def gpr_index(self) -> bool:
        """Whether vector operations add an index of M0 to the numbers of registers (gfx9)."""
        return bool(self.change & GPR_INDEX)

    @property
    def skips(self) -> bool:
        """Whether vector instructions are skipped (gfx9)."""
        return bool(self.change & SKIPS)

    @property
    def bounds_select(self) -> bool:
        """Whether buffer descriptors say which accesses are out of range."""
        return self.behaviour.bounds_select


_ACCESSES = ("load", "store", "atomic")


def _space(attribute: Attribute) -> object:
    return attribute[0] if isinstance(attribute, tuple) else attribute


def float_bits(type: Type, value: float) -> int:
    """Return the bits of a number in a float type."""
    return int.from_bytes(struct.pack(_FLOAT_CODES[type.bits], value), "little")


class Trace:
    """The graph of one instruction while it is being made."""

    def __init__(self, instruction: Instruction, mode: Mode) -> None:
        if instruction.dpp is not None and instruction.src:
            # Equal operands may be one object: give the one that crosses lanes its own.
            first = replace(instruction.src[0])
            instruction = replace(instruction, src=(first, *instruction.src[1:]))
        self.instruction = instruction
        self.mode = mode
        self.nodes: list[Node] = []
        self._crossing = self._dpp_crossing()
        self._relative = mode.gpr_index and instruction.encoding.startswith("VOP")
        self._writes: list[tuple[str, tuple[Node, ...], Attribute]] = []
        self._next: tuple[str, tuple[Node, ...], Attribute] | None = None
        self._exact = False

    # --- making nodes

    def apply(
        self,
        prim: str,
        *args: Node | int | float,
        type: Type | None = None,
        attribute: Attribute = None,
    ) -> Node:
        """Append a primitive; numbers become constants of the type of the node beside them."""
        like = next((a for a in reversed(args) if isinstance(a, Node)), None)
        if prim == "select":
            like = next((a for a in args[1:] if isinstance(a, Node)), like)
        nodes = [
            a if isinstance(a, Node) else self.const(like.type if like else U32, a) for a in args
        ]
        if attribute is None and prim in ROUNDED and not self._exact:
            result = type or nodes[0].type
            widens = nodes[0].type.kind == "f" and result.bits > nodes[0].type.bits
            attribute = None if widens else self.rounding(result)
        row = PRIMS[prim]
        lanes = row.shape == "lanes" or (row.shape == "args" and any(n.lanes for n in nodes))
        if row.shape == "args" and lanes:
            nodes = [n if n.lanes else self._append("splat", n.type, True, (n,)) for n in nodes]
        result = row.rule(tuple(nodes), type)
        if self.mode.lds_checked and prim in _ACCESSES and _space(attribute) == "lds":
            size = (nodes[1].type if prim == "store" else result).bits // 8
            self._append("within", I1, True, (nodes[0], nodes[-1]), size)
        return self._append(prim, result, lanes, tuple(nodes), attribute)

    def rounding(self, type: Type) -> int | None:
        """Return how results of a type are rounded (`numpy_floats.directed`), None: to nearest."""
        if type.kind != "f":
            return None
        mode = self.mode.float_mode
        found = mode & 3 if type == F32 else mode >> 2 & 3
        if type == F16 and self.mode.half_limit:
            found |= LIMITED
        return found or None

    @contextmanager
    def to_nearest(self) -> Iterator[None]:
        """Round to the nearest in here, whatever MODE says."""
        before, self._exact = self._exact, True
        try:
            yield
        finally:
            self._exact = before

    @property
    def ieee(self) -> bool:
        """Whether MODE asks for IEEE's rules of signaling NaNs and no output multipliers."""
        return self.mode.behaviour.ieee_bit and bool(self.mode.float_mode >> 9 & 1)

    def _append(
        self,
        prim: str,
        type: Type,
        lanes: bool,
        args: tuple[Node, ...],
        attribute: Attribute = None,
    ) -> Node:
        node = Node(self, len(self.nodes), prim, type, lanes, args, attribute)
        self.nodes.append(node)
        return node

    def const(self, type: Type, value: int | float) -> Node:
        """Return a uniform constant; a float type takes the number, not its bits."""
        bits = float_bits(type, value) if type.kind == "f" else int(value)
        return self._append("const", type, False, (), bits & ((1 << type.bits) - 1))

    def splat(self, value: Node) -> Node:
        """Give each lane the same value."""
        return value if value.lanes else self._append("splat", value.type, True, (value,))

    # --- registers

    def scalar(self, index: int, count: int = 1) -> Node:
        """Read one or two scalar words (by their place in the state) as U32 or U64."""
        low = self.apply("get_scalar", attribute=index)
        if count == 1:
            return low
        high = self.apply("get_scalar", attribute=index + 1)
        return low.zext(U64) | (high.zext(U64) << 32)

    def vector(self, index: int, count: int = 1) -> Node:
        """Read one or two vector registers as U32 or U64."""
        low = self.apply("get_vector", attribute=index)
        if count == 1:
            return low
        high = self.apply("get_vector", attribute=index + 1)
        return low.zext(U64) | (high.zext(U64) << 32)

    def put_scalar(self, index: int, value: Node) -> None:
        """Write one word, or two for a 64-bit value, after everything has been read."""
        if index == state.NULL:
            return
        for k, word in enumerate(self.words(value)):
            self._writes.append(("put_scalar", (word,), index + k))

    def put_vector(self, index: int, value: Node, mask: Node | None = None) -> None:
        """Write the active lanes of one register, or two for a 64-bit value."""
        active = mask if mask is not None else self.written()
        for k, word in enumerate(self.words(value)):
            if self._relative:
                number = self._moved(index + k, _RELATIVE_DST)
                args = self.splat(word), number, active
                self._writes.append(("put_vector_at", args, None))
            else:
                self._writes.append(("put_vector", (self.splat(word), active), index + k))

    def put_vector_at(self, number: Node, value: Node) -> None:
        """Write the active lanes of the register of a computed number, if there is one."""
        args = self.splat(value), number, self.written()
        self._writes.append(("put_vector_at", args, None))

    def _moved(self, index: int, bit: int) -> Node:
        # The number of a register in GPR index mode, if the bit of M0 says that it is relative.
        m0 = self.scalar(state.M0)
        return where(((m0 >> bit) & 1).ne(0), m0 & 0xFF, 0) + index

    def _vector_of(self, operand: Operand, word: int, size: int) -> Node:
        if not self._relative:
            return self.vector(operand.index + word, size)
        places = [k for k, one in enumerate(self.instruction.src) if one is operand]
        bit = _RELATIVE_SRC + places[0] if places else _RELATIVE_DST
        low, *high = (
            self.apply("get_vector_at", self._moved(operand.index + word + k, bit))
            for k in range(size)
        )
        return low.zext(U64) | (high[0].zext(U64) << 32) if high else low

    def multiply(self, work: Multiplication) -> None:
        """Carry out a matrix product, after everything has been read."""
        self._writes.append(("matrix", (), work))

    def words(self, value: Node) -> list[Node]:
        """Split a value into dwords; one of fewer bits is widened with zeros."""
        raw = value.bits_as(_UNSIGNED[value.type.bits]) if value.type != I1 else value
        if raw.type.bits == 64:
            return [raw.zext(U32), (raw >> 32).zext(U32)]
        return [raw.zext(U32)]

    def exec_mask(self) -> Node:
        """Return EXEC as U64."""
        if self.mode.wave_size == 64:
            return self.scalar(state.EXEC, 2)
        return self.scalar(state.EXEC).zext(U64)

    def active(self) -> Node:
        """Return for each lane whether EXEC has it."""
        return self.apply("lane_mask", self.exec_mask())

    @property
    def scc(self) -> Node:
        """Return SCC as one bit."""
        return self.scalar(state.SCC).ne(0)

    def put_scc(self, value: Node) -> None:
        """Write one bit to SCC."""
        self.put_scalar(state.SCC, value)

    # --- operands

    def place(self, operand: Operand) -> int:
        """Return the place in the state of a scalar operand."""
        match operand.kind:
            case OperandKind.SGPR:
                return operand.index
            case OperandKind.TTMP:
                return state.TTMP + operand.index
            case OperandKind.SPECIAL:
                if operand.name == "null":
                    return state.NULL
                if operand.name in _SPECIAL:
                    return _SPECIAL[operand.name]
        raise NotModelled(f"operand {operand.name or operand.kind.name}")

    def raw(self, operand: Operand, word: int = 0, count: int | None = None) -> Node:
        """Read an operand's dwords without its modifiers: one as U32, two as U64."""
        size = operand.count if count is None else count
        if operand.is_constant or operand.kind is OperandKind.LABEL:
            wide = operand.bits > 32 if count is None else count > 1
            return self.const(U64 if wide else U32, operand.value >> (32 * word))
        if operand.kind is OperandKind.VGPR:
            return self._vector_of(operand, word, size)
        if operand.kind is OperandKind.ACC:
            return self.vector(state.FIRST_ACCUMULATOR + operand.index + word, size)
        if operand.kind is OperandKind.SPECIAL:
            special = self._special(operand)
            if special is not None:
                whole = special.zext(U64)
                return whole if size > 1 else (whole >> 32 * word).zext(U32)
        return self.scalar(self.place(operand) + word, size)

    def _special(self, operand: Operand) -> Node | None:
        match operand.name:
            case "null":
                return self.const(U64 if operand.bits > 32 else U32, 0)
            case "src_vccz":
                return self._vccz().zext(U32)
            case "src_execz":
                return self.exec_mask().eq(0).zext(U32)
            case "src_shared_base":
                return self._aperture(operand, self.mode.lds_aperture)
            case "src_private_base":
                return self._aperture(operand, self.mode.scratch_aperture)
            case "src_shared_limit":
                return self._aperture(operand, self.mode.lds_aperture + 0xFFFF_FFFF)
            case "src_private_limit":
                return self._aperture(operand, self.mode.scratch_aperture + 0xFFFF_FFFF)
        return None

    def _aperture(self, operand: Operand, address: int) -> Node:
        # Read as one dword these give the upper half (LLVM: addrspacecast lowering).
        if operand.bits > 32:
            return self.const(U64, address)
        return self.const(U32, address >> 32)

    def _vccz(self) -> Node:
        count = 2 if self.mode.wave_size == 64 else 1
        return self.scalar(state.VCC, count).eq(0)

    def read(self, operand: Operand, flush: bool = True) -> Node:
        """Read a source of up to 64 bits with its modifiers, in the type that it has.

        With `flush` denormals are treated as MODE says.
        """
        kind, width = operand.type[0], operand.bits
        if operand.type == "mask":
            return self.read_mask(operand)
        if operand.type.startswith("v2"):
            return self.crossed(operand)
        raw = self._selected(operand, self.crossed(operand))
        if kind == "f" and width in _FLOATS:
            return self._float_modifiers(operand, raw.zext(_UNSIGNED[width]), flush)
        if width in _UNSIGNED:
            return raw.zext(_UNSIGNED[width])
        return raw

    def _dpp_crossing(self) -> Crossing | None:
        if self.instruction.dpp is None:
            return None
        found = crossing(self.instruction.dpp, self.mode.wave_size)
        if found is None:
            raise NotModelled(f"DPP control {self.instruction.dpp.control:#x}")
        return found

    def crossed(self, operand: Operand) -> Node:
        """Read an operand's dwords; what DPP moves comes from the lanes that it says."""
        if self._crossing is None or operand is not self.instruction.src[0]:
            return self.raw(operand)
        words = [self._cross(self.raw(operand, k, 1)) for k in range(operand.count)]
        if len(words) == 1:
            return words[0]
        return words[0].zext(U64) | (words[1].zext(U64) << 32)

    def _cross(self, value: Node) -> Node:
        assert self._crossing is not None
        moved = self.apply("permute", self.splat(value), self._source_lanes())
        return where(self._valid(), moved, 0)

    def _source_lanes(self) -> Node:
        assert self._crossing is not None
        return self.apply("lane_values", type=U32, attribute=self._crossing.source)

    def _valid(self) -> Node:
        # Lanes that read an existing lane which is active, or need not be.
        assert self._crossing is not None
        assert self.instruction.dpp is not None
        inside = self.apply("lane_values", type=I1, attribute=self._crossing.inside)
        if self.instruction.dpp.fetch_inactive:
            return inside
        active = self.apply("permute", self.active().zext(U32), self._source_lanes())
        return inside & active.ne(0)

    def written(self) -> Node:
        """Return for each lane whether a vector result is written to it: EXEC, and DPP's masks."""
        active = self.active()
        if self._crossing is None:
            return active
        dpp = self.instruction.dpp
        assert dpp is not None
        active = active & self.apply("lane_values", type=I1, attribute=self._crossing.enabled)
        return active if dpp.bound_ctrl or dpp.lanes else active & self._valid()

    def vcc_lanes(self) -> Node:
        """Return VCC as one bit for each lane."""
        count = 2 if self.mode.wave_size == 64 else 1
        return self.apply("lane_mask", self.scalar(state.VCC, count).zext(U64))

    def element(self, operand: Operand) -> Type:
        """Return the type of one part of a packed operand."""
        name = operand.type.removeprefix("v2")
        width = int(name.lstrip("biuf"))
        return _FLOATS[width] if name[0] == "f" else _UNSIGNED[width]

    def _selected(self, operand: Operand, raw: Node) -> Node:
        if operand.select:
            part, number = operand.select.split("_")
            bits = 8 if part == "byte" else 16
            raw = (raw >> (int(number) * bits)).zext(_UNSIGNED[bits])
            return raw.sext(U32) if operand.sext else raw.zext(U32)
        if operand.op_sel and operand.bits == 16 and not operand.is_constant:
            return raw >> 16
        return raw

    def _float_modifiers(self, operand: Operand, raw: Node, flush: bool) -> Node:
        sign = 1 << (raw.type.bits - 1)
        if operand.abs:
            raw = raw & (sign - 1)
        if operand.neg:
            raw = raw ^ sign
        value = raw.bits_as(_FLOATS[raw.type.bits])
        return self.flush(value, source=True) if flush else value

    def flush(self, value: Node, source: bool = False) -> Node:
        """Apply the denormal mode to a float: on the way in or on the way out."""
        at = 4 if value.type == F32 else 6
        keep = (self.mode.float_mode >> at) & (1 if source else 2)
        if keep or value.prim == "const":
            return value
        bits = value.type.bits
        fraction = {16: 10, 32: 23, 64: 52}[bits]
        sign = 1 << (bits - 1)
        raw = value.bits_as(_UNSIGNED[bits])
        tiny = (raw & (sign - (1 << fraction))).eq(0)
        return where(tiny, raw & sign, raw).bits_as(value.type)

    def read_mask(self, operand: Operand) -> Node:
        """Read a lane mask as one bit for each lane."""
        count = 2 if self.mode.wave_size == 64 else 1
        return self.apply("lane_mask", self.raw(operand, 0, count).zext(U64))

    def write(self, operand: Operand, value: Node) -> None:
        """Write a result to where its operand says, in the active lanes."""
        value = self.result(value)
        if value.type == I1 and value.lanes:
            self.write_mask(operand, value)
            return
        if operand.kind not in (OperandKind.VGPR, OperandKind.ACC):
            self.put_scalar(self.place(operand), value)
            return
        first = state.FIRST_ACCUMULATOR if operand.kind is OperandKind.ACC else 0
        self.put_vector(first + operand.index, self._partial(operand, first, value))

    def _partial(self, operand: Operand, first: int, value: Node) -> Node:
        # SDWA selections and 16-bit results replace a part of the register.
        if self._relative and (operand.op_sel or self.instruction.dst_unused):
            raise NotModelled("parts of registers in GPR index mode")
        if self.instruction.dst_unused and operand.select:
            return self._placed(operand, first, value)
        if value.type.bits != 16:
            return value
        low = value.bits_as(U16).zext(U32)
        if operand.op_sel:
            old = self.vector(first + operand.index)
            return (old & 0xFFFF) | (low << 16)
        if self.mode.zero_high:
            return low
        return (self.vector(first + operand.index) & 0xFFFF0000) | low

    def _placed(self, operand: Operand, first: int, value: Node) -> Node:
        # SDWA: a byte or word of the destination; the rest is zero, sign or what it was.
        part, number = operand.select.split("_")
        bits = 8 if part == "byte" else 16
        at, ones = bits * int(number), (1 << bits) - 1
        word = self.words(value)[0] & ones
        match self.instruction.dst_unused:
            case "unused_pad":
                return word << at
            case "unused_sext":
                return word.zext(_UNSIGNED[bits]).sext(U32) << at
            case "unused_preserve":
                kept = self.vector(first + operand.index) & (0xFFFFFFFF ^ (ones << at))
                return kept | (word << at)
        raise NotModelled(f"SDWA destination with {self.instruction.dst_unused}")

    def write_mask(self, operand: Operand, value: Node) -> None:
        """Write one bit for each active lane, 0 for the others."""
        if self._crossing is not None:
            value = value & self.written()
        mask = self.apply("ballot", value) & self.exec_mask()
        self.put_scalar(self.place(operand), self.mask_words(mask))

    def mask_words(self, mask: Node) -> Node:
        """Return a U64 lane mask as the registers hold it: U64 or, of 32 lanes, U32."""
        return mask if self.mode.wave_size == 64 else mask.zext(U32)

    def result(self, value: Node) -> Node:
        """Apply denormal mode, output multiplier and clamp to a float; integers stay."""
        if value.type.kind != "f":
            return value
        value = self.flush(value)
        if self.instruction.omod and self._multiplies(value.type):
            value = self.flush(value * {1: 2.0, 2: 4.0, 3: 0.5}[self.instruction.omod])
            value = where(value.eq(0.0), 0.0, value)
        if self.instruction.clamp:
            zero, one = self.const(value.type, 0.0), self.const(value.type, 1.0)
            held = where(self.apply("flt", zero, value), value, zero)
            held = where(self.apply("flt", held, one), held, one)
            keeps = self.mode.behaviour.ieee_bit and not self.mode.float_mode >> 8 & 1
            value = where(self.apply("isnan", value), value, held) if keeps else held
        return value

    def _multiplies(self, type: Type) -> bool:
        # Output multipliers do nothing where results may be denormal, and in IEEE mode (RDNA3
        # manual, "Output modifiers"); they give no negative zero.
        denormals = self.mode.float_mode >> (4 if type == F32 else 6) & 2
        return not denormals and not self.ieee

    # --- control

    def go(self, prim: str, *args: Node, attribute: Attribute = None) -> None:
        """Say where the wave goes after all writes."""
        self._next = (prim, args, attribute)

    def finish(self) -> Graph:
        """Append the writes and what follows, and return the graph."""
        for prim, args, attribute in self._writes:
            self.apply(prim, *args, attribute=attribute)
        end = self.instruction.address + self.instruction.size
        prim, args, attribute = self._next or ("jump", (), end)
        self.apply(prim, *args, attribute=attribute)
        graph = Graph(tuple(self.nodes))
        # Nodes know their trace: it lets go of them, and they end without the garbage collector.
        self.nodes, self._writes, self._next = [], [], None
        return graph


def sources(trace: Trace, operands: Sequence[Operand]) -> list[Node]:
    """Read all sources of an instruction in order."""
    return [trace.read(operand) for operand in operands]

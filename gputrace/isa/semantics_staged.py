"""Loads that go elsewhere than their lane's registers: into LDS, to blocks, transposed, by lane.

A load into LDS writes one dword (on gfx950 also three or four) for each active lane: at the address
in M0 plus the offset of the instruction (which counts for memory as well), lane behind lane. A
transposing load of gfx12 turns blocks of eight lanes with eight elements each; EXEC only says
whether it takes place. One of gfx950 reads for each 16 lanes a block of 16 columns from LDS, rows
one behind the other, as many as a lane has elements; each lane gets a column.

Sources: AMD's ISA manuals (Vega, MI300, RDNA3: "LDS" forms of MUBUF and FLAT; RDNA4: block loads),
LLVM's IntrinsicsAMDGPU.td (load.lds), Triton's pull request 7616 (transposing loads), Modular's
ds_read_tr16_b64_row and HipKittens (load_col_from_st_half: which lane reads what of a block).
"""

from collections.abc import Callable

from gputrace.isa import state
from gputrace.isa.graph import U8, U16, U32, U64, Node, where
from gputrace.isa.instruction import Memory
from gputrace.isa.semantics import Registry
from gputrace.isa.semantics_buffer import buffer_part
from gputrace.isa.semantics_memory import (
    DWORDS,
    LOADS,
    Access,
    load_part,
    memory_of,
    parts_of,
    put_in_lds,
    staging_place,
    vector_index,
)
from gputrace.isa.semantics_packed import side_by_side
from gputrace.isa.semantics_places import Part
from gputrace.isa.trace import NotModelled, Trace

STAGED = Registry()


def _load_lds(access: Access) -> Callable[[Trace], None]:
    def meaning(trace: Trace) -> None:
        memory = memory_of(trace)
        if trace.instruction.name.startswith("buffer"):
            part = buffer_part(trace, memory, "read", access.size)
        else:
            [part] = parts_of(trace, memory, "read", access.size)
        put_in_lds(trace, memory, load_part(part, access))

    return meaning


for _name, _access in (
    ("dword", LOADS["dword"]), ("ubyte", LOADS["ubyte"]), ("sbyte", LOADS["sbyte"]),
    ("ushort", LOADS["ushort"]), ("sshort", LOADS["sshort"]), ("b32", LOADS["b32"]),
    ("u8", LOADS["u8"]), ("i8", LOADS["i8"]), ("u16", LOADS["u16"]), ("i16", LOADS["i16"]),
    ("dwordx3", LOADS["dwordx3"]), ("dwordx4", LOADS["dwordx4"]),
):  # fmt: skip
    _names = (f"{_stem}_load_lds_{_name}" for _stem in ("global", "scratch", "buffer"))
    STAGED.add(" ".join(_names), _load_lds(_access))


@STAGED.meaning("buffer_store_lds_dword")
def _store_lds(trace: Trace) -> None:
    memory = memory_of(trace)
    place = staging_place(trace, memory)
    part = buffer_part(trace, memory, "write", 4)
    value = trace.apply("load", place, trace.active(), type=U32, attribute="lds")
    part.store([value])


# --- lanes side by side


def _by_lane(trace: Trace, access: str) -> Part:
    memory = memory_of(trace)
    if memory.base is None:
        raise NotModelled("no scalar base")
    base = trace.raw(memory.base, 0, 2) + memory.offset
    lane = trace.apply("lane_id").zext(U64) << 2
    mask = trace.active()
    found = trace.apply("check", trace.splat(base) + lane, mask, attribute=(access, 4))
    return Part("global", mask, lambda extra: found)


@STAGED.meaning("global_load_addtid_b32 global_load_dword_addtid")
def _load_by_lane(trace: Trace) -> None:
    value = _by_lane(trace, "read").load(0, U32)
    trace.put_vector(vector_index(trace.instruction.dst[0]), value)


@STAGED.meaning("global_store_addtid_b32 global_store_dword_addtid")
def _store_by_lane(trace: Trace) -> None:
    value = trace.splat(trace.raw(memory_of(trace).data[0], 0, 1))
    _by_lane(trace, "write").store([value])


# --- blocks of 32 registers, of which M0 says which take part (gfx12)

_BLOCK = 32


def _block_parts(trace: Trace, memory: Memory, access: str) -> list[tuple[int, Part]]:
    chosen = trace.scalar(state.M0)
    parts = []
    for k in range(_BLOCK):
        wanted = trace.active() & trace.splat(((chosen >> k) & 1).ne(0))
        parts += [(k, part) for part in parts_of(trace, memory, access, 4, wanted, 4 * k)]
    return parts


@STAGED.meaning("global_load_block scratch_load_block")
def _load_block(trace: Trace) -> None:
    index = vector_index(trace.instruction.dst[0])
    for k, part in _block_parts(trace, memory_of(trace), "read"):
        trace.put_vector(index + k, part.load(0, U32), part.mask)


@STAGED.meaning("global_store_block scratch_store_block")
def _store_block(trace: Trace) -> None:
    memory = memory_of(trace)
    values = [trace.splat(trace.raw(memory.data[0], k, 1)) for k in range(_BLOCK)]
    for k, part in _block_parts(trace, memory, "write"):
        part.store([values[k]])


# --- transposing loads (gfx12, waves of 32 lanes)

_TURNED = 8  # lanes of a block, and elements of a lane


def _element(words: list[Node], number: Node, bits: int) -> Node:
    # The element of that number among a lane's words.
    wide = [word.zext(U64) for word in words]
    pairs = [low | (high << 32) for low, high in zip(wide[::2], wide[1::2], strict=True)]
    per_pair = 64 // bits
    value = pairs[0]
    for k, pair in enumerate(pairs[1:], 1):
        value = where(value.trace.apply("ult", number, k * per_pair), value, pair)
    return value >> ((number & (per_pair - 1)) * bits).zext(U64)


def _transposing(name: str, bits: int) -> Callable[[Trace], None]:
    kind = U8 if bits == 8 else U16

    def meaning(trace: Trace) -> None:
        if trace.mode.wave_size != 32:
            raise NotModelled("transposing loads of waves of 64 lanes")
        everyone = trace.splat(trace.exec_mask().ne(0))
        access = Access(U32, DWORDS[name])
        [part] = parts_of(trace, memory_of(trace), "read", access.size, everyone)
        loaded = load_part(part, access)
        lane = trace.apply("lane_id")
        row = lane & (_TURNED - 1)
        # Lane r of a block gives its element k to element r of lane k.
        index = vector_index(trace.instruction.dst[0])
        per_word = 32 // bits
        results: list[Node] = [trace.splat(trace.const(U32, 0))] * access.count
        for k in range(_TURNED):
            source = (lane & ~(_TURNED - 1) & 0xFFFFFFFF) | k
            moved = [trace.apply("permute", word, source) for word in loaded]
            one = _element(moved, row, bits).zext(kind).zext(U32)
            at = k // per_word
            results[at] = results[at] | (one << bits * (k % per_word))
        for k, word in enumerate(results):
            trace.put_vector(index + k, word, everyone)

    return meaning


STAGED.add("global_load_tr_b128", _transposing("b128", 16))
STAGED.add("global_load_tr_b64", _transposing("b64", 8))


# --- transposing loads from LDS (gfx950)

_COLUMNS = 16  # of a block, and the lanes that read it


def _turned_column(words: list[Node], first: Node, row: int, count: int, bits: int) -> Node:
    # What a lane gets of one row: the element of its column, from the lane that has read it.
    trace = first.trace
    lane = trace.apply("lane_id")
    column, group = lane & (_COLUMNS - 1), _COLUMNS // count
    source = first + ((column >> (count.bit_length() - 1)) + row * group)
    moved = [trace.apply("permute", word, source) for word in words]
    at = (column & (count - 1)) * bits
    low, last = at >> 5, (at + (bits - 1)) >> 5
    pair = [trace.const(U32, 0)] * 2
    for k, word in enumerate(moved):
        pair = [
            where(place.eq(k), word, value)
            for place, value in zip((low, last), pair, strict=True)
        ]
    wide = pair[0].zext(U64) | (pair[1].zext(U64) << 32)
    return (wide >> (at & 31).zext(U64)).zext(U32) & ((1 << bits) - 1)


def _turning(bits: int, words: int) -> Callable[[Trace], None]:
    access, count = Access(U32, words), 32 * words // bits

    def meaning(trace: Trace) -> None:
        [part] = parts_of(trace, memory_of(trace), "read", access.size)
        loaded = load_part(part, access)
        first = trace.apply("lane_id") & (0xFFFFFFFF ^ (_COLUMNS - 1))
        elements = [_turned_column(loaded, first, row, count, bits) for row in range(count)]
        index = vector_index(trace.instruction.dst[0])
        for k, word in enumerate(side_by_side(elements, bits)):
            trace.put_vector(index + k, word)

    return meaning


STAGED.add("ds_read_b64_tr_b16", _turning(16, 2))
STAGED.add("ds_read_b64_tr_b8", _turning(8, 2))
STAGED.add("ds_read_b64_tr_b4", _turning(4, 2))
STAGED.add("ds_read_b96_tr_b6", _turning(6, 3))

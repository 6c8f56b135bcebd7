"""No field of a packet is passed over in silence.

Each field of each packet that the engines carry out changes what they do or is refused, unless it
stands in the list below: those make no difference to what memory holds in the end.
"""

from random import Random

import pytest

from gputrace.devices.emulated.command import CommandProcessor
from gputrace.devices.emulated.copies import CopyEngine
from gputrace.devices.emulated.dispatch import Dispatcher
from gputrace.devices.emulated.effects import AtEnd, EngineStop, More, Next, Words
from gputrace.errors import DecodeError
from gputrace.families import FAMILIES, family

TIME = {
    "wr_confirm", "interval", "loop_interval", "poll_interval", "raw_wait", "dis_wc", "wait",
    "optimize_ace_offload", "reset_filter_cam", "compute",
}  # fmt: skip
"""How long something takes, not what it does."""
CACHES = {
    "policy", "src_policy", "dst_policy", "dst1_policy", "dst2_policy", "l2_policy", "llc_policy",
    "cpv", "mtype", "gcc", "sys", "snoop", "mall", "src_mall", "dst_mall", "dst1_mall",
    "dst2_mall", "nopte_comp", "tc_wb", "tcl1", "tc", "tc_nc", "tc_wc", "tc_md", "tc_vol",
    "tcl1_vol", "inv_metadata", "cb", "db", "sh_kcache", "sh_kcache_vol", "sh_icache",
    "sh_kcache_wb", "gli_inv", "gl1_range", "gl1_inv", "glm_wb", "glm_inv", "glk_wb", "glk_inv",
    "glv_inv", "gl2_us", "gl2_range", "gl2_inv", "gl2_wb", "seq", "base", "size", "size_spare",
    "limit", "permissions", "pages",
}  # fmt: skip
"""Caches, of which there are none: memory is coherent here."""
COMPRESSION = {"number_type", "max_compressed_block", "max_uncompressed_block"}
"""Of a compression that is asked for in other fields, which are refused."""
SAVING = {"csa_address"}
"""Where an engine saves itself when it is interrupted within a buffer: it never is."""
FREE = TIME | CACHES | COMPRESSION | SAVING
SOME = {
    ("PrimeUtcl2", "address"),  # of a translation that is there when it is needed
    ("PredExec", "exec_count"), ("PredExec", "xcc_select"),  # count within buffers only
}  # fmt: skip

OPERANDS = {"data": 4, "reference": 7, "count": 63, "dwords_there": 4, "exec_count": 2,
            "byte_count": 64, "rect_x": 3, "rect_y": 1, "rect_z": 1}  # fmt: skip
"""Numbers that shall stay small."""


def likely(layout, rng):
    """Return a random packet that has a chance to be carried out."""
    values = {}
    for field in layout.FIELDS:
        if field.fixed or callable(field.default):
            continue
        if field.role is not None and field.role.uses == "address":
            values[field.name] = 0x10000 + 256 * rng.randrange(8)
        elif field.name in OPERANDS:
            values[field.name] = rng.randint(0, OPERANDS[field.name])
        elif field.default is None or rng.random() < 0.2:
            values[field.name] = field.random(rng)
    if layout.TAIL is not None:
        values[layout.TAIL.name] = [rng.getrandbits(8) for _ in range(2)]
    return layout(**values)


def outcome(engine, words, there):
    """Say what an engine asks for when it is given a packet, and how that ends.

    Memory holds the value `there` everywhere.
    """
    answer, said = words, []
    nothing = [0xFFFF1000] * 4 if isinstance(engine, CommandProcessor) else [0] * 4
    ring = engine.ring()
    next(ring)
    try:
        for _ in range(40):
            effect = ring.send(answer)
            if isinstance(effect, Next):
                return said, effect.consumed
            if isinstance(effect, AtEnd):
                then = effect.then if isinstance(effect.then, tuple) else list(effect.then)
                said.append(("at end", str(then)))
            else:
                said.append(str(effect))
            answer = there
            if isinstance(effect, Words | More):
                answer = nothing
    except (EngineStop, DecodeError) as stop:
        return said, f"stopped: {stop}"
    return said, -1  # a large image, row by row


def flips(field, value):
    """Give other values of a field: another member, other bits."""
    low, high = field.limits
    others = {value ^ 1 << field.shift, value ^ 1 << (field.width - 1 + field.shift), high}
    if hasattr(field.kind, "__members__"):
        others |= {int(member) for member in field.kind}
    return sorted(int(one) for one in others if one != value and low <= one <= high)


def engine_of(kind, target):
    """Return an engine of a target, as it is before the first packet."""
    facts = family(target)
    if kind == "sdma":
        return CopyEngine(facts)
    made = CommandProcessor(facts.pm4, Dispatcher(facts), xccs=1, eop=True)
    for name in ("X", "Y", "Z"):
        number = facts.registers.addresses[f"COMPUTE_NUM_THREAD_{name}"]
        made.registers[0][number] = 1
    return made


def ignored(kind, target, layout, rng):
    """Return the fields of a layout that never made a difference; None if it is never done."""
    left, done = {field.name for field in layout.FIELDS if not field.fixed}, False
    for attempt in range(150):
        packet, there = likely(layout, rng), 5 * (attempt % 2)
        plain = outcome(engine_of(kind, target), packet.encode(), there)
        if isinstance(plain[1], str):
            continue
        done = True
        for field in layout.FIELDS:
            if field.name not in left:
                continue
            for value in flips(field, int(getattr(packet, field.name))):
                words = packet.replace(**{field.name: value}).encode()
                if outcome(engine_of(kind, target), words, there) != plain:
                    left.discard(field.name)
                    break
    return left if done else None


@pytest.mark.parametrize("target", FAMILIES)
@pytest.mark.parametrize("kind", ["pm4", "sdma"])
def test_what_is_marked_as_not_handled_is_what_is_refused(kind, target):
    rng = Random(3)
    for layout in getattr(family(target), kind).all:
        ends = [
            str(outcome(engine_of(kind, target), likely(layout, rng).encode(), 0)[1])
            for _ in range(60)
        ]
        refused = any(end == f"stopped: {name(kind, layout)} is not modelled" for end in ends)
        assert refused == bool(layout.UNSUPPORTED), (layout, ends[:3])


def name(kind, layout):
    """Return what a layout is called when it is refused."""
    return f"SDMA {layout.VENDOR_NAME}" if kind == "sdma" else layout.VENDOR_NAME


@pytest.mark.parametrize("target", FAMILIES)
@pytest.mark.parametrize("kind", ["pm4", "sdma"])
def test_bits_that_nobody_named_are_refused(kind, target):
    rng, tried = Random(2), 0
    for layout in getattr(family(target), kind).all:
        stray = [bit for bit in range(32 * layout.WORDS) if layout.UNKNOWN >> bit & 1]
        for _ in range(40):
            packet = likely(layout, rng)
            plain = outcome(engine_of(kind, target), packet.encode(), 0)
            if isinstance(plain[1], str) or not stray or layout.CONCEPT == "Nop":
                continue
            words, bit = packet.encode(), rng.choice(stray)
            words[bit // 32] ^= 1 << bit % 32
            _, end = outcome(engine_of(kind, target), words, 0)
            tried += 1
            assert isinstance(end, str), f"{layout.__name__} bit {bit}"
            assert "reserved bits" in end
    assert tried > 100


@pytest.mark.parametrize("target", FAMILIES)
@pytest.mark.parametrize("kind", ["pm4", "sdma"])
def test_every_field_counts_or_is_refused(kind, target):
    rng, passed, done = Random(1), set(), 0
    dialect = getattr(family(target), kind)
    for layout in dialect.all:
        left = ignored(kind, target, layout, rng)
        if left is not None and layout.CONCEPT != "Nop":
            done += 1
            passed |= {(layout.__name__, name) for name in left - FREE}
    assert done > 10
    assert passed - SOME == set()

"""Random words through the instruction decoder, against LLVM's disassembler where it is installed.

The count is for each target. Both must take a word or both refuse it; where both take it they must
agree on length, mnemonic and all operands (nearly all agree on the whole text: what is left are
modifiers that the instruction does not use, which one prints and the other leaves out). What LLVM
knows as graphics, gputrace must refuse. `LATER` and `SIGNED_OFFSET` are all the other differences.
Without libLLVM (19; for gfx950, which it does not know, 22) only the declared errors are looked
for.
"""

import random
import re
import struct
from functools import cache

from gputrace.errors import DecodeError
from gputrace.isa.decode import TARGETS, decoder
from gputrace.isa.instruction import Instruction
from tools.campaigns import Campaign
from tools.disassembler import NEWER, Disassembler, library_of

COUNT, SAMPLE = 1_000_000, 4_000
WORDS = 5  # of the longest instruction
OPERAND = (7, 8, 9)
"""Bits of a field that may be an operand."""
EDGES = (*range(100, 130), *range(230, 258))
"""Where vector registers begin, and scalar ones, constants and special registers meet."""
GRAPHICS = ("image_", "exp", "lds_direct", "lds_param", "v_interp_", "ds_param", "ds_direct")
"""Beginnings of what LLVM takes as graphics."""
LATER = (
    r"VOP[123C] v_\w+16\w* .* op_sel:",  # halves of registers: +real-true16 of LLVM 22
    r"VOP[13] v_(mov|swap)_b16",
    r"VOP3 v_(pk_)?fmac_f16_e64 ",
    r"VOPD .*v_dual_dot2acc_f32_b?f16 ",
    r"SOP1 s_alloc_vgpr ",
    r"DS ds_(bvh_stack_push|bpermute_fi_b32 )",
)
"""What LLVM 22 has and LLVM 19 has not: patterns of encoding and text."""
BELOW_BUFFER = r"(s_|t|s_atc_probe_)?buffer.* (offset:)?-0?x?\d"
"""Of gfx12, where LLVM 22 refuses these: a buffer has nothing below its beginning."""
FORGOTTEN = r"GLOBAL global_atomic_(add|min|max)_f64 a.* sc0 .*sc1"
"""What LLVM 22 refuses of gfx950 (it takes each bit of these without the others), and 19 took."""
# Of v_nop and v_pipeflush an announced SDWA or DPP word that is none is for LLVM 19 not there.
SPELLED = ("s_delay_alu ", "s_waitcnt_depctr ", "s_wait_alu ", "s_version ")
"""Immediates that LLVM writes in words, ours at times as numbers."""
MODIFIERS = "clamp|glc|slc|dlc|scc|sc0|sc1|nt|tfe|lds|gds|offen|idxen|high|compr|vm"


@cache
def disassembler(target: str) -> Disassembler | None:
    """Return LLVM's disassembler for a target, None without the library."""
    try:
        return Disassembler(target, decoder(target).wave, library_of(target))
    except OSError:
        return None


@cache
def prefixes(target: str) -> list[tuple[int, int]]:
    """Return (prefix, width) of the encodings, so that random words are often instructions."""
    return [(form.prefix, form.width) for form in decoder(target).generation.formats]


def code_of(target: str, chance: random.Random) -> bytes:
    """Make the bytes of one case: of an encoding that exists, most fields small or at an edge."""
    words = [chance.getrandbits(32) for _ in range(WORDS)]
    if chance.random() < 0.8:
        prefix, width = chance.choice(prefixes(target))
        words[0] = prefix << (32 - width) | words[0] >> width
    if chance.random() < 0.7:
        words[1] &= chance.choice((0x03FFFFFF, 0x007F7FFF, 0x7C7F7F7F))
        words[0] &= chance.choice((0xFFFFFFFF, 0xFFFF7F7F, 0xFFFF00FF))
    raw = int.from_bytes(struct.pack(f"<{WORDS}I", *words), "little")
    form = decoder(target).generation.format_of(words[0])
    if form is not None and chance.random() < 0.3:
        for low, width in form.fields.values():
            if width in OPERAND and chance.random() < 0.4:
                mask = (1 << width) - 1
                raw = raw & ~(mask << low) | (chance.choice(EDGES) & mask) << low
    return raw.to_bytes(4 * WORDS, "little")


def plain(text: str) -> str:
    """Return a text without what may be spelled in several ways.

    Those are LLVM's warnings of registers that the encoding aligns, formats of typed buffers by
    name, the upper half of a literal of which sixteen bits count (in sums of mixed types, LLVM
    shows only these of all), a bar that LLVM sets behind the mask of v_cndmask, and the digits of
    1/(2 pi), of which it writes many for matrices on gfx11 alone.
    """
    text = text.replace("0.15915494309189532", "0.15915494")
    text = re.sub(r"\|(v\d+), (vcc(_lo)?)\|", r"|\1|, \2", text)
    text = re.sub(r" ;.*| format:(\[.*?\]|\d+)", "", text)
    if re.match(r"\w+_f16 |v_fma_mix|v_cvt_f32_bf16", text):
        text = re.sub(r"0x[0-9a-f]+", lambda found: hex(int(found[0], 16) & 0xFFFF), text)
    return re.sub(r"\s+", " ", text).strip()


def operands(text: str) -> list[str | int]:
    """Return the operands of a text in order, numbers as numbers, and its offsets."""
    name, _, text = re.sub(r" ;.*|/\*.*?\*/", "", text).partition(" ")
    offsets = re.findall(r"\boffset\d?:([^ ]+)", text)
    if not name.endswith("_sdwa"):
        text = re.sub(r"\bsext\((.*?)\)", r"\1", text)  # signs of integers, which are ignored
    text = re.sub(r"(?<= )\w+:(\[.*?\]|[^ ]+(\(.*?\))?)", "", f" {text}")
    text = re.sub(rf"(?<= )({MODIFIERS})(?= |$)", "", text)
    text = re.sub(r"\b(v\d+)\.[lh]\b", r"\1", text)
    parts = [part.strip() for part in re.split(r",(?![^(\[]*[)\]])", text)]
    if name.startswith("v_ldexp_f16") and not name.endswith("_sdwa"):
        parts[2] = re.sub(r"neg\((.*)\)|-(?=[a-z|])", r"\1", parts[2]).strip("|")  # as above
    half = bool(re.match(r"s_cmp\w+_f16$|v_cmpx?_class_f16|v_ldexp_f16", name))
    return [number(part, half) for part in (*parts, *offsets) if part]


def number(text: str, half: bool) -> str | int:
    """Return a number's value, as the bits of a `half` where it is a fraction; else the text."""
    if re.fullmatch(r"-?(0x[0-9a-f]+|\d+)", text):
        return int(text, 0)
    if half and re.fullmatch(r"-?\d+\.\d+", text):
        return int.from_bytes(struct.pack("<e", float(text)), "little")
    return text


def without_top(target: str, text: str) -> str:
    """Return a flat instruction's text without the top bit of its offset.

    From gfx10 to gfx11 the field is a bit wider than a flat address takes, and the hardware ignores
    this bit (AMD, "RDNA2" and "RDNA3" manuals, fields of FLAT), which LLVM shows.
    """
    bits, signed = decoder(target).generation.flat_offset
    if signed or not text.startswith("flat_"):
        return text

    def low(found: re.Match[str]) -> str:
        offset = int(found[1]) & (1 << bits) - 1
        return f" offset:{offset}" if offset else ""

    return re.sub(r" offset:(\d+)", low, text)


def with_used_sources(target: str, code: bytes) -> bytes:
    """Return code without the sources that a long vector instruction does not have.

    The hardware and LLVM 22 ignore them, and newer compilers fill them; LLVM 19 wants zeros.
    """
    generation = decoder(target).generation
    form = generation.format_of(int.from_bytes(code[:4], "little"))
    if form is None or form.name not in ("VOP3", "VOP3P", "MAI"):
        return code
    raw, (low, width) = int.from_bytes(code, "little"), form.opcode
    row = decoder(target).rows().get((form.name, raw >> low & (1 << width) - 1))
    if row is None:
        return code
    for name in {"src0", "src1", "src2"} - {slot.field for slot in row.src}:
        low, width = form.fields[name]
        raw &= ~((1 << width) - 1 << low)
    return raw.to_bytes(len(code), "little")


@cache
def newer(target: str) -> Disassembler | None:
    """Return the disassembler of LLVM 22 for a target, None without the library."""
    try:
        return Disassembler(target, decoder(target).wave, NEWER)
    except OSError:
        return None


def is_later(target: str, code: bytes, ours: Instruction) -> bool:
    """Say whether LLVM 22 alone takes a word, which is asked where it is installed."""
    text = f"{ours.encoding} {ours.text()}"
    if not any(re.match(pattern, text) for pattern in LATER):
        return False
    oracle = newer(target)
    return oracle is None or oracle(code)[0] == ours.size


def compare(
    target: str, code: bytes, ours: Instruction | None, reason: str, size: int, text: str
) -> tuple[str, str]:
    """Return (what came of it, what is wrong: "" for nothing)."""
    if ours is None:
        if not size:
            return "both refuse", ""
        if text.startswith(GRAPHICS):
            return "graphics", ""
        if re.match(BELOW_BUFFER, text):
            return "a negative offset in a buffer", ""
        if text.split(" ")[0] in ("v_nop", "v_pipeflush"):
            return "a nop with half a word behind", ""
        return "", f"LLVM reads {text!r}, gputrace: {reason}"
    if not size:
        if is_later(target, code, ours):
            return "later than LLVM 19", ""
        if re.match(FORGOTTEN, f"{ours.encoding} {ours.text()}"):
            return "forgotten by LLVM 22", ""
        return "", f"LLVM refuses, gputrace reads {ours.text()!r}"
    mine = ours.text()
    if (ours.size, mine.split(" ")[0]) != (size, text.split(" ")[0]):
        return "", f"LLVM reads {size} bytes {text!r}, gputrace {ours.size} {mine!r}"
    mine, text = plain(mine), plain(without_top(target, text))
    if mine == text:
        return "same text", ""
    if operands(mine) != operands(text) and not mine.startswith(SPELLED):
        return "", f"LLVM reads {text!r}, gputrace {mine!r}"
    return "same instruction and operands", ""


def run(campaign: Campaign) -> None:
    """Decode the count of words for each target."""
    for number in campaign.numbers():
        for target in TARGETS:
            _one(campaign, target, number)
    campaign.facts["targets"] = len(TARGETS)


def _one(campaign: Campaign, target: str, number: int) -> None:
    code = code_of(target, random.Random(f"{campaign.seed} {target} {number}"))
    ours, reason = None, ""
    try:
        ours = decoder(target).decode(code)
        ours.text()
    except DecodeError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 - any other error is what is looked for
        campaign.fail(f"{target}, case {number}, {code.hex()}: {error!r}")
        return
    oracle = disassembler(target)
    if oracle is None:
        return
    outcome, wrong = compare(target, code, ours, reason, *oracle(with_used_sources(target, code)))
    if wrong:
        campaign.fail(f"{target}, case {number}, {code[:12].hex(' ', 4)}: {wrong}")
    else:
        campaign.facts[outcome] = campaign.facts.get(outcome, 0) + 1

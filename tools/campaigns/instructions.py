"""Random words through the instruction decoder, against LLVM's disassembler where it is installed.

The count is for each target. Where both take a word they must agree on length, mnemonic and all
registers (nearly all agree on the whole text: what is left are modifiers that the instruction does
not use, which one prints and the other leaves out); where only LLVM does, gputrace must have said
that the encoding is graphics. Words that LLVM refuses for reserved bits, which the hardware
ignores, are counted. Without libLLVM 19 only the declared errors are looked for.
"""

import ctypes
import random
import re
import struct
from functools import cache

from gputrace.errors import DecodeError
from gputrace.isa.decode import TARGETS, decoder
from gputrace.isa.instruction import Instruction
from tools.campaigns import Campaign

COUNT, SAMPLE = 1_000_000, 4_000
LIBRARY = "libLLVM.so.19.1"
WORDS = 5  # of the longest instruction
GRAPHICS = ("image_", "exp", "lds_direct", "lds_param", "v_interp_", "ds_param", "ds_direct")


class Disassembler:
    """LLVM's, for one target; raises OSError when the library is missing."""

    def __init__(self, target: str, wave: int) -> None:
        library = ctypes.CDLL(LIBRARY)
        for part in ("TargetInfo", "TargetMC", "Disassembler"):
            getattr(library, f"LLVMInitializeAMDGPU{part}")()
        create, self._run = library.LLVMCreateDisasmCPUFeatures, library.LLVMDisasmInstruction
        create.restype, self._run.restype = ctypes.c_void_p, ctypes.c_size_t
        text, pointer, size = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t
        create.argtypes = [text, text, text, pointer, ctypes.c_int, pointer, pointer]
        self._run.argtypes = [pointer, text, ctypes.c_uint64, ctypes.c_uint64, text, size]
        features = f"+wavefrontsize{wave}".encode()
        self._context = create(b"amdgcn-amd-amdhsa", target.encode(), features, None, 0, None, None)
        self._buffer = ctypes.create_string_buffer(4096)

    def __call__(self, code: bytes) -> tuple[int, str]:
        """Return length (0 when it is no instruction) and text."""
        size = self._run(self._context, code, len(code), 0, self._buffer, 4096)
        return size, self._buffer.value.decode().strip() if size else ""


@cache
def disassembler(target: str) -> Disassembler | None:
    """Return LLVM's disassembler for a target, None without the library."""
    try:
        return Disassembler(target, decoder(target).wave)
    except OSError:
        return None


@cache
def prefixes(target: str) -> list[tuple[int, int]]:
    """Return (prefix, width) of the encodings, so that random words are often instructions."""
    return [(form.prefix, form.width) for form in decoder(target).generation.formats]


def code_of(target: str, chance: random.Random) -> bytes:
    """Make the bytes of one case: of an encoding that exists, most fields small."""
    words = [chance.getrandbits(32) for _ in range(WORDS)]
    if chance.random() < 0.8:
        prefix, width = chance.choice(prefixes(target))
        words[0] = prefix << (32 - width) | words[0] >> width
    if chance.random() < 0.7:
        words[1] &= chance.choice((0x03FFFFFF, 0x007F7FFF, 0x7C7F7F7F))
        words[0] &= chance.choice((0xFFFFFFFF, 0xFFFF7F7F, 0xFFFF00FF))
    return struct.pack(f"<{WORDS}I", *words)


def crashes(code: bytes) -> bool:
    """Say whether LLVM 19 may crash on a word: a short vector encoding with an SDWA word."""
    word = int.from_bytes(code[:4], "little")
    return word >> 31 == 0 and word & 0x1FF == 0xF9


def plain(text: str) -> str:
    """Return a text without what may be spelled in several ways.

    Those are LLVM's warnings of registers that the encoding aligns, formats of typed buffers by
    name, and the upper half of a literal of which sixteen bits count.
    """
    text = re.sub(r" ;.*| format:(\[.*?\]|\d+)", "", text)
    if re.match(r"\w+_f16 ", text):
        text = re.sub(r"0x[0-9a-f]+", lambda found: hex(int(found[0], 16) & 0xFFFF), text)
    return re.sub(r"\s+", " ", text).strip()


def registers(text: str) -> list[str]:
    """Return the registers that a text names, in order."""
    plainly = re.sub(r" ;.*", "", text)
    return re.findall(r"\b(?:v|s|a|ttmp)(?:\d+|\[\d+:\d+\])|\b(?:vcc|exec|m0)\w*", plainly)


@cache
def has_null(target: str) -> bool:
    """Say whether the target has the null register, which LLVM also prints for gfx9."""
    names = decoder(target).generation.specials.values()
    return any(name == "null" for name, _ in names)


def compare(
    target: str, ours: Instruction | None, reason: str, size: int, text: str
) -> tuple[str, str]:
    """Return (what came of it, what is wrong: "" for nothing)."""
    invalid = not size or "Invalid" in text or text.startswith(("v_illegal", "<"))
    # A literal as the offset of a buffer instruction has no place in the encoding.
    invalid |= size > 8 and text.startswith(("buffer_", "tbuffer_"))
    invalid |= not has_null(target) and bool(re.search(r"\bnull\b", text))
    if ours is None:
        if invalid or text.startswith(GRAPHICS):
            return "both refuse", ""
        return "", f"LLVM reads {text!r}, gputrace: {reason}"
    if invalid:
        return "only gputrace takes", ""
    mnemonic = text.split(" ")[0]
    if (ours.size, ours.text().split(" ")[0]) != (size, mnemonic):
        return "", f"LLVM reads {size} bytes {text!r}, gputrace {ours.size} {ours.text()!r}"
    if plain(ours.text()) == plain(text):
        return "same text", ""
    # LLVM counts the register of the status word (tfe) and gives prefetches operands.
    if registers(ours.text()) != registers(text) and not re.search(r"\btfe\b|^s_prefetch", text):
        return "", f"LLVM reads {text!r}, gputrace {ours.text()!r}"
    return "same instruction and registers", ""


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
    if oracle is None or crashes(code):
        return
    outcome, wrong = compare(target, ours, reason, *oracle(code))
    if wrong:
        campaign.fail(f"{target}, case {number}, {code[:12].hex(' ', 4)}: {wrong}")
    else:
        campaign.facts[outcome] = campaign.facts.get(outcome, 0) + 1

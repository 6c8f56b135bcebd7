"""The decoder against llvm-mc-19 on random words: same length and mnemonic where both take them."""

import io
import random
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from gputrace.errors import DecodeError
from gputrace.isa.decode import TARGETS, decoder
from gputrace.isa.instruction import Instruction
from tools.disassembler import LIBRARY, Disassembler, library_of

LLVM_MC = "llvm-mc-19"
SAMPLES = 20_000
WAVE = {name: f"+wavefrontsize{lanes}" for name, (_, lanes) in TARGETS.items()}
# First bytes (bits 31..24) of the encodings, so that random words are often instructions.
TOPS = {
    "gfx942": bytes.fromhex("7c7ebebfc0d0d1d2d3d8d9dcdde0e4e8"),
    "gfx1100": bytes.fromhex("7c7ebebff4c8caccd4d5d6d7d8d9dcdde0e1e8"),
}
SHORT = bytes([*range(0x00, 0x80, 7), *range(0x80, 0xC0, 3)])
MARK, MARK_WORD = "s_nop 7", 0xBF800007

OBJDUMP = "llvm-objdump-19"
BUILT = sorted((Path(__file__).parents[1] / "kernels" / "built").glob("*/*.co"))
KERNELS = [path for path in BUILT if library_of(path.parent.name) == LIBRARY]
NEW_KERNELS = [path for path in BUILT if path not in KERNELS]
LISTED = re.compile(r"^\t(\S.*?)\s*// [0-9A-F]{12}: ([0-9A-F ]+)")

pytestmark = pytest.mark.skipif(
    shutil.which(LLVM_MC) is None, reason=f"{LLVM_MC} (Debian package llvm-19) is not installed"
)


def ours(target: str, seed: int) -> Iterator[Instruction]:
    """Decode random words; most fields are small so that the reserved bits are often zero."""
    chance = random.Random(seed)
    for _ in range(SAMPLES):
        first = chance.choice(SHORT + TOPS[target]) << 24 | chance.getrandbits(24)
        second = chance.getrandbits(32) & chance.choice((0xFFFFFFFF, 0x03FFFFFF, 0x007F7FFF))
        words = struct.pack("<3I", first, second, chance.getrandbits(31))
        try:
            yield decoder(target).decode(words)
        except DecodeError:
            continue


def as_line(data: bytes) -> str:
    # Brackets make LLVM look at these bytes alone; outside them all lines are one stream.
    return f"[{','.join(f'{byte:#04x}' for byte in data)}]"


def llvms(target: str, codes: list[bytes]) -> list[list[str]]:
    """Let LLVM disassemble each code by itself: the instructions it finds in the bytes, in order.

    None when it refuses the first; "" stands for bytes left over that it refuses. A known
    instruction before each code tells one from the next.
    """
    lines = []
    for code in codes:
        lines += [as_line(struct.pack("<I", MARK_WORD)), as_line(code)]
    ran = subprocess.run(
        [LLVM_MC, "--disassemble", "--triple=amdgcn-amd-amdhsa", f"--mcpu={target}",
         f"--mattr={WAVE[target]}"],
        input="\n".join(lines), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    found: list[list[str]] = []
    for line in ran.stdout.splitlines():
        text = line.strip()
        if text == MARK:
            found.append([])
        elif found and text:
            found[-1].append(text)
    assert len(found) == len(codes), ran.stderr[-500:]
    for line, column in re.findall(r"<stdin>:(\d+):(\d+): warning: invalid", ran.stderr):
        place = int(line) // 2 - 1
        if column != "2":  # behind the bracket, so the first instruction itself
            found[place].append("")
    return found


def name_of(text: str) -> str:
    return text.split(" ")[0]


@pytest.mark.parametrize("target", ["gfx942", "gfx1100"])
def test_random_words_have_llvms_name_and_length(target: str) -> None:
    made = [
        instruction for instruction in ours(target, seed=19) if instruction.words[0] != MARK_WORD
    ]
    codes = [struct.pack(f"<{len(each.words)}I", *each.words) for each in made]
    theirs = llvms(target, codes)
    agreed, wrong = 0, []
    for instruction, found in zip(made, theirs, strict=True):
        if not found or "Invalid" in found[0]:
            continue  # LLVM refuses combinations of fields that the hardware ignores
        if len(found) == 1 and name_of(found[0]) == name_of(instruction.text()):
            agreed += 1
        else:
            wrong.append((instruction.text(), found, [hex(word) for word in instruction.words]))
    assert not wrong
    assert agreed > SAMPLES // 5


def test_kernels_read_as_in_llvms_listing() -> None:
    """Compiled kernels: every instruction has LLVM's text, operands and modifiers included."""
    assert KERNELS
    wrong, seen = [], set()
    for path in KERNELS:
        target = path.parent.name
        command = [OBJDUMP, "-d", f"--mcpu={target}", str(path)]
        listing = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        for line in listing.stdout.splitlines():
            found = LISTED.match(line)
            if found is None or (target, found[2], found[1]) in seen:
                continue
            seen.add((target, found[2], found[1]))
            words = [int(word, 16) for word in found[2].split()]
            made = decoder(target).decode(struct.pack(f"<{len(words)}I", *words))
            # An absent SMEM offset is null to LLVM; it writes a literal 0 without 0x.
            theirs = re.sub(r"null$|\b0$", "0x0", re.sub(r" <.*>| offset:0x0$", "", found[1]))
            same = re.sub(r"\b0$", "0x0", made.text()) == theirs
            if made.size != 4 * len(words) or not same:
                wrong.append((target, made.text(), found[1]))
    assert not wrong
    assert len(seen) > 10_000


def plain(text: str) -> str:
    """Return a text of LLVM 22 as LLVM 19 writes rotations, and literals that could be inline."""

    def small(found: re.Match[str]) -> str:
        raw = int(found[1], 16)
        value = raw - (raw >> 31 << 32)
        known = {0x3F000000: "0.5", 0x3F800000: "1.0", 0x40000000: "2.0", 0x40800000: "4.0"}
        shown = known.get(raw & 0x7FFFFFFF)
        if shown:
            return "-" * (raw >> 31) + shown
        return str(value) if -16 <= value <= 64 else hex(raw)

    def rotation(found: re.Match[str]) -> str:
        return f"offset:{0xC000 | int(found[1]) << 10 | int(found[2]) << 5}"

    text = re.sub(r"offset:swizzle\(ROTATE,(\d),(\d+)\)", rotation, text)
    return re.sub(r"lit\((0x[0-9a-f]+)\)", small, re.sub(r" offset:0x0$", "", text))


def test_kernels_of_new_targets_read_as_in_llvms_library() -> None:
    """What llvm-objdump-19 does not know is read by the library of LLVM 22."""
    assert NEW_KERNELS
    wrong, seen = [], set()
    for path in NEW_KERNELS:
        target = path.parent.name
        try:
            run = Disassembler(target, decoder(target).wave, library_of(target))
        except OSError as error:
            pytest.skip(str(error))
        code = ELFFile(io.BytesIO(path.read_bytes())).get_section_by_name(".text").data()
        at = 0
        while at < len(code):
            size, text = run(code[at : at + 16] + bytes(8))
            if size and code[at : at + size] not in seen:
                seen.add(code[at : at + size])
                made = decoder(target).decode(code, at)
                texts = [re.sub(r"\b0$", "0x0", each) for each in (made.text(), plain(text))]
                if made.size != size or texts[0] != texts[1]:
                    wrong.append((target, made.text(), text))
            at += size or 4
    assert not wrong
    assert len(seen) > 10_000


# The first 16 bits of instructions whose other 16 bits are spelled by LLVM.
SPELLED = {
    "gfx90a": (0xBF8C, 0xBF90, 0xBF91, 0xB884, 0xB901, 0xD87A),
    "gfx942": (0xBF8C, 0xBF90, 0xBF91, 0xB884, 0xB901, 0xD87A),
    "gfx1030": (0xBF8C, 0xBF90, 0xB904, 0xB981, 0xD8D4),
    "gfx1100": (0xBF89, 0xBF87, 0xBFB6, 0xBFB7, 0xB884, 0xB904, 0xD8D4),
    "gfx1201": (0xBF87, 0xBFB6, 0xBFB7, 0xB884, 0xB904, 0xD8D4),
}


@pytest.mark.parametrize("target", SPELLED)
def test_immediates_are_spelled_as_llvm_does(target: str) -> None:
    """Counters, delays, messages, hardware registers and swizzles: every 97th value and the low."""
    values = sorted({*range(0, 1 << 16, 97), *range(256), *range(0xFF00, 1 << 16)})
    words = [first << 16 | value for first in SPELLED[target] for value in values]
    after = struct.pack("<I", 0x0500_0002)  # the rest of ds_swizzle_b32
    codes = [
        struct.pack("<I", word) + (after if word >> 24 == 0xD8 else b"") for word in words
    ]
    wrong = []
    for code, found in zip(codes, llvms(target, codes), strict=True):
        ours = decoder(target).decode(code).text()
        if [ours] != found and "invalid inst" not in found[0]:
            wrong.append((code.hex(), ours, found))
    assert not wrong

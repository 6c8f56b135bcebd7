"""Loads of lanes that do not lie side by side, in LLVM IR: ways for what tiles of matrices do."""

from collections.abc import Callable, Iterable
from typing import Final


def rows(wave_size: int) -> str:
    """Return a way into `load32` for rows of sixteen lanes, each side by side."""
    # Sixteen lanes side by side, and the next ones elsewhere: what tiles of matrices look like.
    heads = ", ".join(f"i32 {lane & ~15}" for lane in range(wave_size))
    steps = ", ".join(f"i64 {lane % 16 * 4}" for lane in range(wave_size))
    lines = [
        f"%heads = shufflevector <@W@ x i64> %places, <@W@ x i64> poison, <@W@ x i32> <{heads}>",
        f"%near = add <@W@ x i64> %heads, <{steps}>",
        "%off = icmp ne <@W@ x i64> %places, %near",
        "%off.k = and <@W@ x i1> %off, %k",
        "%off.raw = bitcast <@W@ x i1> %off.k to i@W@",
        "%in.rows = icmp eq i@W@ %off.raw, 0",
        "br i1 %in.rows, label %rows, label %apart",
    ]
    parts = []
    for number, head in enumerate(range(0, wave_size, 16)):
        chosen = ", ".join(f"i32 {lane}" for lane in range(head, head + 16))
        lines += [
            *(["rows:"] if not head else []),
            f"%start.{number} = extractelement <@W@ x i64> %places, i64 {head}",
            f"%row.{number}.at = inttoptr i64 %start.{number} to ptr",
            f"%k.{number} = shufflevector <@W@ x i1> %k, <@W@ x i1> poison, <16 x i32> <{chosen}>",
            f"%part.{number} = call <16 x i32> @llvm.masked.load.v16i32.p0(ptr %row.{number}.at,"
            f" i32 1, <16 x i1> %k.{number}, <16 x i32> zeroinitializer)",
        ]
        parts.append(f"%part.{number}")
    lanes = 16
    while len(parts) > 1:
        index = ", ".join(f"i32 {lane}" for lane in range(2 * lanes))
        for at in range(0, len(parts), 2):
            low, high = parts[at], parts[at + 1]
            lines.append(
                f"{low}.{lanes} = shufflevector <{lanes} x i32> {low}, <{lanes} x i32> {high},"
                f" <{2 * lanes} x i32> <{index}>"
            )
        parts = [f"{low}.{lanes}" for low in parts[::2]]
        lanes *= 2
    return "\n  ".join([*lines, f"ret <@W@ x i32> {parts[0]}", "apart:\n  "])


def four_words(wave_size: int) -> str:
    """Return `load32x4`: four words of each lane, dealt out to a vector for each word.

    Lanes often share their addresses: four in a row, or each with the one eight lanes before.
    """
    everybody = range(wave_size)
    lines = []
    for name, kept in (("runs", ~3), ("again", 7)):
        index = ", ".join(f"i32 {lane & kept}" for lane in everybody)
        lines.append(_SAME.replace("@NAME@", name).replace("@INDEX@", index))
    ways = {
        "runs": (everybody[::4], lambda head: [head] * 4),
        "again": (everybody[:8], lambda head: [head % 8 + n for n in range(4)]),
        "not.again": (everybody, lambda head: [head + n for n in range(4)]),
    }
    for name, (loaded, block) in reversed(ways.items()):
        lines += [f"{name}:"] if name != "not.again" else []
        lines += _blocks(name, wave_size, loaded, block)
        lines.append("ret void")
    return _FOUR_WORDS.replace("@LINES@", "\n  ".join(lines))


def _blocks(
    way: str, wave_size: int, loaded: Iterable[int], block: Callable[[int], list[int]]
) -> list[str]:
    # Load what some lanes want, put four lanes' words together, and deal out sixteen lanes.
    lines = []
    for lane in loaded:
        lines += [
            f"%{way}.at.{lane} = getelementptr i64, ptr %list, i64 {lane}",
            f"%{way}.from.{lane} = load ptr, ptr %{way}.at.{lane}",
            f"%{way}.lane.{lane} = load <4 x i32>, ptr %{way}.from.{lane}, align 1",
        ]
    for head in range(0, wave_size, 4):
        one, two, three, four = (f"%{way}.lane.{lane}" for lane in block(head))
        lines += [
            _shuffled(f"%{way}.two.{head}", 4, one, two, range(8)),
            _shuffled(f"%{way}.two.{head + 2}", 4, three, four, range(8)),
        ]
        pair = f"%{way}.two.{head}", f"%{way}.two.{head + 2}"
        lines.append(_shuffled(f"%{way}.four.{head}", 8, *pair, range(16)))
    for head in range(0, wave_size, 16):
        lines += _dealt(way, wave_size, head)
    return lines


def _dealt(way: str, wave_size: int, head: int) -> list[str]:
    lines = []
    for low in (0, 2):
        index = [*range(low, 32, 4), *range(low + 1, 32, 4)]
        for at in (head, head + 8):
            pair = f"%{way}.four.{at}", f"%{way}.four.{at + 4}"
            lines.append(_shuffled(f"%{way}.half.{at}.{low}", 16, *pair, index))
        for word, start in ((low, 0), (low + 1, 8)):
            ends = [*range(start, start + 8), *range(16 + start, 24 + start)]
            name = f"%{way}.word.{head}.{word}"
            pair = f"%{way}.half.{head}.{low}", f"%{way}.half.{head + 8}.{low}"
            lines += [
                _shuffled(name, 16, *pair, ends),
                f"{name}.to = getelementptr i32, ptr %out, i64 {word * wave_size + head}",
                f"store <16 x i32> {name}, ptr {name}.to, align 64",
            ]
    return lines


def _shuffled(name: str, width: int, one: str, other: str, index: Iterable[int]) -> str:
    kind, numbers = f"<{width} x i32>", [f"i32 {at}" for at in index]
    mask = f"<{len(numbers)} x i32> <{', '.join(numbers)}>"
    return f"{name} = shufflevector {kind} {one}, {kind} {other}, {mask}"


_SAME: Final = """%@NAME@.heads = shufflevector <@W@ x i64> %chosen, <@W@ x i64> poison,
      <@W@ x i32> <@INDEX@>
  %@NAME@.off = icmp ne <@W@ x i64> %chosen, %@NAME@.heads
  %@NAME@.raw = bitcast <@W@ x i1> %@NAME@.off to i@W@
  %@NAME@.all = icmp eq i@W@ %@NAME@.raw, 0
  br i1 %@NAME@.all, label %@NAME@, label %not.@NAME@
not.@NAME@:"""

_FOUR_WORDS: Final = """
define void @load32x4(ptr %out, <@W@ x i64> %places, i64 %mask) #0 {
entry:
  %list = alloca <@W@ x i64>, align 64
  %nothing = alloca <4 x i32>, align 16
  store <4 x i32> zeroinitializer, ptr %nothing, align 16
  %cut = @NARROW@
  %k = bitcast i@W@ %cut to <@W@ x i1>
  %none = ptrtoint ptr %nothing to i64
  %none.in = insertelement <@W@ x i64> poison, i64 %none, i64 0
  %none.all = shufflevector <@W@ x i64> %none.in, <@W@ x i64> poison, <@W@ x i32> zeroinitializer
  %chosen = select <@W@ x i1> %k, <@W@ x i64> %places, <@W@ x i64> %none.all
  store <@W@ x i64> %chosen, ptr %list, align 64
  @LINES@
}
"""

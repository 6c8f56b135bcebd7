"""Write the decoder and encoder of one record class as plain Python, once, from its fields.

Straight-line code with the shifts and masks as literals is several times faster than a loop over
the fields; it is generated from the declaration, so there is still one copy of each fact.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from operator import itemgetter
from typing import Any

from gputrace.bits.field import Field

FULL = 0xFFFFFFFF
_MANY = 6  # small fields from which on a decoder remembers
_REMEMBERED = 1024  # combinations that it remembers


def _pieces(field: Field) -> list[tuple[int, int, int, int]]:
    # (word, low bit in that word, bits taken, low bit in the value) for each dword touched
    found, done = [], 0
    while done < field.width:
        word, low = divmod(field.lo + done, 32)
        taken = min(field.width - done, 32 - low)
        found.append((word, low, taken, done))
        done += taken
    return found


def _read(field: Field, number: int) -> str:
    terms = []
    for word, low, taken, done in _pieces(field):
        term = f"w{word} >> {low}" if low else f"w{word}"
        if low + taken < 32:
            term = f"({term}) & {(1 << taken) - 1:#x}"
        terms.append(f"({term}) << {done}" if done else f"({term})")
    text = " | ".join(terms)
    if field.signed:
        sign = 1 << field.width - 1
        text = f"(({text}) ^ {sign:#x}) - {sign:#x}"
    if field.shift:
        text = f"({text}) << {field.shift}"
    if field.kind is bool:
        return f"({text}) != 0"
    if issubclass(field.kind, IntEnum):
        return f"k{number}(v := {text}, v)"
    return text if field.kind is int else f"k{number}({text})"


def _strays(words: int, unknown: int) -> str:
    stray = []
    for word in range(words):
        mask = unknown >> 32 * word & FULL
        if mask:
            stray.append(f"(w{word} & {mask:#x}) << {32 * word}")
    return " | ".join(stray) or "0"


def _is_whole(field: Field) -> bool:
    # Whether nothing else lies in the field's dwords and they are its value as they are.
    return field.width % 32 == 0 and field.lo % 32 == 0 and field.kind is int


def decoder(fields: Sequence[Field], words: int, unknown: int) -> Callable[[Sequence[int]], Any]:
    """Return a function from at least `words` dwords to the attributes of an instance.

    Packets of a stream differ in addresses and values, hardly in their control bits: what the
    dwords of many small fields mean is remembered.
    """
    small = [field for field in fields if not _is_whole(field)]
    packed = sorted({piece[0] for field in small for piece in _pieces(field)}
                    | {word for word in range(words) if unknown >> 32 * word & FULL})  # fmt: skip
    remembers = len(small) >= _MANY
    names = ", ".join(f"w{i}" for i in range(words))
    pairs = {id(f): f"{f.name!r}: {_read(f, i)}" for i, f in enumerate(fields)}
    stray = f"'unknown': {_strays(words, unknown)}"
    lines = ["def decode(words):", f"    {names}, = words"]
    if not remembers:
        lines.append(f"    return {{{', '.join([*pairs.values(), stray])}}}")
    else:
        key = ", ".join(f"w{word}" for word in packed)
        meaning = ", ".join([*(pairs[id(field)] for field in small), stray])
        lines += [
            f"    known = seen.get(({key},))",
            "    if known is None:",
            f"        if len(seen) >= {_REMEMBERED}: seen.clear()",
            f"        known = seen[{key},] = {{{meaning}}}",
            "    mine = known.copy()",
        ]
        for i, field in enumerate(fields):
            if _is_whole(field):
                lines.append(f"    mine[{field.name!r}] = {_read(field, i)}")
        lines.append("    return mine")
    space: dict[str, Any] = {"seen": {}}
    for i, field in enumerate(fields):
        if issubclass(field.kind, IntEnum):
            space[f"k{i}"] = field.kind._value2member_map_.get
        elif field.kind not in (int, bool):
            space[f"k{i}"] = field.kind
    exec("\n".join(lines), space)  # text made from the fields above, never from input
    return space["decode"]  # type: ignore[no-any-return]


def _checks(fields: Sequence[tuple[int, Field]]) -> list[str]:
    # Lines that call `_misfit` for values that do not fit. Values of one width are joined first.
    lines, widths = [], dict[int, list[str]]()
    for i, field in fields:
        if field.signed or field.shift:
            low, high = field.limits
            stray = f" or v{i} & {(1 << field.shift) - 1}" if field.shift else ""
            lines.append(f"if not {low} <= v{i} <= {high}{stray}: self._misfit()")
        else:
            widths.setdefault(field.width, []).append(f"v{i}")
    for width, values in widths.items():
        lines.append(f"if ({' | '.join(values)}) >> {width}: self._misfit()")
    return lines


def _joined(fields: Sequence[tuple[int, Field]], words: int) -> list[str]:
    # For each dword the expression that joins its parts of some fields; "" for none.
    parts: list[list[str]] = [[] for _ in range(words)]
    for i, field in fields:
        value = f"(v{i} >> {field.shift})" if field.shift else f"v{i}"
        for word, bit, taken, done in _pieces(field):
            part = f"{value} >> {done}" if done else value
            if done + taken < field.width or field.signed:
                part = f"({part}) & {(1 << taken) - 1:#x}"
            parts[word].append(f"({part}) << {bit}" if bit else f"({part})")
    return [" | ".join(part) for part in parts]


def _fetch(fields: Sequence[tuple[int, Field]]) -> list[str]:
    return [f"v{i} = mine[{field.name!r}]" for i, field in fields]


def encoder(fields: Sequence[Field], words: int) -> Callable[[Any], list[int]]:
    """Return a function from an instance to its fixed dwords; misfits call `_misfit`.

    Like the decoder it remembers what many small fields come to.
    """
    every = list(enumerate(fields))
    small = [(i, field) for i, field in every if not _is_whole(field)]
    whole = [(i, field) for i, field in every if _is_whole(field)]
    space: dict[str, Any] = {"seen": {}}
    lines = ["mine = self.__dict__"]
    if len(small) < _MANY:
        lines += _fetch(every) + _checks(every)
        dwords = [text or "0" for text in _joined(every, words)]
    else:
        space["small"] = itemgetter(*(field.name for _, field in small))
        packed = {word: text for word, text in enumerate(_joined(small, words)) if text}
        lines += ["key = small(mine)", "known = seen.get(key)", "if known is None:"]
        body = [f"{', '.join(f'v{i}' for i, _ in small)}, = key", *_checks(small)]
        body += [
            f"known = ({', '.join(packed.values())},)",
            f"if len(seen) >= {_REMEMBERED}: seen.clear()",
            "seen[key] = known",
        ]
        lines += [f"    {line}" for line in body]
        lines += _fetch(whole) + _checks(whole)
        places = {word: f"known[{at}]" for at, word in enumerate(packed)}
        dwords = [places.get(at) or text or "0" for at, text in enumerate(_joined(whole, words))]
    lines += [
        f"words = [{', '.join(dwords)}]",
        "if mine['unknown']: self._restore(words)",
        "return words",
    ]
    exec("\n    ".join(["def encode(self):", *lines]), space)  # made from the fields above
    return space["encode"]  # type: ignore[no-any-return]

"""Follow the pointers in an ioctl's argument, by the roles of its fields."""

from collections.abc import Callable
from typing import Literal

from gputrace.bits import Field, Record
from gputrace.formats import ioctl
from gputrace.kfd import host
from gputrace.trace.events import Payload

MAX_BYTES = 1 << 20
"""No ioctl of the KFD takes an array that is larger; a larger count is read up to here only."""

_ITEM_BITS = {"gpu": 32, "queue": 32, "dword": 32, "byte": 8, "bit": 1}

Read = Callable[[int, int], bytes]
"""Returns bytes of the client's memory: address and size; fewer where there is nothing."""


def read_here(address: int, size: int) -> bytes:
    """Read this process's memory."""
    return bytes(host.view(address, size, writable=False))


def read_pointed(
    record: Record, access: Literal["r", "w"], read: Read = read_here
) -> dict[str, bytes]:
    """Return by field name what the kernel reads ("r") or writes ("w") behind its pointers.

    Null pointers and empty arrays are left out.
    """
    found = {}
    for field in pointers(type(record)):
        role = field.role
        assert role is not None
        if access not in role.access:
            continue
        address, size = getattr(record, field.name), min(pointed_size(record, field), MAX_BYTES)
        if address and size:
            found[field.name] = read(address, size)
    return found


_POINTERS: dict[type[Record], tuple[Field, ...]] = {}


def pointers(kind: type[Record]) -> tuple[Field, ...]:
    """Return the fields of a record that are pointers of the client."""
    known = _POINTERS.get(kind)
    if known is None:
        known = tuple(one for one in kind.FIELDS if one.role is not None and one.role.points)
        _POINTERS[kind] = known
    return known


def payloads(
    record: Record, before: dict[str, bytes], after: dict[str, bytes]
) -> tuple[Payload, ...]:
    """Return what was behind the pointers, as a trace holds it."""
    names = sorted(before.keys() | after.keys())
    return tuple(
        Payload(name, getattr(record, name), before.get(name, b""), after.get(name, b""))
        for name in names
    )


def pointed_size(record: Record, field: Field) -> int:
    """Return how many bytes the kernel takes to be behind a pointer of a record."""
    role = field.role
    assert role is not None
    if role.length is not None:
        return role.length if isinstance(role.length, int) else int(getattr(record, role.length))
    assert role.points is not None
    count = int(getattr(record, role.count)) if role.count else 1
    bits = _ITEM_BITS.get(role.points)
    if bits is None:
        bits = 32 * getattr(ioctl, role.points).WORDS
    return -(-count * bits // 8)

"""The errors that gputrace raises: few classes, each carrying the data that its message shows."""

from collections.abc import Mapping
from os import strerror

# Control characters of both sets, and those that turn the direction of text round.
_HIDDEN = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_SHOWN = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _HIDDEN}


def visible(text: str) -> str:
    """Return a text on one line in which nothing works on a terminal or ends a comment.

    Names and messages in a trace come from strangers.
    """
    return text.translate(_SHOWN)


class GputraceError(Exception):
    """Base of every error that gputrace raises on purpose."""


class UsageError(GputraceError):
    """What the user gave cannot be used; the message says what was expected, found, and to do."""


class DefinitionError(GputraceError):
    """One of our own declarations is wrong; raised when the module is imported."""


class FieldError(GputraceError, ValueError):
    """A value does not fit the field of a record."""

    def __init__(self, record: str, field: str, problem: str) -> None:
        self.record, self.field, self.problem = record, field, problem
        super().__init__(f"{record}.{field} {problem}")


class DecodeError(GputraceError):
    """Bits that no declaration explains.

    `where` names the place (a dword or byte offset and what it is an offset into), `raw` holds the
    bits in question and `reason` says what is wrong with them.
    """

    def __init__(self, where: str, raw: int | bytes, reason: str) -> None:
        self.where, self.raw, self.reason = where, raw, reason
        shown = f"{raw:#x}" if isinstance(raw, int) else raw[:16].hex()
        super().__init__(f"{where}: {reason} (found {shown})")


class TraceError(GputraceError):
    """A trace file is damaged or cannot be read; `where` names the block or byte offset.

    `path` is the file, where it is known. `damage` says whether a repair may help.
    """

    def __init__(self, where: str, reason: str, *, path: str = "", damage: bool = True) -> None:
        self.where, self.reason, self.path, self.damage = where, reason, path, damage
        super().__init__(where, reason)

    def __str__(self) -> str:
        """Name the file, the place in it and what is wrong there."""
        return ": ".join(part for part in (self.path, self.where, self.reason) if part)


class Untranslatable(GputraceError):
    """A field has no counterpart on another family."""

    def __init__(self, field: str, family: str, reason: str = "has no place") -> None:
        self.field, self.family, self.reason = field, family, reason
        super().__init__(f"{field} {reason} on {family}")


class KfdError(GputraceError):
    """The kernel, or the device that stands for it, refused an ioctl or a mapping."""

    def __init__(
        self, ioctl: str, errno: int, fields: Mapping[str, object] | None = None, reason: str = ""
    ) -> None:
        self.ioctl, self.errno, self.reason = ioctl, errno, reason
        self.fields = dict(fields or {})
        given = ", ".join(
            f"{name}={value:#x}" if isinstance(value, int) else f"{name}={value!r}"
            for name, value in self.fields.items()
        )
        text = f"{ioctl}({given}): {strerror(errno)} (errno {errno})"
        super().__init__(f"{text}: {reason}" if reason else text)


class DeviceFault(GputraceError):
    """The device reported a fault; every part that is not known is None."""

    def __init__(
        self,
        text: str,
        *,
        address: int | None = None,
        access: str | None = None,
        queue: int | None = None,
        packet: int | None = None,
        kernel: str | None = None,
        wave: int | None = None,
    ) -> None:
        self.address, self.access, self.queue = address, access, queue
        self.packet, self.kernel, self.wave = packet, kernel, wave
        super().__init__(text)


class Divergence(GputraceError):
    """A replay did something else than the recording."""

    def __init__(self, event: str, recorded: object, observed: object) -> None:
        self.event, self.recorded, self.observed = event, recorded, observed
        super().__init__(f"{event}: recorded {recorded!r}, observed {observed!r}")

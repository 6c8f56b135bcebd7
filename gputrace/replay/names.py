"""Turn what the recorded run called things into what this run calls them, by the fields' roles."""

from collections import defaultdict

from gputrace.bits import Field, Record
from gputrace.errors import Divergence


class Names:
    """The recorded and the live names of each kind of thing: buffers, queues, events, fds.

    Values that nothing made (a gpu_id of the same device, an address) stay as they are.
    """

    def __init__(self) -> None:
        self._live: defaultdict[str, dict[int, int]] = defaultdict(dict)

    def bind(self, kind: str, recorded: int, live: int) -> None:
        """Say that what was called `recorded` is called `live` now."""
        self._live[kind][recorded] = live

    def live(self, kind: str, recorded: int) -> int:
        """Return the live name of a thing."""
        return self._live[kind].get(recorded, recorded)

    def recorded(self, kind: str, live: int) -> int:
        """Return the recorded name of a thing that is called `live` now."""
        return next((was for was, now in self._live[kind].items() if now == live), live)

    def all(self, kind: str) -> tuple[int, ...]:
        """Return the recorded names of a kind that are alive."""
        return tuple(self._live[kind])

    def translate(self, record: Record) -> Record:
        """Return the record with every name that it uses replaced by the live one."""
        changes = {}
        for field in record.FIELDS:
            if field.role is not None and field.role.uses and not field.role.out:
                value = getattr(record, field.name)
                live = self.live(field.role.uses, value)
                if live != value:
                    changes[field.name] = live
        return record.replace(**changes) if changes else record

    def learn(self, recorded: Record, live: Record) -> None:
        """Take the names that a call made; forget those that it destroyed."""
        for field in recorded.FIELDS:
            role = field.role
            if role is None:
                continue
            if role.makes:
                self.bind(role.makes, getattr(recorded, field.name), getattr(live, field.name))
            if role.destroys and role.uses:
                self._live[role.uses].pop(getattr(recorded, field.name), None)


def check_outputs(event: str, recorded: Record, live: Record) -> None:
    """Raise Divergence when an answer differs in a field that is neither a name nor a clock."""
    for field in recorded.FIELDS:
        if _comparable(field):
            said, says = getattr(recorded, field.name), getattr(live, field.name)
            if said != says:
                raise Divergence(f"{event}.{field.name}", said, says)


def _comparable(field: Field) -> bool:
    role = field.role
    if role is None or not role.out or role.makes or role.uses:
        return False
    return not ("clock" in field.name or "offset" in field.name)

"""Make the device that a name asks for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar, cast

from gputrace.devices.emulated import BUDGET, EmulatedKfd
from gputrace.devices.emulated.device import EngineName
from gputrace.devices.emulated.process import Client
from gputrace.devices.emulated.recorded import RecordedKfd
from gputrace.devices.kfd import RealKfd
from gputrace.devices.names import parse_name
from gputrace.errors import UsageError
from gputrace.kfd.port import Kfd

E = TypeVar("E", bound=EmulatedKfd)
Wrapper = Callable[[Kfd], Kfd]
REAL_NODE = Path("/dev/kfd")
"""Where it is there are real GPUs."""

_wrapper: ContextVar[Wrapper | None] = ContextVar("wrapper", default=None)


_of_process: list[Wrapper | None] = [None]


def wrap_all(wrapper: Wrapper) -> None:
    """From now on every device of this process stands inside what `wrapper` returns for it."""
    _of_process[0] = wrapper


@contextmanager
def wrapped(wrapper: Wrapper) -> Iterator[None]:
    """Within this block every device that is made stands inside what `wrapper` returns for it."""
    token = _wrapper.set(wrapper)
    try:
        yield
    finally:
        _wrapper.reset(token)


def make_device(text: str) -> Kfd:
    """Return the device with this name, not opened yet. Raises UsageError for a wrong name."""
    device, wrapper = _plain_device(text), _wrapper.get() or _of_process[0]
    return wrapper(device) if wrapper else device


def _plain_device(text: str) -> Kfd:
    name = parse_name(text)
    return RealKfd(name.index) if name.scheme == "kfd" else emulated(text)


def emulated(text: str) -> EmulatedKfd:
    """Return the emulated device with this name.

    Raises UsageError for a wrong name, a real device and a target without facts.
    """
    return _emulated(EmulatedKfd, text)


def served(text: str, client: Client) -> EmulatedKfd:
    """Return the emulated device with this name for a client in another process, as `emulated`."""
    return _emulated(EmulatedKfd, text, client)


def recorded(text: str, client: Client) -> RecordedKfd:
    """Like `served`, for a recorder: doorbells wait until it has looked."""
    return _emulated(RecordedKfd, text, client)


def _emulated(kind: type[E], text: str, client: Client | None = None) -> E:
    name = parse_name(text)
    if name.scheme != "emu":
        raise UsageError(f"device {text!r}: expected an emulated one, such as emu:gfx942")
    options = name.options
    vram, schedule = options.get("vram"), options.get("schedule", 0)
    return kind(
        name.target,
        name.count,
        vram=None if vram is None else int(vram),
        schedule=int(schedule),
        budget=int(options.get("budget", BUDGET)),
        exact=name.exact,
        engine=cast(EngineName, options.get("engine", "auto")),
        cores=int(options.get("cores", 0)),
        name=text,
        client=client,
    )

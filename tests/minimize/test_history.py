"""The device that notes what retires can do what the one inside it can."""

import inspect

import pytest

from gputrace.capture.emulated import Emulated
from gputrace.minimize.history import Tap, make_emulated
from gputrace.replay.pacing import Stepped
from gputrace.replay.player import Resumable, Told


@pytest.mark.parametrize("protocol", [Emulated, Told, Resumable, Stepped])
def test_recorders_and_players_find_what_they_ask_for(protocol: type) -> None:
    tap = Tap(make_emulated("emu:gfx942"))
    wanted = {name for name in vars(protocol) if not name.startswith("_")}
    assert wanted
    # As isinstance looks at a protocol from Python 3.12 on: at what is there without asking.
    assert [name for name in wanted if inspect.getattr_static(tap, name, None) is None] == []
    assert isinstance(tap, protocol)

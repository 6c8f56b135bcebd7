"""Code that several threads load at once stays: there is one loader, made once."""

import threading
import time
from functools import cache

import pytest

from gputrace.isa import jit_library
from gputrace.isa.jit_store import Compiled, Store


class SlowLoader:
    """Takes its time to be made, as LLVM does."""

    made = 0

    def __init__(self) -> None:
        SlowLoader.made += 1
        time.sleep(0.05)

    def load(
        self, code: bytes, names: tuple[str, ...], imports: dict[str, int]
    ) -> dict[str, int]:
        return dict.fromkeys(names, id(self))


class Kept(Store):
    """Has everything."""

    def get(self, key: str) -> Compiled:
        return Compiled((), "", (), 0, (), (), 0, False, b"")


def test_threads_that_load_at_once_share_a_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit_library, "_loader", cache(SlowLoader))
    monkeypatch.setattr(jit_library, "_RUNTIMES", {})
    found, go = list[int](), threading.Barrier(4)

    def load(wave_size: int) -> None:
        go.wait()
        found.append(jit_library._runtime(wave_size, Kept())["drive"])

    threads = [threading.Thread(target=load, args=(size,)) for size in (32, 64, 32, 64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert SlowLoader.made == 1
    assert len(set(found)) == 1

"""Compiled regions by what their code is: in this process, on disk, or made now."""

import ctypes
import gc
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from gputrace.isa import jit_compile, jit_driver, jit_runtime
from gputrace.isa.graph import Graph, Node
from gputrace.isa.jit_emit import RegionEmitter
from gputrace.isa.jit_region import Item, Region, find_region
from gputrace.isa.jit_store import Compiled, Store, sources
from gputrace.isa.numpy_engine import NoMeaning
from gputrace.isa.numpy_floats import library_address
from gputrace.isa.trace import Mode

usable = jit_compile.usable

Fetch = Callable[[int, int], bytes | None]
"""Gives up to so many bytes of code at an address, None where nothing may be executed."""
GraphOf = Callable[[Mode, int, bytes], tuple[Graph, int]]
"""Gives what the instruction at an address does, and its bytes; raises NoMeaning."""

_PREFIX = 256  # bytes of code that a stored region is looked up by
_LONGEST = 20
_MOST_NODES = 500_000  # that one library compiles, in half a minute: numpy runs what is beyond
_BIG = 2500  # instructions of a region from which on code is made fast rather than fast code


@dataclass(frozen=True, slots=True)
class Loaded:
    """A region in this process and the address of its function."""

    about: Compiled
    address: int


class Library:
    """Finds or makes compiled regions; one for each machine."""

    def __init__(self, target: str, graph_of: GraphOf, store: Store) -> None:
        self._target = target
        self._graph_of = graph_of
        self._store = store
        self._known: dict[tuple[Mode, bytes], list[Loaded]] = {}
        self._refused: set[tuple[Mode, bytes]] = set()
        self.failures: list[str] = []
        """What LLVM did not accept, which is a mistake here; numpy runs such code."""
        self.compiled = 0
        """Instructions compiled so far, those from disk left out."""
        self._nodes = 0

    @property
    def regions(self) -> list[Loaded]:
        """All regions in this process that the library knows."""
        return [region for known in self._known.values() for region in known]

    def find(self, mode: Mode, fetch: Fetch, pc: int, make: bool) -> Loaded | None:
        """Return the region that begins at an address; None when it cannot or shall not be made."""
        prefix = fetch(pc, _PREFIX)
        if prefix is None:
            return None
        key = mode, prefix
        for known in self._known.get(key, ()):
            if _matches(known.about, fetch, pc):
                return known
        name = _key(self._target, repr(mode), prefix)
        stored = self._store.get(name)
        if stored is not None and _matches(stored, fetch, pc):
            return self._load(key, stored, mode.wave_size)
        if not make or key in self._refused or self._nodes > _MOST_NODES:
            return None
        made = self._make(mode, fetch, pc)
        if made is None:
            self._refused.add(key)
            return None
        self._store.put(name, made)
        return self._load(key, made, mode.wave_size)

    def drive(self, wave_size: int) -> Callable[[int], int]:
        """Return `drive` as a function of the address of a context."""
        address = _runtime(wave_size, self._store)["drive"]
        made: Callable[[int], int] = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(address)
        return made

    def _load(self, key: tuple[Mode, bytes], compiled: Compiled, wave_size: int) -> Loaded:
        known = _runtime(wave_size, self._store)
        imports = {name: known[name] for name in compiled.imports}
        digest = hashlib.blake2b(compiled.code, digest_size=16).digest()
        with _LOADING:
            address = _LOADED.get((wave_size, digest))
            if address is None:
                address = _loader().load(compiled.code, ("region",), imports)["region"]
                _LOADED[wave_size, digest] = address
        loaded = Loaded(compiled, address)
        self._known.setdefault(key, []).append(loaded)
        return loaded

    def _make(self, mode: Mode, fetch: Fetch, pc: int) -> Compiled | None:
        def item_at(at: int) -> Item:
            code = fetch(pc + at, _LONGEST)
            if code is None:
                raise NoMeaning("", (), "no code")
            graph, size = self._graph_of(mode, at, code)
            return Item(at, size, graph)

        try:
            with _uncollected():
                region = find_region(item_at)
                emitter = RegionEmitter(region, mode.wave_size, jit_compile.vector_words())
                text = emitter.module()
        except NoMeaning:
            return None
        if emitter.useless:
            return None
        self.compiled += region.instructions
        self._nodes += region.nodes
        try:
            code = jit_compile.compile_module(text, 1 if region.instructions < _BIG else 0)
        except RuntimeError as problem:
            self.failures.append(f"code at {pc:#x}: {problem}")
            return None
        return Compiled(
            spans=tuple(region.spans()),
            digest=_digest(region.spans(), fetch, pc),
            entries=tuple(region.entries),
            sites=emitter.sites,
            imports=tuple(emitter.helpers),
            written=tuple(sorted(_written(region))),
            instructions=region.instructions,
            ordered=any(map(_is_ordered, _nodes(region))),
            code=code,
        )


@contextmanager
def _uncollected() -> Iterator[None]:
    # The many nodes of graphs would have the garbage collector look at all objects again and again.
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _nodes(region: Region) -> Iterator[Node]:
    for block in region.blocks.values():
        for item in block:
            yield from item.graph.nodes


def _written(region: Region) -> set[int]:
    items = (item for block in region.blocks.values() for item in block)
    return set[int]().union(*(item.graph.written for item in items))


def _is_ordered(node: Node) -> bool:
    if node.prim != "atomic":
        return node.prim in ("clock", "sync")
    return not (isinstance(node.attribute, tuple) and node.attribute[0] == "lds")


def _digest(spans: list[tuple[int, int]], fetch: Fetch, pc: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for at, size in spans:
        digest.update(fetch(pc + at, size) or b"")
    return digest.hexdigest()


def _matches(compiled: Compiled, fetch: Fetch, pc: int) -> bool:
    return _digest(list(compiled.spans), fetch, pc) == compiled.digest


_LOADING = threading.RLock()
"""Held while code is loaded: a second loader made at the same time would take its code with it."""


@cache
def _loader() -> jit_compile.Loader:
    return jit_compile.Loader()


_LOADED: dict[tuple[int, bytes], int] = {}
"""Where regions lie in this process, by their object code, for all libraries."""
_RUNTIMES: dict[int, dict[str, int]] = {}


def _runtime(wave_size: int, store: Store) -> dict[str, int]:
    # Addresses of the helpers for this wave size, and of `drive`.
    with _LOADING:
        if wave_size not in _RUNTIMES:
            names = tuple(jit_runtime.names())
            mathematics = {name: library_address(name) for name in jit_runtime.MATHEMATICS}
            key = _key(f"helpers {wave_size}")
            found = _stored(key, lambda: jit_runtime.helpers(wave_size), names, mathematics, store)
            found |= _stored(_key("drive"), jit_driver.driver, ("drive",), {}, store)
            _RUNTIMES[wave_size] = found | mathematics
        return _RUNTIMES[wave_size]


def _key(*parts: str | bytes) -> str:
    # The name under which something is stored that follows from these parts.
    digest = hashlib.blake2b(digest_size=24)
    for part in (jit_compile.identity(), sources(), *parts):
        raw = part if isinstance(part, bytes) else part.encode()
        digest.update(hashlib.blake2b(raw).digest())
    return digest.hexdigest()


def _stored(
    key: str, text: Callable[[], str], names: tuple[str, ...], imports: dict[str, int], store: Store
) -> dict[str, int]:
    kept = store.get(key)
    if kept is None:
        code = jit_compile.compile_module(text(), 2, optimise="drive" in names)
        kept = Compiled((), "", (), 0, (), (), 0, False, code)
        store.put(key, kept)
    return _loader().load(kept.code, names, imports)

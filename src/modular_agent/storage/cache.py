"""A cache in front of hot reads: never stale after a write of this process.

A read names its tags: the tables, and the sessions (by their `n`), that its answer is made of. The writer says after
each commit, before anybody learns of it, which tags have changed: what is kept under them is dropped, and what is being
read for them at that moment is handed to those who asked before, but is not kept, and nobody else waits for it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self, TypeAlias, TypeVar, cast

from modular_agent.kit.clock import Clock
from modular_agent.kit.dataclass import dataclass

__all__ = ["ANY", "Cache", "CacheFigures", "Frozen", "Key", "MemoryCache", "Tag"]

Tag: TypeAlias = "str | int"  # a table's name, or a session's n
Frozen: TypeAlias = "bytes | str | int | float | tuple[Any, ...] | None"  # what nobody can change, SQL values above all
Key: TypeAlias = tuple[Hashable, ...]
V = TypeVar("V", bound=Frozen)

ANY: Final = ""  # the tag that every commit changes
CHANGES_KEPT: Final = 10_000  # tags that changed while something is being read


@dataclass(frozen=True, slots=True)
class CacheFigures:
    """How the cache does. `shared`: reads that waited for another's; they are neither hits nor misses."""

    size: int
    max_size: int
    hits: int
    misses: int
    shared: int
    evictions: int
    invalidations: int

    @property
    def hit_rate(self) -> float | None:
        """The share of reads that cost nothing (0 to 1); None before the first."""
        asked = self.hits + self.misses + self.shared
        return round((self.hits + self.shared) / asked, 4) if asked else None


class Cache(Protocol):
    """Answers of reads by key."""

    async def read(
        self,
        key: Key,
        load: Callable[[], Awaitable[V]],
        *,
        tags: Sequence[Tag],
        more_tags: Callable[[V], Sequence[Tag]] | None = None,
        ttl: float | None = None,
    ) -> V:
        """The answer that is kept, or what `load()` answers; of several at once with one key, one loads.

        `more_tags(answer)` are tags that only the answer tells. None is not kept. Raises what `load` raises.
        `ttl` (seconds) shortens the cache's own, for answers that depend on the time.
        """
        ...

    async def read_each(
        self,
        keys: Sequence[Key],
        load: Callable[[Sequence[Key]], Awaitable[Sequence[V]]],
        *,
        tags: Callable[[Key], Sequence[Tag]],
    ) -> Sequence[V]:
        """The answers of several keys; those that are not kept are loaded together, in the order of their keys.

        They need not be of one moment. Raises what `load` raises.
        """
        ...

    def changed(self, tags: Iterable[Tag]) -> None:
        """Forgets every answer with one of the tags, also those that are being read now."""
        ...

    def clear(self) -> None:
        """Forgets everything, also what is being read now."""
        ...

    def figures(self) -> CacheFigures:
        """How the cache does."""
        ...


class _Entry(NamedTuple):
    value: Frozen
    until: float  # monotonic seconds
    tags: Sequence[Tag]


@dataclass(slots=True, eq=False)
class _Load:
    """A read under way; `began` is how many changes there were before it."""

    task: "asyncio.Task[Any]"
    tags: Sequence[Tag]
    all_tags_known: bool
    began: int


class MemoryCache:
    """Keeps the answers in this process, at most `max_size`, each for `ttl` seconds; 0 of either keeps nothing.

    An async context manager: leaving it waits for the reads that are under way. Belongs to one event loop.
    """

    def __init__(self, *, clock: Clock, ttl: float, max_size: int) -> None:
        self._clock = clock
        self._ttl = ttl
        self._max_size = max_size if ttl > 0 else 0
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._keys: dict[Tag, set[Key]] = {}
        self._loads: dict[Key, _Load] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changes = 0
        self._cleared = 0  # the change that took everything
        self._recent: dict[Tag, int] = {}  # when a tag changed, while something is being read
        self._hits = self._misses = self._shared = self._evictions = self._invalidations = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.clear()

    async def read(
        self,
        key: Key,
        load: Callable[[], Awaitable[V]],
        *,
        tags: Sequence[Tag],
        more_tags: Callable[[V], Sequence[Tag]] | None = None,
        ttl: float | None = None,
    ) -> V:
        if not self._max_size:
            return await load()
        entry = self._entry(key)
        if entry is not None:
            return cast("V", entry.value)
        under_way = self._loads.get(key)
        if under_way is not None and self._is_fresh(under_way):
            self._shared += 1
            return await asyncio.shield(under_way.task)
        self._misses += 1
        return await asyncio.shield(self._start(key, load, tags=tags, more_tags=more_tags, ttl=ttl))

    async def read_each(
        self,
        keys: Sequence[Key],
        load: Callable[[Sequence[Key]], Awaitable[Sequence[V]]],
        *,
        tags: Callable[[Key], Sequence[Tag]],
    ) -> Sequence[V]:
        if not self._max_size:
            return await load(keys)
        found = {key: cast("V", entry.value) for key in keys if (entry := self._entry(key)) is not None}
        missing = [key for key in keys if key not in found]
        if missing:
            self._misses += len(missing)
            found.update(zip(missing, await asyncio.shield(self._load_each(missing, load, tags)), strict=True))
        return [found[key] for key in keys]

    def changed(self, tags: Iterable[Tag]) -> None:
        self._changes += 1
        for tag in tags:
            for key in tuple(self._keys.get(tag, ())):
                self._drop(key)
                self._invalidations += 1
            if self._tasks:
                self._recent[tag] = self._changes
        if len(self._recent) > CHANGES_KEPT:
            self._forget_reads()

    def clear(self) -> None:
        self._changes += 1
        self._invalidations += len(self._entries)
        self._entries.clear()
        self._keys.clear()
        self._forget_reads()

    def figures(self) -> CacheFigures:
        return CacheFigures(
            size=len(self._entries),
            max_size=self._max_size,
            hits=self._hits,
            misses=self._misses,
            shared=self._shared,
            evictions=self._evictions,
            invalidations=self._invalidations,
        )

    # -- reading -----------------------------------------------------------------------------------------------

    def _entry(self, key: Key) -> _Entry | None:
        """What is kept, if it may still be used."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._clock.monotonic() >= entry.until:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        self._hits += 1
        return entry

    def _load_each(
        self,
        keys: Sequence[Key],
        load: Callable[[Sequence[Key]], Awaitable[Sequence[V]]],
        tags: Callable[[Key], Sequence[Tag]],
    ) -> "asyncio.Task[Sequence[V]]":
        until, began = self._clock.monotonic() + self._ttl, self._changes

        async def run() -> Sequence[V]:
            values = await load(keys)
            for key, value in zip(keys, values, strict=True):
                every = tags(key)
                if value is not None and self._unchanged(every, since=began):
                    self._keep(key, _Entry(value, until, every))
            return values

        task = asyncio.get_running_loop().create_task(run(), name="cache load")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _start(
        self,
        key: Key,
        load: Callable[[], Awaitable[V]],
        *,
        tags: Sequence[Tag],
        more_tags: Callable[[V], Sequence[Tag]] | None,
        ttl: float | None,
    ) -> "asyncio.Task[V]":
        """A task of its own, so that who asked first may leave without those who wait with them."""
        until = self._clock.monotonic() + (self._ttl if ttl is None else min(ttl, self._ttl))

        async def run() -> V:
            value = await load()
            if value is not None:
                every = tags if more_tags is None else (*tags, *more_tags(value))
                if self._unchanged(every, since=under_way.began):
                    self._keep(key, _Entry(value, until, every))
            return value

        task = asyncio.get_running_loop().create_task(run(), name="cache load")
        under_way = _Load(task, tags, more_tags is None, self._changes)
        self._loads[key] = under_way
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(key, under_way))
        return task

    def _ended(self, key: Key, under_way: _Load) -> None:
        if self._loads.get(key) is under_way:
            del self._loads[key]
        self._done(under_way.task)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self._recent.clear()
        if not task.cancelled():
            task.exception()  # whoever waits gets it; if nobody does any more, that is nobody's fault

    def _is_fresh(self, under_way: _Load) -> bool:
        """Whether somebody who asks now may get what this read answers: nothing it is made of has changed since."""
        if under_way.began == self._changes:
            return True
        return under_way.all_tags_known and self._unchanged(under_way.tags, since=under_way.began)

    def _unchanged(self, tags: Sequence[Tag], *, since: int) -> bool:
        return self._cleared <= since and all(self._recent.get(tag, 0) <= since for tag in tags)

    def _forget_reads(self) -> None:
        self._cleared = self._changes
        self._recent.clear()

    # -- keeping -----------------------------------------------------------------------------------------------

    def _keep(self, key: Key, entry: _Entry) -> None:
        self._drop(key)
        self._entries[key] = entry
        for tag in entry.tags:
            self._keys.setdefault(tag, set()).add(key)
        if len(self._entries) > self._max_size:
            self._drop(next(iter(self._entries)))
            self._evictions += 1

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        for tag in () if entry is None else entry.tags:
            keys = self._keys.get(tag)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self._keys[tag]

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modular_agent.storage.cache import ANY, Key, MemoryCache

KEYS = st.sampled_from("abcde")


class HandClock:
    def __init__(self) -> None:
        self.time = 100.0

    def now_us(self) -> int:
        raise AssertionError("nothing here depends on the wall clock")

    def monotonic(self) -> float:
        return self.time


class Source:
    """Answers one value after the other, and counts how often it was asked."""

    def __init__(self, *values: str | None) -> None:
        self.values = list(values)
        self.asked = 0

    async def __call__(self) -> str | None:
        self.asked += 1
        await asyncio.sleep(0)
        return self.values.pop(0)


def cache_of(*, ttl: float = 60.0, max_size: int = 3) -> tuple[MemoryCache, HandClock]:
    clock = HandClock()
    return MemoryCache(clock=clock, ttl=ttl, max_size=max_size), clock


async def test_an_answer_is_kept_for_its_time_and_not_longer() -> None:
    cache, clock = cache_of(ttl=60)
    source = Source("one", "two")
    assert [await cache.read(("k",), source, tags=["t"]) for _ in range(2)] == ["one", "one"]
    clock.time += 59.9
    assert await cache.read(("k",), source, tags=["t"]) == "one"
    clock.time += 0.2
    assert await cache.read(("k",), source, tags=["t"]) == "two"


async def test_a_read_may_shorten_the_time_but_not_lengthen_it() -> None:
    cache, clock = cache_of(ttl=60)
    source = Source("one", "two", "three")
    await cache.read(("k",), source, tags=["t"], ttl=2)
    clock.time += 2
    assert await cache.read(("k",), source, tags=["t"], ttl=1000) == "two"
    clock.time += 60
    assert await cache.read(("k",), source, tags=["t"]) == "three"


async def test_the_answer_that_was_not_asked_for_the_longest_goes_first() -> None:
    cache, _ = cache_of(max_size=2)
    for key in ("a", "b", "a", "c"):
        await cache.read((key,), Source(key), tags=["t"])
    assert await cache.read(("a",), Source("new"), tags=["t"]) == "a"
    assert await cache.read(("b",), Source("new"), tags=["t"]) == "new"
    figures = cache.figures()
    assert (figures.size, figures.max_size, figures.evictions) == (2, 2, 2)


@pytest.mark.parametrize("limits", [{"ttl": 0.0}, {"max_size": 0}])
async def test_a_cache_without_time_or_room_keeps_nothing(limits: dict[str, float]) -> None:
    cache, _ = cache_of(**limits)  # pyright: ignore
    source = Source("one", "two")
    assert [await cache.read(("k",), source, tags=["t"]) for _ in range(2)] == ["one", "two"]


async def test_nothing_found_is_not_kept() -> None:
    cache, _ = cache_of()
    source = Source(None, "made meanwhile")
    assert await cache.read(("k",), source, tags=["t"]) is None
    assert await cache.read(("k",), source, tags=["t"]) == "made meanwhile"


async def test_of_many_at_once_one_reads() -> None:
    cache, _ = cache_of()
    source = Source("one")
    answers = await asyncio.gather(*(cache.read(("k",), source, tags=["t"]) for _ in range(50)))
    assert answers == ["one"] * 50
    assert source.asked == 1
    assert cache.figures().hit_rate == 0.98


async def test_who_leaves_first_does_not_take_the_answer_from_those_who_wait() -> None:
    cache, _ = cache_of()
    source = Source("one")
    first = asyncio.create_task(cache.read(("k",), source, tags=["t"]))
    second = asyncio.create_task(cache.read(("k",), source, tags=["t"]))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "one"
    assert first.cancelled()


async def test_a_failure_is_everybody_s_who_waited_and_nobody_s_afterwards() -> None:
    cache, _ = cache_of()

    async def fails() -> str:
        await asyncio.sleep(0)
        raise OSError("the disk")

    failed = await asyncio.gather(*(cache.read(("k",), fails, tags=["t"]) for _ in range(2)), return_exceptions=True)
    assert [type(each) for each in failed] == [OSError, OSError]
    assert await cache.read(("k",), Source("one"), tags=["t"]) == "one"


async def test_a_slow_reader_does_not_put_back_what_was_written_over() -> None:
    cache, _ = cache_of()
    gate = asyncio.Event()

    async def slow() -> str:
        await gate.wait()
        return "old"

    reader = asyncio.create_task(cache.read(("k",), slow, tags=["t"], more_tags=lambda _: [7]))
    await asyncio.sleep(0)
    cache.changed([7])  # a tag that the reader does not know yet
    after = asyncio.create_task(cache.read(("k",), Source("new"), tags=["t"], more_tags=lambda _: [7]))
    assert await after == "new"  # it does not wait for the slow one
    gate.set()
    assert await reader == "old"
    assert await cache.read(("k",), Source("never asked"), tags=["t"]) == "new"


async def test_a_change_of_something_else_disturbs_nobody() -> None:
    cache, _ = cache_of()
    source = Source("one")
    reader = asyncio.create_task(cache.read(("k",), source, tags=["t"]))
    await asyncio.sleep(0)
    cache.changed(["other", 8])
    assert await asyncio.gather(reader, cache.read(("k",), source, tags=["t"])) == ["one", "one"]
    assert source.asked == 1


async def test_leaving_waits_for_the_reads_under_way() -> None:
    cache, _ = cache_of()
    gate = asyncio.Event()

    async def slow() -> str:
        await gate.wait()
        return "late"

    async with cache:
        reader = asyncio.create_task(cache.read(("k",), slow, tags=["t"]))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.01, gate.set)
    assert await reader == "late"
    assert cache.figures().size == 0


class NeverStale(RuleBasedStateMachine):
    """Reads, slow reads, writes and time in any order, against a store that is always right."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.cache, self.clock = cache_of(ttl=10, max_size=3)
        self.store = dict.fromkeys("abcde", 0)
        self.written = 0
        self.slow: list[tuple[str, int, asyncio.Event, asyncio.Task[tuple[str, int]]]] = []

    def run(self, work: Awaitable[object]) -> object:
        async def settle() -> object:
            return await work

        return self.loop.run_until_complete(settle())

    def loader(self, key: str, gate: asyncio.Event | None) -> Callable[[], Awaitable[tuple[str, int]]]:
        async def load() -> tuple[str, int]:
            value = (key, self.store[key])  # read at the start, handed over late: the worst case
            if gate is not None:
                await gate.wait()
            return value

        return load

    def read(
        self, key: str, gate: asyncio.Event | None, by_answer: bool, ttl: float | None = None
    ) -> Awaitable[tuple[str, int]]:
        load = self.loader(key, gate)
        if by_answer:
            return self.cache.read((key,), load, tags=[], more_tags=lambda value: [value[0]], ttl=ttl)
        return self.cache.read((key,), load, tags=[key], ttl=ttl)

    @rule(key=KEYS, by_answer=st.booleans(), ttl=st.sampled_from([None, 1.0, 100.0]))
    def reads_see_the_last_write(self, key: str, by_answer: bool, ttl: float | None) -> None:
        if any(task for name, _, gate, task in self.slow if name == key and not gate.is_set()):
            return  # it might wait for that one; `starts_a_slow_read` covers it
        assert self.run(self.read(key, None, by_answer, ttl)) == (key, self.store[key])

    @rule(keys=st.lists(KEYS, unique=True, max_size=3))
    def reads_several_and_sees_the_last_write_of_each(self, keys: list[str]) -> None:
        async def load(missing: Sequence[Key]) -> list[tuple[str, int]]:
            values = [(str(key), self.store[str(key)]) for _, key in missing]
            await asyncio.sleep(0)
            return values

        several = self.cache.read_each([("each", key) for key in keys], load, tags=lambda key: [str(key[1])])
        assert self.run(several) == [(key, self.store[key]) for key in keys]

    @rule(key=KEYS, written=KEYS)
    def writes_while_several_are_read(self, key: str, written: str) -> None:
        before = self.store[key]

        async def load(missing: Sequence[Key]) -> list[tuple[str, int]]:
            values = [(key, self.store[key]) for _ in missing]
            self.writes({written})
            return values

        several = self.cache.read_each([("each", key)], load, tags=lambda _: [key])
        assert self.run(several) == [(key, before)]

    @rule(key=KEYS, by_answer=st.booleans())
    def starts_a_slow_read(self, key: str, by_answer: bool) -> None:
        gate = asyncio.Event()

        async def start() -> asyncio.Task[tuple[str, int]]:
            task = asyncio.ensure_future(self.read(key, gate, by_answer))
            for _ in range(3):
                await asyncio.sleep(0)
            return task

        task = self.run(start())
        assert isinstance(task, asyncio.Task)
        self.slow.append((key, self.store[key], gate, task))

    @precondition(lambda self: self.slow)
    @rule(data=st.data())
    def a_slow_read_ends(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.slow) - 1))
        for key, value, gate, task in self.slow[: index + 1]:  # one may wait for an earlier one
            gate.set()
            assert self.run(task) == (key, value)  # as it was when it was asked, or newer: here the same
        del self.slow[: index + 1]

    @rule(keys=st.sets(KEYS, min_size=1))
    def writes(self, keys: set[str]) -> None:
        self.written += 1
        for key in keys:
            self.store[key] = self.written
        self.cache.changed([ANY, *keys])

    @rule()
    def writes_nobody_knows_what(self) -> None:
        self.written += 1
        self.store = dict.fromkeys(self.store, self.written)
        self.cache.clear()

    @rule(seconds=st.floats(0, 15))
    def time_passes(self, seconds: float) -> None:
        self.clock.time += seconds

    @invariant()
    def it_stays_small(self) -> None:
        assert self.cache.figures().size <= 3

    def teardown(self) -> None:
        for _, _, gate, task in self.slow:
            gate.set()
            self.run(task)
        self.loop.close()


TestNeverStale = NeverStale.TestCase
TestNeverStale.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

"""Rates: how many requests of one subject are let in, whatever they do, and what it costs to know."""

import time
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from modular_agent.api.middleware.moving_window import MAX_SUBJECTS, MovingWindow, RecentRequests
from modular_agent.kit.clock import SystemClock


@dataclass
class FakeClock:
    seconds: float = 0.0

    def now_us(self) -> int:
        raise AssertionError("rates do not go by the wall clock")

    def monotonic(self) -> float:
        return self.seconds


@given(
    amount=st.integers(1, 5),
    seconds=st.sampled_from([0.5, 1.0, 7.25]),
    waits=st.lists(st.sampled_from([0.0, 0.125, 0.5, 1.0, 3.0, 10.0]), max_size=40),
)
async def test_in_no_window_are_more_let_in_than_allowed_and_none_is_refused_that_fits(
    amount: int, seconds: float, waits: list[float]
) -> None:
    clock = FakeClock()
    window = MovingWindow(clock)
    let_in: list[float] = []
    for wait in waits:
        clock.seconds += wait
        within = [at for at in let_in if clock.seconds - at < seconds]
        verdict = await window.hit("somebody", amount=amount, seconds=seconds)
        assert verdict.let_in == (len(within) < amount)
        assert verdict.left == amount - len(within) - verdict.let_in
        if verdict.let_in:
            let_in.append(clock.seconds)
        else:
            assert verdict.seconds == max(0.0, within[0] + seconds - clock.seconds)


async def test_subjects_do_not_know_one_another() -> None:
    window = MovingWindow(FakeClock())
    assert [(await window.hit(name, amount=1, seconds=60)).let_in for name in ("a", "b", "a/b", "a", "b")] == [
        *(True, True, True, False, False)
    ]


async def test_memory_has_a_bound_and_who_is_silent_is_forgotten() -> None:
    clock = FakeClock()
    recent = RecentRequests(clock)
    for number in range(MAX_SUBJECTS + 500):
        clock.seconds += 0.0001
        await recent.acquire_entry(str(number), 1, 60)
    assert len(recent) == MAX_SUBJECTS
    assert not await recent.acquire_entry(str(MAX_SUBJECTS + 499), 1, 60)
    assert await recent.acquire_entry("0", 1, 60)  # forgotten, as who came longest ago
    clock.seconds += 61
    await recent.acquire_entry("later", 1, 60)
    assert len(recent) == 1


async def test_a_request_costs_as_little_beside_ten_thousand_addresses_as_alone() -> None:
    window = MovingWindow(SystemClock())
    names = [f"203.0.{number >> 8}.{number & 255}" for number in range(MAX_SUBJECTS)]

    async def spend(subjects: list[str], count: int = 5_000) -> float:
        started = time.process_time()
        for number in range(count):
            await window.hit(subjects[number % len(subjects)], amount=120, seconds=6)
        return (time.process_time() - started) / count * 1e6

    alone = min([await spend(["203.0.113.7"]) for _ in range(3)])
    for name in names:
        await window.hit(name, amount=120, seconds=6)
    beside = min([await spend(names) for _ in range(3)])
    print(f"{alone:.1f} µs alone, {beside:.1f} µs beside {len(names)}")
    assert beside < 100  # about 7 on an idle machine; the library's own storage needs 900

"""The token bucket never lets more through than its rate and burst allow, and never less after a pause."""

from hypothesis import given
from hypothesis import strategies as st

from modular_agent.realtime.rate import TokenBucket


@given(
    rate=st.floats(0.5, 100),
    burst=st.integers(1, 20),
    pauses=st.lists(st.floats(0, 2), min_size=1, max_size=200),
)
def test_no_more_than_burst_and_rate_pass_in_any_time(rate: float, burst: int, pauses: list[float]) -> None:
    now, passed = 100.0, 0
    bucket = TokenBucket(rate=rate, burst=burst, now=now)
    for pause in pauses:
        now += pause
        passed += bucket.take(now) == 0
        assert passed <= burst + rate * (now - 100.0) + 1e-6


@given(rate=st.floats(0.5, 100), burst=st.integers(1, 20))
def test_who_waits_as_long_as_told_gets_through(rate: float, burst: int) -> None:
    bucket = TokenBucket(rate=rate, burst=burst, now=0.0)
    waits = [bucket.take(0.0) for _ in range(burst + 1)]
    assert waits[:-1] == [0.0] * burst
    assert waits[-1] > 0
    assert bucket.take(waits[-1] + 1e-9) == 0.0

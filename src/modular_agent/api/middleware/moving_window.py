"""Requests counted in moving windows, by the library `limits` over a storage in memory that has a bound.

The library's own memory storage is not used: it looks at every subject on every request (with 10,000 of them 0.9 ms
each), goes by the wall clock, and knows no bound. The strategy takes this one as it would take the library's Redis.
"""

from collections import OrderedDict, deque
from typing import Final, NamedTuple, NoReturn

from limits import RateLimitItemPerSecond
from limits.aio.storage import MovingWindowSupport, Storage
from limits.aio.strategies import MovingWindowRateLimiter

from modular_agent.kit.clock import Clock

__all__ = ["MAX_SUBJECTS", "MovingWindow", "RecentRequests", "Verdict"]

MAX_SUBJECTS: Final = 10_000  # beyond, the one that was let in longest ago is forgotten


class Verdict(NamedTuple):
    """Whether a request is let in, how many more would be now, and in how many seconds another one will be."""

    let_in: bool
    left: int
    seconds: float


class MovingWindow:
    """Lets `amount` requests of each subject in, in any `seconds`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._strategy = MovingWindowRateLimiter(RecentRequests(clock))

    async def hit(self, subject: str, *, amount: int, seconds: float) -> Verdict:
        item = _Window(amount, seconds)
        let_in = await self._strategy.hit(item, subject)
        reset, left = await self._strategy.get_window_stats(item, subject)
        return Verdict(let_in, left, max(0.0, reset - self._clock.monotonic()))


class _Window(RateLimitItemPerSecond):
    """The library's windows are of whole seconds; these need not be."""

    __slots__ = ("seconds",)

    def __init__(self, amount: int, seconds: float) -> None:
        super().__init__(amount)
        self.seconds = seconds

    def get_expiry(self) -> float:  # pyright: ignore[reportIncompatibleMethodOverride] - only Redis needs an int
        return self.seconds


class RecentRequests(Storage, MovingWindowSupport):
    """When each subject was let in, for as long as it counts; for moving windows only."""

    STORAGE_SCHEME = None

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()  # who was let in longest ago first

    def __len__(self) -> int:
        """How many subjects are remembered."""
        return len(self._times)

    async def acquire_entry(self, key: str, limit: int, expiry: float, amount: int = 1) -> bool:
        """Lets `amount` requests in, or none."""
        now = self._clock.monotonic()
        times = self._recent(key, now - expiry)
        if len(times) + amount > limit:
            return False
        times.extend([now] * amount)
        self._times[key] = times
        self._times.move_to_end(key)
        self._forget(now - expiry)
        return True

    async def get_moving_window(self, key: str, limit: int, expiry: float) -> tuple[float, int]:
        """When the oldest request that counts was let in (now, if there is none), and how many count."""
        now = self._clock.monotonic()
        times = self._recent(key, now - expiry)
        return (times[0] if times else now), len(times)

    def _recent(self, key: str, since: float) -> deque[float]:
        times = self._times.get(key) or deque[float]()
        while times and times[0] <= since:
            times.popleft()
        return times

    def _forget(self, since: float) -> None:
        while self._times:
            key, times = next(iter(self._times.items()))
            if len(self._times) <= MAX_SUBJECTS and times and times[-1] > since:
                return
            del self._times[key]

    # -- what the library asks of every storage ----------------------------------------------------------------

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    async def clear(self, key: str) -> None:
        self._times.pop(key, None)

    async def reset(self) -> int:
        count = len(self._times)
        self._times.clear()
        return count

    async def check(self) -> bool:
        return True

    async def incr(self, key: str, expiry: int, amount: int = 1) -> NoReturn:
        raise NotImplementedError("only moving windows are counted here")

    async def get(self, key: str) -> NoReturn:
        raise NotImplementedError("only moving windows are counted here")

    async def get_expiry(self, key: str) -> NoReturn:
        raise NotImplementedError("only moving windows are counted here")

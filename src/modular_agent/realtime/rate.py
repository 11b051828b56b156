"""A token bucket: how often something may happen."""

__all__ = ["TokenBucket"]


class TokenBucket:
    """Lets `rate` per second pass on average and `burst` at once. Times are monotonic seconds."""

    __slots__ = ("_burst", "_last", "_rate", "_tokens")

    def __init__(self, *, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._last = now

    def take(self, now: float) -> float:
        """Takes one if there is one: 0.0; otherwise the seconds until there will be."""
        self._tokens = min(self._burst, self._tokens + (now - self._last) * self._rate)
        self._last = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate

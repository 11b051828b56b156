"""Sums of model calls as figures: seconds, dollars, percent."""

from collections.abc import Sequence
from typing import Any, Final, Self

from modular_agent.kit.clock import MICROSECONDS
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.statistics.sums import USAGE

__all__ = ["NANO", "Usage", "dollars", "rate"]

NANO: Final = 1_000_000_000
DECIMALS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What model calls came to. `cost_nano` in nano-dollars, without the calls that have no known price."""

    calls: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    unpriced_tokens: int = 0
    cost_nano: int = 0
    duration_us: int = 0
    first_token_us: int = 0
    first_tokens: int = 0
    min_us: int = 0
    max_us: int = 0

    @classmethod
    def of(cls, sums: Sequence[int] | None) -> Self:
        """The sums of `USAGE`, all of them; None is of nothing."""
        return cls() if sums is None else cls(**dict(zip(USAGE.sums, sums, strict=True)))

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def cost(self) -> float | None:
        return dollars(self.cost_nano, tokens=self.total_tokens, unpriced=self.unpriced_tokens)

    @property
    def error_rate(self) -> float | None:
        return rate(self.errors, self.calls)

    def average(self) -> float | None:
        """Seconds a call took."""
        return round(self.duration_us / self.calls / MICROSECONDS, DECIMALS) if self.calls else None

    def average_first_token(self) -> float | None:
        """Seconds until the first token of a call came."""
        return round(self.first_token_us / self.first_tokens / MICROSECONDS, DECIMALS) if self.first_tokens else None

    def tokens(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
            "cached_tokens": self.cached_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "unpriced_tokens": self.unpriced_tokens,
            "request_count": self.calls,
        }

    def money(self) -> dict[str, Any]:
        return {
            "cost": self.cost,
            "total_tokens": self.total_tokens,
            "unpriced_tokens": self.unpriced_tokens,
            "request_count": self.calls,
        }


def dollars(nano: int, *, tokens: int, unpriced: int) -> float | None:
    """US dollars; None where nothing is known but tokens without a price: that is not free.

    A call may have a cost and no tokens, where its provider says the one and not the other.
    """
    return None if unpriced and unpriced == tokens and not nano else nano / NANO


def rate(part: int, whole: int) -> float | None:
    """Percent; None of nothing."""
    return round(100 * part / whole, DECIMALS) if whole else None

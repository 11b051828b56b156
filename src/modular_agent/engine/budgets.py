"""What a run may use: reserved before a model call, settled after it.

Reserving and settling do not await, so parallel branches cannot overspend together by more than one call each.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from modular_agent.engine.spec.model import LimitsSpec
from modular_agent.engine.store import ModelCall

__all__ = ["Budget", "Excess", "Limits"]

NANO: Final = 1_000_000_000

Limits = dict[str, float | None]
LIMIT_NAMES: Final = ("max_iterations", "max_tokens", "max_cost_usd", "max_seconds", "max_steps")


@dataclass(frozen=True, slots=True)
class Excess:
    """A limit that the next call would break, with what was used so far (units of the limit)."""

    limit: str
    maximum: float
    used: float


@dataclass(slots=True)
class Budget:
    """The limits of a run and what it has used. `elapsed` answers the run's active seconds."""

    limits: Limits
    on_exceed: Literal["pause", "fail"]
    elapsed: Callable[[], float]
    calls: int = 0
    tokens: int = 0
    unpriced_tokens: int = 0
    cost_nano: int = 0
    reserved_calls: int = 0
    reserved_tokens: int = 0

    @classmethod
    def of(cls, spec: LimitsSpec, overrides: Iterable[Mapping[str, Any]], *, elapsed: Callable[[], float]) -> "Budget":
        """The workflow's limits with those of each mapping in front of them, the last one winning."""
        limits: Limits = {name: getattr(spec, name) for name in LIMIT_NAMES}
        on_exceed = spec.on_exceed
        for override in overrides:
            limits.update({name: override[name] for name in LIMIT_NAMES if name in override})
            on_exceed = override.get("on_exceed", on_exceed)
        return cls(limits=limits, on_exceed=on_exceed, elapsed=elapsed)

    def replay(self, calls: Iterable[ModelCall]) -> None:
        """Counts calls that were made before a restart."""
        for call in calls:
            self._count(call)

    def excess(self, *, calls: int = 0, tokens: int = 0, steps: int = 0) -> Excess | None:
        """The first limit that `calls` more calls of about `tokens` tokens would break, reservations included.

        `steps` counts the step in progress. Money and time are over their limit once it is used up.
        """
        after: dict[str, float] = {
            "max_iterations": self.calls + self.reserved_calls + calls,
            "max_tokens": self.tokens + self.reserved_tokens + tokens,
            "max_steps": steps,
        }
        used: dict[str, float] = {"max_cost_usd": self.cost_nano / NANO, "max_seconds": self.elapsed()}
        for name, maximum in self.limits.items():
            if maximum is None:
                continue
            if name in used:
                over, amount = bool(calls) and used[name] >= maximum, used[name]
            else:
                over, amount = after[name] > maximum, after[name] - {"max_iterations": calls}.get(name, 0)
            if over:
                return Excess(name, maximum, amount)
        return None

    def reserve(self, *, tokens: int) -> int:
        """Holds a call of about `tokens` tokens; answers the reservation, to be given back to `settle`."""
        self.reserved_calls += 1
        self.reserved_tokens += tokens
        return tokens

    def settle(self, reserved: int, call: ModelCall | None) -> None:
        """Gives a reservation back and counts what the call really used (None: it was never made)."""
        self.reserved_calls -= 1
        self.reserved_tokens -= reserved
        if call is not None:
            self._count(call)

    def raise_limits(self, limits: Mapping[str, Any]) -> None:
        """Takes new limits, as a person answered them."""
        self.limits.update({name: limits[name] for name in LIMIT_NAMES if limits.get(name) is not None})

    def _count(self, call: ModelCall) -> None:
        tokens = call.prompt_tokens + call.completion_tokens
        self.calls += 1
        self.tokens += tokens
        if call.cost_nano is None:
            self.unpriced_tokens += tokens
        else:
            self.cost_nano += call.cost_nano

    def spent(self) -> dict[str, Any]:
        """What was used, as JSON."""
        return {
            "iterations": self.calls,
            "tokens": self.tokens,
            "cost_usd": self.cost_nano / NANO,
            "unpriced_tokens": self.unpriced_tokens,
            "seconds": round(self.elapsed(), 3),
        }

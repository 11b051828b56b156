"""Calling models until one answers: retries with backoff, then the fallbacks.

The wait before attempt n is drawn evenly from 0 to `backoff * 2 ** (n - 2)` ("full jitter":
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). If the provider asked for a wait, it is that
one and up to `backoff` more, so that all who were refused together do not come back together.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from modular_agent.engine.providers.errors import AllModelsFailed, ProviderError
from modular_agent.engine.providers.port import ChatModel, ChatRequest, Completion, DeltaSink
from modular_agent.kit.dataclass import dataclass

__all__ = ["Attempt", "AttemptObserver", "NoObserver", "RetryPolicy", "complete_with_fallback"]

_Draw: TypeAlias = Callable[[], float]
_Sleep: TypeAlias = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently to try; times are in seconds.

    `max_attempts` bounds the attempts at each model, `max_total_attempts` those at all models together. A provider that
    asks for a wait longer than `max_retry_after` is left for the next model at once.
    """

    max_attempts: int = 3
    max_total_attempts: int = 8
    backoff: float = 0.5
    max_backoff: float = 20.0
    max_retry_after: float = 60.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.max_total_attempts < 1:
            raise ValueError("at least one attempt")
        if min(self.backoff, self.max_backoff, self.max_retry_after) < 0:
            raise ValueError("a wait cannot be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One call of one model. `number` counts all attempts from 1, `number_at_model` those at this model."""

    model: ChatModel
    number: int
    number_at_model: int


class AttemptObserver(Protocol):
    """What the engine does around each attempt. May raise: the error ends the whole."""

    async def started(self, attempt: Attempt) -> DeltaSink:
        """Before the call; returns where its pieces go (a new message id for each attempt)."""
        ...

    async def failed(self, attempt: Attempt, error: BaseException, *, seconds: float, retry_in: float | None) -> None:
        """After a failed or cancelled call: what was streamed is void.

        `seconds` is how long the call took; `retry_in` the wait before the next attempt, None if there is none.
        Must not await anything long when `error` is a cancellation.
        """
        ...

    async def succeeded(self, attempt: Attempt, completion: Completion, *, seconds: float) -> None:
        """After a call that answered; `seconds` is how long it took."""
        ...


class NoObserver:
    """An observer that looks away; pieces go to `on_delta`."""

    def __init__(self, on_delta: DeltaSink) -> None:
        self._on_delta = on_delta

    async def started(self, attempt: Attempt) -> DeltaSink:
        return self._on_delta

    async def failed(self, attempt: Attempt, error: BaseException, *, seconds: float, retry_in: float | None) -> None:
        return None

    async def succeeded(self, attempt: Attempt, completion: Completion, *, seconds: float) -> None:
        return None


async def complete_with_fallback(
    models: Sequence[ChatModel],
    request: ChatRequest,
    *,
    observer: AttemptObserver,
    policy: RetryPolicy | None = None,
    draw: _Draw = random.random,
    sleep: _Sleep = asyncio.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Completion:
    """The first completion that one of `models` (in order) gives.

    After a retryable error the same model is tried again, after any other the next one: what one provider refuses may
    suit another. `draw` gives numbers from 0
    to 1, `sleep` takes seconds. Raises `AllModelsFailed` when there was more than one attempt, the `ProviderError`
    itself when there was one only. Anything else, a cancellation above all, passes through at once.
    """
    if not models:
        raise ValueError("no model to call")
    policy = policy or RetryPolicy()
    tried: list[str] = []
    number = 0
    last: ProviderError | None = None
    for position, model in enumerate(models):
        has_next = position + 1 < len(models)
        number_at_model = 0
        while number_at_model < policy.max_attempts:
            number_at_model += 1
            number += 1
            attempt = Attempt(model=model, number=number, number_at_model=number_at_model)
            outcome = await _try(
                attempt, request, observer=observer, policy=policy, draw=draw, monotonic=monotonic, has_next=has_next
            )
            if isinstance(outcome, Completion):
                return outcome
            last, wait = outcome
            if wait is None or number >= policy.max_total_attempts:
                break
            if wait:
                await sleep(wait)
        assert last is not None
        tried.append(f"{model.model} at {model.provider} ({number_at_model}x, {last.reason.value})")
        if number >= policy.max_total_attempts:
            break
    assert last is not None
    if number == 1:
        raise last
    raise AllModelsFailed(last, tried=tried) from last


async def _try(
    attempt: Attempt,
    request: ChatRequest,
    *,
    observer: AttemptObserver,
    policy: RetryPolicy,
    draw: _Draw,
    monotonic: Callable[[], float],
    has_next: bool,
) -> Completion | tuple[ProviderError, float | None]:
    """One attempt: its completion, or its error and the wait before the next at this model (None: no more)."""
    on_delta = await observer.started(attempt)
    begin = monotonic()
    try:
        completion = await attempt.model.complete(request, on_delta)
    except ProviderError as error:
        wait = _wait(error, attempt, policy=policy, draw=draw)
        another = has_next and attempt.number < policy.max_total_attempts
        retry_in = wait if wait is not None else (0.0 if another else None)
        await observer.failed(attempt, error, seconds=monotonic() - begin, retry_in=retry_in)
        return error, wait
    except BaseException as error:
        await observer.failed(attempt, error, seconds=monotonic() - begin, retry_in=None)
        raise
    await observer.succeeded(attempt, completion, seconds=monotonic() - begin)
    return completion


def _wait(error: ProviderError, attempt: Attempt, *, policy: RetryPolicy, draw: _Draw) -> float | None:
    used_up = attempt.number_at_model >= policy.max_attempts or attempt.number >= policy.max_total_attempts
    if not error.retryable or used_up:
        return None
    if error.retry_after is not None:
        if error.retry_after > policy.max_retry_after:
            return None
        return error.retry_after + draw() * policy.backoff
    return draw() * min(policy.max_backoff, policy.backoff * 2 ** (attempt.number_at_model - 1))

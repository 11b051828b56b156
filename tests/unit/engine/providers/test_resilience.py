"""A call is tried again where that may help, and every attempt is told."""

import asyncio

import pytest

from modular_agent.engine.providers.errors import AllModelsFailed, ProviderError, ProviderErrorKind
from modular_agent.engine.providers.port import ChatRequest
from modular_agent.engine.providers.resilience import NoObserver, RetryPolicy, complete_with_fallback
from modular_agent.engine.providers.script import parse_script
from modular_agent.engine.providers.scripted import ScriptedModel

REQUEST = ChatRequest(messages=[{"role": "user", "content": "x"}])


def model(name: str, **turn: object) -> ScriptedModel:
    return ScriptedModel(parse_script({"turns": [turn]}, source=name), source=name, model=name)


class Recorder:
    """Remembers what an engine would log."""

    def __init__(self) -> None:
        self.log: list[tuple] = []
        self.pieces: dict[int, list[str]] = {}

    async def started(self, attempt):
        self.log.append(("start", attempt.number, attempt.model.model, attempt.number_at_model))
        pieces = self.pieces.setdefault(attempt.number, [])
        return lambda _, text: pieces.append(text)

    async def failed(self, attempt, error, *, seconds, retry_in) -> None:
        assert seconds >= 0
        self.log.append(("failed", attempt.number, getattr(error, "reason", type(error).__name__), retry_in))

    async def succeeded(self, attempt, completion, *, seconds) -> None:
        self.log.append(("done", attempt.number, completion.message["content"]))


class Sleeps:
    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


async def run(*models, policy=None, draw=lambda: 0.5):
    recorder, sleeps = Recorder(), Sleeps()
    try:
        outcome = await complete_with_fallback(
            models, REQUEST, observer=recorder, policy=policy, draw=draw, sleep=sleeps
        )
    except ProviderError as error:
        outcome = error
    return outcome, recorder, sleeps.taken


async def test_a_model_that_recovers_is_tried_again_with_growing_waits() -> None:
    flaky = model("a", reply="hi", fail={"kind": "overloaded", "times": 2})
    outcome, recorder, waits = await run(flaky)
    assert outcome.message["content"] == "hi"
    assert waits == [0.25, 0.5]
    assert recorder.log == [
        ("start", 1, "a", 1),
        ("failed", 1, "overloaded", 0.25),
        ("start", 2, "a", 2),
        ("failed", 2, "overloaded", 0.5),
        ("start", 3, "a", 3),
        ("done", 3, "hi"),
    ]


async def test_the_pieces_of_a_failed_attempt_are_kept_apart() -> None:
    flaky = model("a", reply="one two three", fail={"kind": "connection", "after_chunks": 2, "times": 1})
    _, recorder, _ = await run(flaky)
    assert recorder.pieces == {1: ["one", " two"], 2: ["one", " two", " three"]}


async def test_the_wait_is_drawn_between_nothing_and_a_bound() -> None:
    policy = RetryPolicy(max_attempts=6, backoff=1.0, max_backoff=3.0)
    failing = model("a", fail={"kind": "timeout"})
    _, _, longest = await run(failing, policy=policy, draw=lambda: 1.0)
    assert longest == [1.0, 2.0, 3.0, 3.0, 3.0]
    _, _, none = await run(failing, policy=policy, draw=lambda: 0.0)
    assert none == []


async def test_the_providers_wait_is_honoured_up_to_a_cap() -> None:
    limited = model("a", reply="hi", rate_limit={"retry_after": 7, "times": 1})
    outcome, _, waits = await run(limited)
    assert (outcome.message["content"], waits) == ("hi", [7.25])
    limited = model("a", reply="hi", rate_limit={"retry_after": 120, "times": 1})
    outcome, recorder, waits = await run(limited, model("b", reply="from b"))
    assert (outcome.message["content"], waits) == ("from b", [])
    assert recorder.log[1] == ("failed", 1, "rate_limited", 0.0)


async def test_what_will_not_pass_goes_to_the_next_model_at_once() -> None:
    refused = model("a", fail={"kind": "authentication", "status": 401})
    outcome, recorder, waits = await run(refused, model("b", reply="from b"))
    assert (outcome.message["content"], waits) == ("from b", [])
    assert [entry[:3] for entry in recorder.log if entry[0] == "start"] == [("start", 1, "a"), ("start", 2, "b")]


async def test_when_all_fail_the_error_says_what_was_tried() -> None:
    outcome, recorder, _ = await run(
        model("a", fail={"kind": "overloaded"}), model("b", fail={"kind": "permission", "message": "no"})
    )
    assert isinstance(outcome, AllModelsFailed)
    assert outcome.reason is ProviderErrorKind.PERMISSION
    assert outcome.last.detail == "no"
    assert outcome.tried == ("a at scripted (3x, overloaded)", "b at scripted (1x, permission)")
    assert recorder.log[-1] == ("failed", 4, "permission", None)


async def test_one_attempt_that_fails_raises_its_own_error() -> None:
    outcome, _, _ = await run(model("a", fail={"kind": "bad_request"}))
    assert type(outcome) is ProviderError


async def test_all_attempts_together_are_bounded() -> None:
    policy = RetryPolicy(max_attempts=3, max_total_attempts=4)
    outcome, recorder, _ = await run(*(model(name, fail={"kind": "timeout"}) for name in "abc"), policy=policy)
    assert len(outcome.tried) == 2
    assert sum(entry[0] == "start" for entry in recorder.log) == 4
    assert recorder.log[-1] == ("failed", 4, "timeout", None)


async def test_a_cancellation_passes_through_and_is_told() -> None:
    recorder = Recorder()
    work = complete_with_fallback(
        [model("a", hang=True), model("b", reply="never")], REQUEST, observer=recorder, sleep=Sleeps()
    )
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recorder.log == [("start", 1, "a", 1), ("failed", 1, "CancelledError", None)]


async def test_a_cancellation_during_a_wait_ends_it() -> None:
    task = asyncio.ensure_future(
        complete_with_fallback(
            [model("a", rate_limit={"retry_after": 30})], REQUEST, observer=NoObserver(lambda *_: None)
        )
    )
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_observer_that_fails_ends_the_call() -> None:
    class Full(NoObserver):
        async def started(self, attempt):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        await complete_with_fallback([model("a", reply="x")], REQUEST, observer=Full(lambda *_: None))


@pytest.mark.parametrize("wrong", [{"max_attempts": 0}, {"max_total_attempts": 0}, {"backoff": -1.0}])
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"attempt|negative"):
        RetryPolicy(**wrong)

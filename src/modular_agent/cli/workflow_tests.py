"""The `tests:` of workflow files, run in a data path of their own and compared with what they expect."""

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from modular_agent.cli.errors import RunLost
from modular_agent.cli.workflow_place import WorkflowPlace
from modular_agent.errors import AgentError, InvalidInput
from modular_agent.kit.dataclass import dataclass
from modular_agent.lifecycle import ENDED_RUN_STATUSES, RunStatus

if TYPE_CHECKING:
    from modular_agent.engine.spec.loader import LoadedWorkflow
    from modular_agent.engine.spec.model import TestSpec
    from modular_agent.runtime import Runtime
    from modular_agent.settings import Settings
    from modular_agent.storage.repositories.runs import RunRow
    from modular_agent.storage.repositories.sessions import SessionRow

__all__ = ["Difference", "TestResult", "run_tests"]

PARALLEL: Final = 8
RESTS: Final = ENDED_RUN_STATUSES | {RunStatus.PAUSED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something a test expected and did not get; both are JSON values."""

    what: str
    expected: Any
    actual: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """How a test went. `error` (code and text) is of a run that failed, or could not be started. Seconds."""

    __test__ = False  # not for pytest

    file: str
    name: str
    place: str
    differences: list[Difference] = field(default_factory=list[Difference])
    error: str | None = None
    duration: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.differences and self.error is None


async def run_tests(
    settings: "Settings",
    places: Sequence[WorkflowPlace],
    *,
    environment: dict[str, str],
    model: str | None,
    limit: float,
) -> list[TestResult]:
    """The results of every test in the files, in their order. `model` stands in for the one each test names.

    `limit` is how many seconds one test may take.
    """
    results: list[TestResult] = []
    for root in dict.fromkeys(place.root for place in places):
        with tempfile.TemporaryDirectory(prefix="modular-agent-test-") as folder:
            results += await _of_root(
                _sandboxed(settings, root, Path(folder)),
                [place for place in places if place.root == root],
                environment=environment,
                model=model,
                limit=limit,
            )
    return results


def _sandboxed(settings: "Settings", root: Path, folder: Path) -> "Settings":
    update = {"config_path": root, "data_path": folder, "database_url": None}
    return settings.model_copy(update={"storage": settings.storage.model_copy(update=update)})


async def _of_root(
    settings: "Settings",
    places: Sequence[WorkflowPlace],
    *,
    environment: dict[str, str],
    model: str | None,
    limit: float,
) -> list[TestResult]:
    from modular_agent.runtime import open_runtime

    async with open_runtime(settings, environment=environment) as runtime:
        trial = _Trial(runtime, model=model, limit=limit)
        results: list[TestResult] = []
        for place in places:
            results += await trial.of_file(place)
        return results


class _Trial:
    """Runs tests, a few at a time."""

    def __init__(self, runtime: "Runtime", *, model: str | None, limit: float) -> None:
        self._runtime = runtime
        self._model = model
        self._limit = limit
        self._places = asyncio.Semaphore(PARALLEL)

    async def of_file(self, place: WorkflowPlace) -> list[TestResult]:
        try:
            loaded = await self._runtime.catalog.load(place.path)
        except AgentError as error:
            return [TestResult(file=place.shown, name="-", place=place.shown, error=_told(error))]
        tests = list(enumerate(loaded.spec.tests))
        return await asyncio.gather(*(self._one(place, loaded, number, test) for number, test in tests))

    async def _one(self, place: WorkflowPlace, loaded: "LoadedWorkflow", number: int, test: "TestSpec") -> TestResult:
        name = test.name or (test.input if isinstance(test.input, str) else f"tests[{number}]")
        where = f"{place.shown} tests[{number}]"
        async with self._places:
            clock = self._runtime.clock
            began = clock.monotonic()
            differences: list[Difference] = []
            error: str | None = None
            try:
                differences, error = await self._outcome(loaded, test)
            except AgentError as refused:
                error = _told(refused)
            took = round(clock.monotonic() - began, 6)
        return TestResult(file=place.shown, name=name, place=where, differences=differences, error=error, duration=took)

    async def _outcome(self, loaded: "LoadedWorkflow", test: "TestSpec") -> tuple[list[Difference], str | None]:
        from modular_agent.domain.runs.requests import StartRequest
        from modular_agent.domain.sessions.service import CreateRequest

        runtime = self._runtime
        model = self._model or test.model
        config = {"model": model} if model else {}
        session = await runtime.sessions.create(CreateRequest(workflow_config_path=loaded.path, agent_config=config))
        given = StartRequest(message=test.input) if isinstance(test.input, str) else StartRequest(state=test.input)
        run_id = await runtime.runs.start(session, given)
        try:
            async with asyncio.timeout(self._limit):
                run = await self._at_rest(session, run_id, list(test.answers))
        except TimeoutError:
            await runtime.control.stop(session, by="test")
            return [], f"not finished after {self._limit:g} s"
        differences = await self._differences(session, run, test)
        failure = None
        if run.status is RunStatus.FAILED and test.expect.status != "failed" and run.error is not None:
            failure = f"{run.error['type']}: {run.error['message']}"
        return differences, failure

    async def _at_rest(self, session: "SessionRow", run_id: str, answers: list[Any]) -> "RunRow":
        """The run when it has ended, or waits for an answer that the test does not give. Raises `RunLost`."""
        runtime = self._runtime
        while True:
            await runtime.runs.wait(run_id)
            run = await runtime.runs.get(session.ref, run_id)
            if run.status not in RESTS:
                raise RunLost(run_id=run_id)
            if run.status is not RunStatus.PAUSED or not answers:
                return run
            asked = await runtime.runs.interrupts.of_run(run_id, session.ref)
            waiting = [row for row in asked if row.status == "open"]
            if not waiting:
                return run
            await runtime.control.answer(session, waiting[0].interrupt_id, answers.pop(0), by="test")

    async def _differences(self, session: "SessionRow", run: "RunRow", test: "TestSpec") -> list[Difference]:
        expect = test.expect
        found: list[Difference] = []
        if run.status != expect.status:
            found.append(Difference(what="status", expected=expect.status, actual=str(run.status)))
        if expect.path is not None:
            path = (await self._runtime.views.progress(session, run)).path
            path = [node for node in path if "/" not in node]  # the file's own: not those inside sub-workflows
            if path != list(expect.path):
                found.append(Difference(what="path", expected=list(expect.path), actual=path))
        if expect.tool_calls is not None:
            called = await self._tools_called(session, run)
            if called != list(expect.tool_calls):
                found.append(Difference(what="tool_calls", expected=list(expect.tool_calls), actual=called))
        state = await self._runtime.sessions.state(session)
        if expect.contains is not None:
            answer = _answer(state)
            wanted = [expect.contains] if isinstance(expect.contains, str) else list(expect.contains)
            found += [
                Difference(what="contains", expected=text, actual=answer) for text in wanted if text not in answer
            ]
        for key, value in (expect.state or {}).items():
            if key not in state or state[key] != value:
                found.append(Difference(what=f"state.{key}", expected=value, actual=state.get(key)))
        return found

    async def _tools_called(self, session: "SessionRow", run: "RunRow") -> list[str]:
        """The tools in the order in which the model asked for them."""
        import orjson

        from modular_agent.events import RecordType
        from modular_agent.storage.records import RecordFilter

        chosen = RecordFilter(types=(RecordType.MESSAGE,), run_id=run.run_id, message_types=("assistant",))
        page = await self._runtime.database.records.page(session.ref, chosen, limit=100_000)
        messages = [orjson.loads(record.line) for record in page.records]
        return [call["function"]["name"] for message in messages for call in message.get("tool_calls") or ()]


def _answer(state: dict[str, Any]) -> str:
    """The text of the last answer in the conversation."""
    from modular_agent.engine.nodes.conversation import text_of

    messages: list[dict[str, Any]] = state.get("messages") or []
    return next((text_of(each) for each in reversed(messages) if each["role"] == "assistant"), "")


def _told(error: AgentError) -> str:
    faults = [f"\n  {fault}" for fault in error.faults] if isinstance(error, InvalidInput) else []
    return f"{error.code}: {error.message()}{''.join(faults)}"

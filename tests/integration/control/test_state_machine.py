"""Control against a model: whatever people ask for, in whatever order, runs do what the table of statuses says.

A machine of hypothesis drives the domain's services on a real database, with scripted models and real tools, and looks
after each step whether what is stored is what the model of it says. The longer profile:

    CONTROL_EXAMPLES=500 uv run pytest tests/integration/control
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
import textwrap
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from modular_agent.domain.runs import StartRequest
from modular_agent.domain.sessions.service import CreateRequest
from modular_agent.errors import AgentError
from modular_agent.lifecycle import ENDED_RUN_STATUSES, RUN_TRANSITIONS, RunHold, RunStatus
from modular_agent.runtime import Runtime, open_runtime
from modular_agent.settings import load_settings

WORKFLOW: Final = """
schema: modular-agent/v1
name: machine
models: {main: {provider: scripted, script: scripts/machine.yaml}}
state: {schema: {type: object, properties: {note: {type: string}, approve: {type: boolean}}}}
tools: {work: {ref: "tools.machine:work", effect: read}}
nodes:
  think: {type: llm, model: main, tools: [work]}
  act: {type: tools}
  review: {type: human, question: "Good?", form: {approve: {type: boolean}}}
  close: {type: llm, model: main}
edges:
  - {from: START, to: think}
  - {from: think, to: act, when: has_tool_calls}
  - {from: think, to: review}
  - {from: act, to: think}
  - {from: review, to: close}
  - {from: close, to: END}
"""
SCRIPT: Final = """
turns:
  - when: {last_role: user, has_tool: work}
    delay: 5ms
    tool_calls: [{name: work, arguments: {}}, {name: work, arguments: {}}]
otherwise: {reply: thought, delay: 5ms}
"""
TOOL: Final = '''
import asyncio
import pathlib


async def work() -> str:
    """Works, and leaves a mark each moment."""
    for _ in range(4):
        with pathlib.Path("{marks}").open("a") as file:
            file.write(".")
        await asyncio.sleep(0.002)
    return "worked"
'''
REFUSALS: Final = {"run_not_paused", "no_active_run", "questions_open", "run_not_running", "illegal_transition",
                   "run_already_active", "interrupt_closed", "interrupt_not_found"}  # fmt: skip
SAID: Final = {"control", "interrupt"}  # what people say, also of a run that is held
HOLDS: Final = {"pause": {RunHold.PAUSE}, "step": {RunHold.STEP, RunHold.PAUSE}, "resume": {None}, "retry": {None}}
HOLDING: Final = {RunStatus.PAUSED, *ENDED_RUN_STATUSES}


class Control(RuleBasedStateMachine):
    """One session, two people who control it, and restarts in between."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(prefix="machine-"))
        self.runner = asyncio.Runner()
        self.stack = contextlib.AsyncExitStack()
        self.runtime: Runtime | None = None
        self.injected: list[str] = []
        self.given: list[str] = []
        self.noted: str | None = None

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(asyncio.wait_for(work, 20))

    # -- the product -------------------------------------------------------------------------------------------

    @initialize()
    def open(self) -> None:
        files = {"workflows/machine.yaml": WORKFLOW, "scripts/machine.yaml": SCRIPT, "tools/machine.py": TOOL}
        for name, text in files.items():
            file = self.path / "configs" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text.replace("{marks}", str(self.path / "marks"))))
        self.do(self._open())
        request = CreateRequest(workflow_config_path="workflows/machine.yaml")
        self.session_id = self.do(self.runtime.sessions.create(request)).session_id

    async def _open(self) -> None:
        given = {"DATA_PATH": str(self.path / "data"), "CONFIG_PATH": str(self.path / "configs"), "LOG_FILE": ""}
        quick = {"SHUTDOWN_GRACE_SECONDS": "0.1"}
        settings = load_settings({**given, **quick}, env_file=None)
        self.runtime = await self.stack.enter_async_context(open_runtime(settings, environment={}))

    async def _reopen(self) -> None:
        await self.stack.aclose()
        self.stack = contextlib.AsyncExitStack()
        await self._open()
        await self.runtime.recovery.take_up()

    def teardown(self) -> None:
        if self.runtime is not None:
            self.do(self.finish())
            self.do(self.stack.aclose())
        self.runner.close()
        shutil.rmtree(self.path)

    # -- what people do ----------------------------------------------------------------------------------------

    async def session(self) -> Any:
        return await self.runtime.sessions.get(self.session_id)

    async def attempt(self, verb: Any, *arguments: Any, **more: Any) -> Any:
        """What somebody asks for: it happens, or is refused in words we know."""
        try:
            return await verb(await self.session(), *arguments, **more)
        except AgentError as error:
            if error.code not in REFUSALS:
                raise
            return None

    async def start_run(self, text: str) -> None:
        if await self.attempt(self.runtime.runs.start, StartRequest(message=text)):
            self.given.append(text)

    async def control(self, action: str, by: str) -> None:
        control = self.runtime.control
        verbs = {"pause": control.pause, "stop": control.stop, "resume": control.resume, "retry": control.retry}
        if action == "step":
            await self.attempt(control.resume, by=by, step=True)
        elif action == "answer":
            await self.answer_one(by)
        else:
            run = await self.attempt(verbs[action], by=by)
            if run is not None and action in ("pause", "stop"):
                await self.nothing_executes(run, action)

    async def answer_one(self, by: str) -> None:
        questions = await self.runtime.runs.interrupts.open((await self.session()).ref)
        if questions:
            question = questions[0]
            given = {"approve": True}
            await self.attempt(self.runtime.control.answer, question.interrupt_id, given, by=by)

    async def nothing_executes(self, run: Any, action: str) -> None:
        """After `paused` or `stopped` was said, no code leaves a mark, and no record but of what people say."""
        row = await self.runtime.runs.rows.get(run.run_id)
        if row.status not in HOLDING or (action == "pause" and row.status is not RunStatus.PAUSED):
            return
        marks, session, epoch = self.marks(), await self.session(), row.epoch
        await asyncio.sleep(0.01)
        row = await self.runtime.runs.rows.get(run.run_id)
        if row.epoch == epoch:  # nobody took it up again
            assert self.marks() == marks
            written = await self.runtime.database.records.after(session.ref, seq=session.last_seq, limit=100)
            assert {orjson.loads(each.line)["record_type"] for each in written} <= SAID

    def marks(self) -> int:
        file = self.path / "marks"
        return file.stat().st_size if file.exists() else 0

    async def settle(self) -> None:
        for run in (await self.runtime.runs.rows.page((await self.session()).ref, limit=100)).runs:
            await self.runtime.runs.wait(run.run_id)

    async def finish(self) -> None:
        """Whatever was done to it, the session can be brought to an end, and then holds what was said."""
        for _ in range(20):
            await self.settle()
            run = await self.runtime.runs.rows.active((await self.session()).ref)
            if run is None:
                break
            await self.answer_one("finish")
            await self.settle()
            run = await self.runtime.runs.rows.active((await self.session()).ref)
            if run is not None and run.status is RunStatus.PAUSED:
                await self.attempt(self.runtime.control.resume, by="finish")
        else:
            raise AssertionError("the session cannot be brought to an end")
        page = await self.runtime.runs.rows.page((await self.session()).ref, limit=1)
        if page.runs:
            await self.start_run("last")
            await self.settle()
            await self.answer_one("finish")
            await self.settle()
            state = await self.runtime.sessions.state(await self.session())
            said = [m["content"] for m in state["messages"] if m["role"] == "user"]
            assert [text for text in said if text in self.given] == self.given, "an input was lost, doubled or moved"
            assert len(said) == len(set(said)), "a message came twice"
            assert set(self.injected) <= set(said), "a message that somebody put in was lost"

    # -- rules -------------------------------------------------------------------------------------------------

    people = st.sampled_from(["ann", "bob"])
    moments = st.sampled_from([0.0, 0.002, 0.006, 0.015, 0.04])
    actions = st.sampled_from(["pause", "resume", "step", "stop", "retry", "answer"])

    @rule(moment=moments)
    def start(self, moment: float) -> None:
        async def work() -> None:
            await self.start_run(f"input {len(self.given)}")
            await asyncio.sleep(moment)

        self.do(work())

    @rule(action=actions, by=people)
    def one_person(self, action: str, by: str) -> None:
        self.do(self.control(action, by))

    @rule(first=actions, second=actions, moment=moments)
    def two_people(self, first: str, second: str, moment: float) -> None:
        async def later() -> None:
            await asyncio.sleep(moment)
            await self.control(second, "bob")

        async def work() -> None:
            await asyncio.gather(self.control(first, "ann"), later())

        self.do(work())

    @rule(action=st.sampled_from(["pause", "stop"]))
    def control_before_the_start(self, action: str) -> None:
        async def work() -> None:
            await self.start_run(f"input {len(self.given)}")
            await self.control(action, "ann")

        self.do(work())

    @rule(actions=st.sampled_from([("stop", "retry"), ("pause", "answer")]))
    def control_at_rest(self, actions: tuple[str, str]) -> None:
        async def work() -> None:
            await self.settle()
            for action, by in zip(actions, ("ann", "bob"), strict=True):
                await self.control(action, by)
            await self.settle()

        self.do(work())

    @rule()
    def inject(self) -> None:
        text = f"injected {len(self.injected)}"
        if self.do(self.attempt(self.runtime.interventions.inject, text, by="ann")):
            self.injected.append(text)

    @rule(value=st.sampled_from(["a", "b"]))
    def edit(self, value: str) -> None:
        async def work() -> None:
            if await self.attempt(self.runtime.interventions.edit, {"note": value}, by="ann"):
                assert (await self.runtime.sessions.state(await self.session()))["note"] == value

        self.do(work())

    @rule()
    def wait(self) -> None:
        self.do(self.settle())

    @precondition(lambda self: self.runtime is not None)
    @rule()
    def restart(self) -> None:
        self.do(self._reopen())

    # -- what holds always -------------------------------------------------------------------------------------

    @invariant()
    def the_log_tells_a_legal_story(self) -> None:
        if self.runtime is not None:
            self.do(self._check())

    async def _check(self) -> None:
        session = await self.session()
        runs = (await self.runtime.runs.rows.page(session.ref, limit=100)).runs
        rows = await self.runtime.database.records.after(session.ref, seq=0, limit=100_000)
        records = [orjson.loads(row.line) for row in rows]
        assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
        await self._check_statuses(records)
        logged = [record for record in records if record["record_type"] == "message"]
        ids = [record["record_id"] for record in logged]
        assert len(ids) == len(set(ids)), "a message was logged twice"
        if runs and runs[0].status is RunStatus.COMPLETED:  # nothing is under way
            messages = (await self.runtime.sessions.state(session))["messages"]
            _check_valid(messages)
            said = [(r["message_type"], r["record_id"]) for r in logged if r["metadata"].get("in_conversation", True)]
            held = [(message["role"], message["id"]) for message in messages]
            assert _in_groups(said) == _in_groups(held), _story(records, messages)

    async def _check_statuses(self, records: list[dict[str, Any]]) -> None:
        statuses: dict[str, RunStatus] = {}
        holds: dict[str, set[RunHold | None]] = {}
        active: str | None = None
        for record in records:
            if record["record_type"] == "run":
                run_id, status = record["run_id"], RunStatus(record["status"])
                before = statuses.get(run_id)
                assert before is None or status in RUN_TRANSITIONS[before], (before, status)
                assert active in (None, run_id), "two runs were active at once"
                if status in {RunStatus.QUEUED, RunStatus.RUNNING}:
                    assert holds.get(run_id) != {RunHold.PAUSE}, "a held run went on by itself"
                statuses[run_id] = status
                active = None if status in ENDED_RUN_STATUSES else run_id
            elif record["record_type"] == "control" and record["action"] in HOLDS:
                holds[record["run_id"]] = HOLDS[record["action"]]
            elif record["record_type"] in ("step", "llm_request", "tool_call") and record.get("phase") == "start":
                assert statuses[record["run_id"]] in {RunStatus.RUNNING, RunStatus.PAUSING, RunStatus.STOPPING}
        for run_id, status in statuses.items():
            row = await self.runtime.runs.rows.get(run_id)
            assert row.status in {status, *RUN_TRANSITIONS[status]}
            assert row.hold in holds.get(run_id, {None}), (row.hold, holds)


def _in_groups(messages: list[tuple[str, str]]) -> list[list[str]]:
    """The ids in order; results of parallel calls are logged as they come, and stand in the order of the calls."""
    groups: list[list[str]] = []
    before = ""
    for role, record_id in messages:
        if role == "tool" == before:
            groups[-1] = sorted([*groups[-1], record_id])
        else:
            groups.append([record_id])
        before = role
    return groups


def _story(records: list[dict[str, Any]], messages: list[dict[str, Any]]) -> str:
    """What happened, one line each, and the messages of the state."""
    kinds = ("run", "control", "interrupt", "message")
    names = ("status", "action", "phase", "message_type", "content", "record_id")
    told = [
        " ".join(
            str(each) for each in (r["seq"], (r["run_id"] or "")[-4:], *(r[name] for name in names if r.get(name)))
        )
        for r in records
        if r["record_type"] in kinds
    ]
    state = [f"{message['id']} {message['role']} {message['content']}" for message in messages]
    return "\n".join(["", *told, "the state:", *state])


def _check_valid(messages: list[dict[str, Any]]) -> None:
    """Each tool call has its result right after, and no result is without a call: what providers ask for."""
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting
            waiting.remove(message["tool_call_id"])
        else:
            assert waiting == []
            waiting = [call["id"] for call in message.get("tool_calls") or ()]
    assert waiting == []


@pytest.mark.timeout(3600)
def test_whatever_people_ask_for_runs_keep_to_the_table() -> None:
    run_state_machine_as_test(
        Control,
        settings=settings(
            max_examples=int(os.environ.get("CONTROL_EXAMPLES", "15")),
            stateful_step_count=12,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # moments are real time: a shorter sequence need not fail again
            suppress_health_check=list(HealthCheck),
        ),
    )

"""One `run` command: a run is started or taken up, shown, asked about, paused and stopped."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Final

from modular_agent.cli.errors import NothingToContinue, RunLost
from modular_agent.cli.figures import duration
from modular_agent.cli.hold import BY, Given, Hold
from modular_agent.cli.keyboard import Keyboard
from modular_agent.cli.questions import ItsTimeIsOver, NobodyAnswered, Questions
from modular_agent.cli.terminal import Terminal
from modular_agent.cli.transcript import Transcript
from modular_agent.kit.dataclass import dataclass
from modular_agent.lifecycle import ENDED_RUN_STATUSES, RunHold, RunStatus

if TYPE_CHECKING:
    from modular_agent.domain.runs.requests import StartRequest
    from modular_agent.events import CommittedRecord
    from modular_agent.realtime.subscription import SessionSubscription
    from modular_agent.runtime import Runtime
    from modular_agent.storage.repositories.interrupts import InterruptRow
    from modular_agent.storage.repositories.runs import RunRow
    from modular_agent.storage.repositories.sessions import SessionRow

__all__ = ["Conversation", "Manner"]

LOOK: Final = 0.5  # seconds after which a silent run is looked at: it might be nobody's any more
RESTS: Final = ENDED_RUN_STATUSES | {RunStatus.PAUSED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a run is shown: `as_json` prints its records and asks nothing. `answers` are given before the person is
    asked (any JSON values, in order)."""

    as_json: bool = False
    answers: Sequence[Any] = field(default_factory=tuple[Any, ...])


class Conversation:
    """Carries one run of a session from its start to where it rests. An interrupt pauses it, a second one stops it."""

    def __init__(self, runtime: "Runtime", session: "SessionRow", *, terminal: Terminal, manner: Manner) -> None:
        self._runtime = runtime
        self._session = session
        self._terminal = terminal
        self._manner = manner
        self._answers = list(manner.answers)
        self._keyboard = Keyboard(self._interrupted)
        self._questions = Questions(terminal, self._keyboard)
        self._hold = Hold(runtime, session, terminal=terminal, keyboard=self._keyboard)
        self._is_held = False  # the person decides about every pause
        self._waits = False  # for an answer, before anything happens
        self._interrupts = 0
        self._control: asyncio.Task[Any] | None = None
        self._transcript: Transcript | None = None
        self._unread: BrokenPipeError | None = None  # nobody reads what we print any more

    async def start(self, request: "StartRequest") -> RunStatus:
        """Starts a run; answers how it rests."""
        return await self._carry(lambda: self._runtime.runs.start(self._session, request))

    async def go_on(self, given: Given) -> RunStatus:
        """Takes up the session's last run: resumes it, asks what it waits for, or tries again where it failed.

        What it is given needs a paused run. Raises `NothingToContinue`, `NotPaused`.
        """
        return await self._carry(lambda: self._take_up(given))

    # -- the run -----------------------------------------------------------------------------------------------

    async def _carry(self, begin: Any) -> RunStatus:  # a function that answers an awaitable of the run's id
        runtime, session = self._runtime, self._session
        forget = runtime.database.log.listen(self._print_lines) if self._manner.as_json else None
        self._transcript = None if forget else await self._make_transcript()
        subscription = runtime.hub.subscribe(session.ref, after_seq=session.last_seq)
        try:
            async with subscription, self._keyboard:
                run_id = await begin()
                status = await self._rest(subscription, run_id)
                if self._control is not None:
                    await self._control
        finally:
            if forget is not None:
                forget()
            if self._transcript is not None:
                self._transcript.close()
        run = await runtime.runs.get(session.ref, run_id)
        if self._transcript is not None:
            self._summary(self._transcript, run)
        return status

    async def _take_up(self, given: Given) -> str:
        runtime, session = self._runtime, self._session
        page = await runtime.runs.rows.page(session.ref, limit=1)
        if not page.runs or page.runs[0].status is RunStatus.COMPLETED:
            raise NothingToContinue(session_id=session.session_id)
        run = page.runs[0]
        await self._hold.give(given)
        self._is_held = given.step
        self._waits = run.status is RunStatus.PAUSED and bool(await self._open_questions(run.run_id))
        if given.step:
            await self._hold.go_on(step=True)
        elif run.status in (RunStatus.FAILED, RunStatus.STOPPED):
            await runtime.control.retry(session, by=BY)
        elif run.status is not RunStatus.PAUSED:  # a process that died has left it behind
            if run.status in (RunStatus.PAUSING, RunStatus.STOPPING):
                rests = RunStatus.PAUSED if run.status is RunStatus.PAUSING else RunStatus.STOPPED
                run = await runtime.runs.close(session.ref, run, rests)
            else:
                await runtime.runs.go_on(session, run)
        elif run.hold is not None or not self._waits:
            await self._hold.go_on(step=False)
        return run.run_id

    async def _rest(self, subscription: "SessionSubscription", run_id: str) -> RunStatus:
        """Follows the run, answering its questions, until it rests."""
        if self._waits and not await self._answer(run_id):
            return RunStatus.PAUSED
        while True:
            status = await self._follow(subscription, run_id)
            if status is not RunStatus.PAUSED or not await self._goes_on(run_id):
                return status

    async def _goes_on(self, run_id: str) -> bool:
        """Whether a paused run goes on: its questions are answered, or whoever holds it says so."""
        if await self._open_questions(run_id):
            run = await self._runtime.runs.get(self._session.ref, run_id)
            is_paused = self._interrupts > 0 or run.hold is RunHold.PAUSE  # an answer would not have it go on
            return not is_paused and await self._answer(run_id)
        self._is_held = self._is_held or self._interrupts > 0
        if not self._is_held or self._manner.as_json or not self._keyboard.is_watched:
            return False
        if self._control is not None:
            await self._control  # a second Ctrl-C may still be on its way
        if self._interrupts > 1:
            return True
        if self._transcript is not None:
            self._transcript.close()
        self._interrupts = 0
        return await self._hold.ask()

    async def _follow(self, subscription: "SessionSubscription", run_id: str) -> RunStatus:
        """Shows what happens until the run rests."""
        while True:
            batch = await subscription.next_batch(timeout=LOOK)
            if self._unread is not None:
                raise self._unread
            rested: RunStatus | None = None
            for event in batch:
                if self._transcript is not None:
                    self._transcript.take(event.type, event.envelope)
                if event.run_id == run_id and event.run_status in RESTS:
                    rested = RunStatus(event.run_status)
            if rested is not None:
                return rested
            if not batch and await self._is_left(run_id):
                return RunStatus.PAUSED

    async def _is_left(self, run_id: str) -> bool:
        """Whether a silent run waits for its time to come while the person wants to go.

        Raises `RunLost` when nobody executes the run and nothing says so.
        """
        if self._runtime.supervisor.is_here(run_id):
            return False
        run = await self._runtime.runs.get(self._session.ref, run_id)
        if run.status not in RESTS:
            raise RunLost(run_id=run_id)
        return run.status is RunStatus.PAUSED and self._interrupts > 0

    # -- questions ---------------------------------------------------------------------------------------------

    async def _open_questions(self, run_id: str) -> "list[InterruptRow]":
        rows = await self._runtime.runs.interrupts.of_run(run_id, self._session.ref)
        return [row for row in rows if row.status == "open"]

    async def _answer(self, run_id: str) -> bool:
        """Answers all that is open; whether the run goes on."""
        asked = await self._open_questions(run_id)
        for row in asked:
            if not await self._answer_one(row):
                return False
        return bool(asked)

    async def _answer_one(self, row: "InterruptRow") -> bool:
        """Whether the question is answered, or will be by the clock."""
        from modular_agent.domain.runs.errors import AnswerInvalid
        from modular_agent.storage.errors import InterruptClosed

        while True:
            try:
                answer = await self._find_answer(row)
            except NobodyAnswered:
                return False
            except ItsTimeIsOver:
                return True
            try:
                await self._runtime.control.answer(self._session, row.interrupt_id, answer, by=BY)
            except InterruptClosed:  # the clock was quicker
                return True
            except AnswerInvalid as error:
                if self._manner.as_json:
                    raise
                self._questions.refused(error.faults)
                continue
            return True

    async def _find_answer(self, row: "InterruptRow") -> Any:  # any JSON value
        """The next given answer, else the person's. Raises `NobodyAnswered`, `ItsTimeIsOver`."""
        if row.kind == "wait":
            if not self._manner.as_json:
                until = row.question.get("until", "")
                self._terminal.say(self._terminal.text("Waiting until {t}.", "等待至 {t}。", t=until), style="dim")
            raise ItsTimeIsOver
        if self._answers:
            return self._answers.pop(0)
        if self._manner.as_json:
            raise NobodyAnswered
        if self._transcript is not None:
            self._transcript.close()
        return await self._questions.ask(row, now_us=self._runtime.clock.now_us())

    # -- interrupts --------------------------------------------------------------------------------------------

    def _interrupted(self) -> None:
        """Ctrl-C while the run is under way."""
        self._interrupts += 1
        terminal = self._terminal
        if self._interrupts == 1:
            terminal.say(
                terminal.text(
                    "\nPausing after the step in progress (Ctrl-C again stops it) ...",
                    "\n将在当前步骤结束后暂停（再按 Ctrl-C 停止）……",
                ),
                style="yellow",
            )
            self._control = asyncio.create_task(self._ask("pause", None), name="pause the run")
        elif self._interrupts == 2:
            terminal.say(terminal.text("Stopping ...", "正在停止……"), style="yellow")
            self._control = asyncio.create_task(self._ask("stop", self._control), name="stop the run")

    async def _ask(self, action: str, before: "asyncio.Task[Any] | None") -> None:
        """Asks for a control; a run that has come to rest by itself meanwhile has no need of it."""
        from modular_agent.domain.runs.errors import NoActiveRun
        from modular_agent.errors import IllegalTransition

        control = self._runtime.control
        try:
            await (control.pause if action == "pause" else control.stop)(self._session, by=BY)
        except (NoActiveRun, IllegalTransition):
            return
        finally:
            if before is not None:
                await asyncio.wait({before})

    # -- showing -----------------------------------------------------------------------------------------------

    async def _make_transcript(self) -> Transcript:
        loaded = await self._runtime.catalog.loaded(self._session.workflow_version)
        speakers = {
            name
            for name, node in loaded.spec.nodes.items()
            if node.type == "agent" or (node.type == "llm" and node.writes in (None, "messages"))
        }
        return Transcript(self._terminal, speakers=speakers)

    def _print_lines(self, records: "Sequence[CommittedRecord]") -> None:
        """The log's own lines, byte for byte."""
        lines = b"".join(record.line for record in records if record.session.n == self._session.n)
        if lines and self._unread is None:
            try:
                sys.stdout.buffer.write(lines)
                sys.stdout.buffer.flush()
            except BrokenPipeError as error:  # not the log's fault, which calls us
                self._unread = error

    def _summary(self, transcript: Transcript, run: "RunRow") -> None:
        terminal, status = self._terminal, run.status
        took = duration(run.active_us / 1_000_000)
        parts = [terminal.text(*_STATUS[status]), " → ".join(_shortened(transcript.path))]
        parts += [transcript.spent.shown(terminal), took]
        style = {RunStatus.COMPLETED: "green", RunStatus.FAILED: "red"}.get(status, "yellow")
        terminal.say("")
        if status is RunStatus.FAILED and run.error is not None:
            terminal.say(f"error[{run.error['type']}]: {run.error['message']}", style="red")
        terminal.say(" · ".join(part for part in parts if part), style=style)
        self._next_step(run)

    def _next_step(self, run: "RunRow") -> None:
        terminal, session_id = self._terminal, self._session.session_id
        if run.status is RunStatus.COMPLETED:
            terminal.say(terminal.text("session {id}", "会话 {id}", id=session_id), style="dim")
            return
        wanted = {
            RunStatus.PAUSED: ("Go on with", "继续运行"),
            RunStatus.FAILED: ("Try again with", "重试"),
            RunStatus.STOPPED: ("Take it up again with", "重新开始"),
        }.get(run.status, ("See", "查看"))
        terminal.say(f"{terminal.text(*wanted)}: modular-agent run --session {session_id}")


_STATUS: Final[Mapping[RunStatus, tuple[str, str]]] = {
    RunStatus.QUEUED: ("queued", "排队中"),
    RunStatus.RUNNING: ("running", "运行中"),
    RunStatus.PAUSING: ("pausing", "正在暂停"),
    RunStatus.PAUSED: ("paused", "已暂停"),
    RunStatus.STOPPING: ("stopping", "正在停止"),
    RunStatus.COMPLETED: ("completed", "已完成"),
    RunStatus.FAILED: ("failed", "失败"),
    RunStatus.STOPPED: ("stopped", "已停止"),
}


def _shortened(path: Sequence[str]) -> list[str]:
    return list(path) if len(path) <= 12 else [*path[:6], "…", *path[-5:]]

"""`run`: a workflow in the terminal."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modular_agent.cli.arguments import json_or_text, state_of
from modular_agent.cli.exit_codes import ExitCode, exit_code_of_run
from modular_agent.cli.options import Configs, DataPath, Invocation, names_root, read_settings

if TYPE_CHECKING:
    from modular_agent.cli.conversation import Manner
    from modular_agent.cli.terminal import Terminal
    from modular_agent.cli.workflow_place import WorkflowPlace
    from modular_agent.lifecycle import RunStatus
    from modular_agent.runtime import Runtime
    from modular_agent.settings import Settings
    from modular_agent.storage.repositories.sessions import SessionRow

__all__ = ["run"]


def run(
    context: typer.Context,
    workflow: Annotated[
        str | None, typer.Argument(metavar="[WORKFLOW]", help="A workflow file, or its name below the configs root.")
    ] = None,
    message: Annotated[str | None, typer.Argument(metavar="[INPUT]", help="The input; - reads standard input.")] = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="Continue this session; without INPUT, its last run.")
    ] = None,
    state: Annotated[
        list[str] | None, typer.Option("--state", metavar="KEY=JSON", help="Set a key of the state; repeatable.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="A model of the workflow, or a model id.")
    ] = None,
    step: Annotated[bool, typer.Option("--step", help="With --session: run one step of the paused run.")] = False,
    answer: Annotated[
        list[str] | None, typer.Option("--answer", metavar="JSON", help="Answer the next question so; repeatable.")
    ] = None,
    data_path: DataPath = None,
    configs: Configs = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the log's records, JSON lines; ask nothing.")] = False,
) -> None:
    """Run a workflow here: the answer streams, questions are asked, Ctrl-C pauses and a second one stops.

    Exit codes: 0 completed, 1 failed, 2 cannot be used as given, 3 paused, 4 stopped.
    """
    from modular_agent.cli.conversation import Manner
    from modular_agent.cli.workflow_place import find_place
    from modular_agent.settings import environment
    from modular_agent.storage.errors import DataPathInUse

    terminal = Invocation.of(context).terminal
    if session is not None and message is None and workflow is not None:
        workflow, message = None, workflow  # run --session ID "input"
    settings = read_settings(data_path=data_path, configs=configs)
    root = settings.storage.config_path
    place = None if workflow is None else find_place(workflow, root=root, root_is_given=names_root(configs))
    command = Command(
        settings=_rooted(settings, place.root if place is not None else root),
        environment=environment(),
        terminal=terminal,
        place=place,
        session_id=session,
        message=_read_input(message),
        state=state_of(state or []),
        model=model,
        step=step,
        manner=Manner(as_json=as_json, answers=[json_or_text(each) for each in answer or []]),
    )
    command.check()
    try:
        status = asyncio.run(command.carry_out())
    except DataPathInUse as error:
        terminal.error(error)
        terminal.say(_elsewhere(terminal, settings.storage.data_path))
        raise typer.Exit(ExitCode.USAGE) from error
    raise typer.Exit(exit_code_of_run(status))


class Command:
    """What the arguments of `run` came to."""

    def __init__(
        self,
        *,
        settings: "Settings",
        environment: dict[str, str],
        terminal: "Terminal",
        place: "WorkflowPlace | None",
        session_id: str | None,
        message: str | None,
        state: dict[str, Any],
        model: str | None,
        step: bool,
        manner: "Manner",
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._terminal = terminal
        self._place = place
        self._session_id = session_id
        self._message = message
        self._state = state
        self._model = model
        self._step = step
        self._manner = manner

    def check(self) -> None:
        """Raises `InputMissing`, `ArgumentInvalid` before anything is opened."""
        from modular_agent.cli.errors import ArgumentInvalid, InputMissing

        if self._session_id is None and (self._place is None or (self._message is None and not self._state)):
            raise InputMissing(workflow=self._place.path if self._place else "WORKFLOW")
        if self._session_id is not None and self._model is not None:
            raise ArgumentInvalid(option="--model", value=f"{self._model} (--session)", example="run WORKFLOW --model")
        if self._session_id is None and self._step:
            raise ArgumentInvalid(option="--step", value="--step", example="run --session ID --step")

    async def carry_out(self) -> "RunStatus":
        """Opens the data path, runs, closes it; answers how the run rests."""
        from modular_agent.kit.logging import Logs
        from modular_agent.kit.redaction import secrets_of
        from modular_agent.runtime import open_runtime

        level = "DEBUG" if self._terminal.debug else "WARNING"
        async with (
            Logs(level=level, format="console", secrets=secrets_of(self._environment)),
            open_runtime(self._settings, environment=self._environment) as runtime,
        ):
            return await self._converse(runtime)

    async def _converse(self, runtime: "Runtime") -> "RunStatus":
        from modular_agent.cli.conversation import Conversation
        from modular_agent.cli.hold import Given
        from modular_agent.domain.runs.requests import StartRequest
        from modular_agent.lifecycle import SessionStatus

        session = await self._session(runtime)
        conversation = Conversation(runtime, session, terminal=self._terminal, manner=self._manner)
        given = Given(message=self._message, state=self._state, step=self._step)
        if self._step or given == Given() or session.status is SessionStatus.PAUSED:
            return await conversation.go_on(given)
        return await conversation.start(StartRequest(message=self._message, state=self._state))

    async def _session(self, runtime: "Runtime") -> "SessionRow":
        from modular_agent.cli.errors import SessionOfAnother
        from modular_agent.domain.sessions.service import CreateRequest

        if self._session_id is None:
            assert self._place is not None
            config = {} if self._model is None else {"model": self._model}
            return await runtime.sessions.create(
                CreateRequest(workflow_config_path=self._place.path, agent_config=config)
            )
        session = await runtime.sessions.get(self._session_id)
        if self._place is not None:
            loaded = await runtime.catalog.load(self._place.path)
            if loaded.spec.name != session.workflow_id:
                raise SessionOfAnother(session_id=session.session_id, workflow_id=session.workflow_id)
            if loaded.content_hash != session.workflow_version and not self._manner.as_json:
                self._terminal.say(
                    self._terminal.text(
                        "The file has changed; the session goes on with the version it began with.",
                        "文件已更改；会话继续使用其最初的版本。",
                    ),
                    style="yellow",
                )
        return session


def _rooted(settings: "Settings", root: Path) -> "Settings":
    storage = settings.storage.model_copy(update={"config_path": root})
    return settings.model_copy(update={"storage": storage})


def _read_input(message: str | None) -> str | None:
    return sys.stdin.read().removesuffix("\n") if message == "-" else message


def _elsewhere(terminal: "Terminal", data_path: Path) -> str:
    return terminal.text(
        "A server or another command owns {path}: run elsewhere with --data-path DIR, or send the run to the server "
        "(POST /sessions/).",
        "{path} 正由服务器或其他命令占用：请用 --data-path DIR 在别处运行，或将运行提交给服务器（POST /sessions/）。",
        path=data_path,
    )

"""A whole product around the workflow that a test is about: real files, a real database, real models and tools."""

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from modular_agent.domain.runs.requests import StartRequest
from modular_agent.domain.runs.store import DatabaseRunStore
from modular_agent.domain.sessions.service import CreateRequest
from modular_agent.engine.checkpoints import Saver
from modular_agent.engine.progress import Progress
from modular_agent.engine.store import RunKey
from modular_agent.runtime import Runtime
from modular_agent.settings import Settings, load_settings
from modular_agent.storage.repositories.interrupts import InterruptRow
from modular_agent.storage.repositories.runs import RunRow
from modular_agent.storage.repositories.sessions import SessionRow


def settings_of(path: Path, **variables: str) -> Settings:
    return load_settings(
        {"DATA_PATH": str(path / "data"), "CONFIG_PATH": str(path / "configs"), "LOG_FILE": "", **variables},
        env_file=None,
    )


def write_configs(path: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        file = path / "configs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))


def script(**turns: Any) -> str:
    """A script: `turns` and `otherwise`, as in the script's file."""
    return yaml.safe_dump(turns, allow_unicode=True)


def calls(*named: tuple[str, Mapping[str, Any] | str]) -> dict[str, Any]:
    """A scripted answer that asks for tools by name, with their arguments."""
    return {"tool_calls": [{"name": name, "arguments": arguments} for name, arguments in named]}


def loop_of(*tools: str) -> str:
    """The nodes and edges of a model that calls tools until it has its answer."""
    return f"""
nodes:
  think: {{type: llm, tools: [{", ".join(tools)}]}}
  act: {{type: tools}}
edges:
  - {{from: START, to: think}}
  - {{from: think, to: act, when: has_tool_calls}}
  - {{from: think, to: END}}
  - {{from: act, to: think}}
"""


@dataclass(slots=True)
class Lab:
    """One session of a workflow, and what happens in it."""

    runtime: Runtime
    path: Path
    session: SessionRow | None = None
    run_id: str = ""

    @property
    def store(self) -> DatabaseRunStore:
        return DatabaseRunStore(self.runtime.database, self.runtime.clock)

    def write(self, files: Mapping[str, str]) -> None:
        write_configs(self.path, files)

    async def open(self, text: str, *, name: str = "test", files: Mapping[str, str] | None = None, **more: Any) -> None:
        """Makes a session of a workflow; `text` is its file without the first two lines."""
        head = f"schema: modular-agent/v1\nname: {name}\n"
        self.write({**(files or {}), f"workflows/{name}.yaml": head + textwrap.dedent(text)})
        request = CreateRequest(workflow_config_path=f"workflows/{name}.yaml", **more)
        self.session = await self.runtime.sessions.create(request)

    async def reload(self) -> SessionRow:
        assert self.session is not None
        row = await self.runtime.sessions.get(self.session.session_id)
        self.session = row
        return row

    async def start(self, message: Any = None, **more: Any) -> str:
        """Starts a run of the session and does not wait for it."""
        self.run_id = await self.runtime.runs.start(await self.reload(), StartRequest(message=message, **more))
        return self.run_id

    async def wait(self) -> RunRow:
        await self.runtime.runs.wait(self.run_id)
        return await self.run_row()

    async def run_row(self) -> RunRow:
        return await self.runtime.runs.get((await self.reload()).ref, self.run_id)

    async def run(self, message: Any = None, **more: Any) -> RunRow:
        """Runs the workflow until it has ended, failed or paused."""
        await self.start(message, **more)
        return await self.wait()

    async def resume(self, *, step: bool = False) -> RunRow:
        await self.runtime.control.resume(await self.reload(), by="test", step=step)
        return await self.wait()

    async def retry(self) -> RunRow:
        await self.runtime.control.retry(await self.reload(), by="test")
        return await self.wait()

    async def questions(self) -> list[InterruptRow]:
        """The open questions, in the order in which they were asked."""
        return await self.runtime.runs.interrupts.open((await self.reload()).ref)

    async def answer(self, answer: Any, *, question: InterruptRow | None = None) -> RunRow:
        """Answers the (only, or given) open question and waits for what comes of it."""
        if question is None:
            [question] = await self.questions()
        await self.runtime.control.answer(await self.reload(), question.interrupt_id, answer, by="test")
        return await self.wait()

    async def records(self, *types: str, where: Callable[[dict[str, Any]], bool] | None = None) -> list[dict[str, Any]]:
        """The session's records of some types (all if none is given), oldest first."""
        row = await self.reload()
        found = await self.runtime.database.records.after(row.ref, seq=0, limit=100_000)
        records: list[dict[str, Any]] = [orjson.loads(record.line) for record in found]
        assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
        chosen = [record for record in records if not types or record["record_type"] in types]
        return [record for record in chosen if where is None or where(record)]

    async def state(self) -> dict[str, Any]:
        row = await self.reload()
        workflow = await self.runtime.catalog.workflow(row.workflow_version)
        return await workflow.state(Saver(self.store), row.ref)

    async def conversation(self) -> list[tuple[str, Any]]:
        """The messages of the state as (role, content)."""
        return [(m["role"], m["content"]) for m in (await self.state()).get("messages") or []]

    async def path_taken(self) -> list[str]:
        """The nodes executed by the last run, in order."""
        row = await self.reload()
        return Progress.replay(await self.store.steps(RunKey(row.ref, self.run_id, 1))).path

    async def error(self) -> dict[str, Any]:
        """What the failed run says of its end."""
        row = await self.run_row()
        assert row.error is not None, row.status
        return row.error

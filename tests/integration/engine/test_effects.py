"""The effect ledger: an intent before the effect, the result with the task, and what a crash in between means."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from integration.engine.conftest import OpenLab
from integration.engine.lab import Lab, calls, script, write_configs

TOOLS = """
import asyncio, os, pathlib, signal

HERE = pathlib.Path(__file__).parent

async def act(name: str) -> str:
    "Does it, and the first time takes the process with it."
    with (HERE / "log.txt").open("a") as file: file.write(name + "\\n")
    if name == "deadly" and not (HERE / "died").exists():
        await asyncio.sleep(0.2)  # meanwhile its sibling's result is committed
        (HERE / "died").write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return f"did {name}"
"""


def files(effect: str, *names: str) -> dict[str, str]:
    turns = [
        {"when": {"last_role": "user"}, **calls(*(("act", {"name": name}) for name in names))},
        {"when": {"last_role": "tool"}, "reply": "{{ tool_results | map(attribute='content') | join(' / ') }}"},
    ]
    return {
        "tools/deadly.py": TOOLS,
        "scripts/a.yaml": script(turns=turns),
        "workflows/test.yaml": f"""
        schema: modular-agent/v1
        name: test
        models: {{main: {{provider: scripted, script: scripts/a.yaml}}}}
        tools: {{act: {{ref: "tools.deadly:act", effect: {effect}}}}}
        nodes:
          think: {{type: llm, tools: [act]}}
          act: {{type: tools, max_parallel: 1}}
        edges:
          - {{from: START, to: think}}
          - {{from: think, to: act, when: has_tool_calls}}
          - {{from: think, to: END}}
          - {{from: act, to: think}}
        """,
    }


def log(path: Path) -> list[str]:
    return (path / "configs/tools/log.txt").read_text().split()


@asynccontextmanager
async def after_a_crash(open_lab: OpenLab, path: Path, effect: str, *names: str) -> AsyncIterator[Lab]:
    """Starts a run in another process, which dies in a tool; then opens the product on what is left."""
    write_configs(path, files(effect, *names))
    program = str(Path(__file__).with_name("dying.py"))
    process = await asyncio.create_subprocess_exec(sys.executable, program, str(path), "workflows/test.yaml")
    assert await asyncio.wait_for(process.wait(), 30) == -9
    async with open_lab() as lab:
        [(ref, run)] = await lab.runtime.runs.rows.all_active()
        lab.session = await lab.runtime.sessions.get(ref.session_id)
        lab.run_id = run.run_id
        await lab.runtime.recovery.take_up()
        await lab.wait()
        yield lab


@pytest.mark.parametrize("effect", ["read", "idempotent"])
async def test_a_call_without_lasting_effect_runs_again_by_itself(
    open_lab: OpenLab, tmp_path: Path, effect: str
) -> None:
    async with after_a_crash(open_lab, tmp_path, effect, "first", "deadly") as lab:
        assert (await lab.run_row()).status == "completed"
        assert log(tmp_path) == ["first", "deadly", "deadly"]  # what had finished is not done again
        assert (await lab.conversation())[-1] == ("assistant", "did first / did deadly")
        rows = await lab.runtime.database.readers.query("SELECT status, count(DISTINCT idempotency_key) FROM effects")
        assert rows == [("done", 2)]
        results = await lab.records("tool_call", where=lambda r: r["phase"] == "result")
        assert len(results) == 2


@pytest.mark.parametrize(
    ("answer", "ran", "told"),
    [
        ({"outcome": "run_again"}, ["deadly", "deadly"], "did deadly"),
        ({"outcome": "done", "result": "receipt 7"}, ["deadly"], "receipt 7"),
        ({"outcome": "not_done"}, ["deadly"], "The call was not done."),
    ],
)
async def test_a_person_decides_about_an_irreversible_call(
    open_lab: OpenLab, tmp_path: Path, answer: dict[str, str], ran: list[str], told: str
) -> None:
    async with after_a_crash(open_lab, tmp_path, "irreversible", "deadly") as lab:
        assert (await lab.run_row()).status == "paused"
        assert log(tmp_path) == ["deadly"]
        [question] = await lab.questions()
        assert (question.kind, question.question["tool_name"]) == ("effect", "act")
        [(status,)] = await lab.runtime.database.readers.query("SELECT status FROM effects")
        assert status == "intent"
        assert [r["phase"] for r in await lab.records("tool_call")] == ["intent"]  # it was durable before the effect
        run = await lab.answer(answer)
        assert run.status == "completed", run.error
        assert log(tmp_path) == ran
        assert (await lab.conversation())[-1] == ("assistant", told)
        [(status,)] = await lab.runtime.database.readers.query("SELECT status FROM effects")
        assert status == {"run_again": "done", "done": "done", "not_done": "not_done"}[answer["outcome"]]

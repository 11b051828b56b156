"""Limits that runs share: of a session, a workflow, a key, the installation; in all, and by UTC day."""

import asyncio
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integration.engine.conftest import OpenLab
from integration.engine.lab import Lab, script, settings_of, write_configs
from modular_agent.domain.runs.errors import AnswerInvalid
from modular_agent.domain.runs.requests import StartRequest
from modular_agent.domain.sessions.checkpoints import ForkRequest
from modular_agent.domain.sessions.service import CreateRequest
from modular_agent.engine.errors import LimitsInvalid
from modular_agent.runtime import open_runtime
from modular_agent.storage.repositories.interrupts import InterruptRow
from modular_agent.storage.repositories.runs import RunRow

USAGE = {"prompt_tokens": 100, "completion_tokens": 20}
PRICES = {"input": 1000, "output": 0}  # 0.1 USD a call
SCRIPT = script(otherwise={"reply": "done", "usage": USAGE}, prices=PRICES)


def workflow(limits: str, *, max_tokens: int | None = None) -> str:
    bound = "" if max_tokens is None else f", max_tokens: {max_tokens}"
    return f"""
    models: {{main: {{provider: scripted, script: scripts/a.yaml{bound}}}}}
    limits: {limits}
    nodes: {{think: {{type: llm}}}}
    edges: [{{from: START, to: think}}]
    """


async def asked(lab: Lab) -> dict[str, Any]:
    [question] = await lab.questions()
    assert question.kind == "budget"
    return dict(question.question)


async def test_a_session_has_limits_over_all_its_runs(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        await lab.open(workflow("{session: {max_tokens: 250}}"), files={"scripts/a.yaml": SCRIPT})
        assert (await lab.run("one")).status == "completed"
        assert (await lab.run("two")).status == "completed"
        assert lab.session is not None
        session = lab.session
    async with open_lab() as lab:  # what was spent is known after a restart
        lab.session = session
        assert (await lab.run("three")).status == "paused"
        question = await asked(lab)
        assert (question["budget"], question["subject"]) == ("session", session.session_id)
        assert (question["limit"], question["maximum"], question["used"]) == ("max_tokens", 250, 240)
        assert question["spent"]["iterations"] == 2
        assert (await lab.answer({"max_tokens": 500})).status == "completed"
        assert (await lab.run("four")).status == "paused"  # the run before it was allowed more, not the session


async def test_what_agent_config_says_of_the_session_wins(lab: Lab) -> None:
    config = {"limits": {"session": {"max_iterations": 1, "per_day": {"max_tokens": 10_000}}}}
    text = workflow("{session: {max_iterations: 50, max_tokens: 1000}}")
    await lab.open(text, files={"scripts/a.yaml": SCRIPT}, agent_config=config)
    await lab.run("one")
    assert (await lab.run("two")).status == "paused"
    budgets = {each["budget"]: each for each in await lab.runtime.budgets.of_session(await lab.reload())}
    assert budgets["session"]["limits"] == {"max_iterations": 1, "max_tokens": 1000}
    assert budgets["session"]["spent"]["tokens"] == 120
    assert budgets["session"]["remaining"] == {"max_iterations": 0, "max_tokens": 880}
    assert budgets["session.day"]["limits"] == {"max_tokens": 10_000}
    assert (await lab.answer({"stop": True})).status == "failed"
    assert (await lab.error())["type"] == "shared_limit_reached"


@pytest.mark.parametrize("where", ["agent_config", "request"])
async def test_nobody_sets_the_limits_of_others(lab: Lab, where: str) -> None:
    given: dict[str, Any] = {"workflow": {"max_tokens": 1}}
    config = {"agent_config": {"limits": given}} if where == "agent_config" else {}

    async def try_it() -> None:
        await lab.open(workflow("{}"), files={"scripts/a.yaml": SCRIPT}, **config)
        await lab.run("go", limits=given)

    with pytest.raises(LimitsInvalid) as caught:
        await try_it()
    assert [fault.path.rpartition(".")[2] for fault in caught.value.faults] == ["workflow"]


async def test_a_duration_of_a_request_is_in_seconds(lab: Lab) -> None:
    await lab.open(workflow("{}"), files={"scripts/a.yaml": SCRIPT})
    assert (await lab.run("go", limits={"max_seconds": "10m"})).limits == {"max_seconds": 600.0}


async def test_all_sessions_of_a_workflow_share_its_limits(lab: Lab) -> None:
    text = workflow("{workflow: {per_day: {max_cost_usd: 0.15, on_exceed: fail}}}")
    await lab.open(text, files={"scripts/a.yaml": SCRIPT})
    await lab.run("one")
    lab.session = await lab.runtime.sessions.create(CreateRequest(workflow_config_path="workflows/test.yaml"))
    assert (await lab.run("two")).status == "completed"  # something was left
    assert (await lab.run("three")).status == "failed"
    assert "workflow.day" in (await lab.error())["message"]
    await lab.runtime.configuration.put(
        "workflow_limits", {"test": {"per_day": {"max_cost_usd": 0.25}}}, by="test"
    )  # raising a limit for all is configuration, and counts at once
    assert (await lab.retry()).status == "completed"
    assert (await lab.run("four")).status == "failed"
    await lab.runtime.configuration.put("workflow_limits", {"test": {"per_day": {"max_cost_usd": 900}}}, by="test")
    assert (await lab.retry()).status == "completed"


async def test_the_installation_has_limits_that_count_at_once(lab: Lab) -> None:
    await lab.open(workflow("{}"), files={"scripts/a.yaml": SCRIPT})
    await lab.run("one")
    await lab.runtime.configuration.put("installation_limits", {"per_day": {"max_iterations": 1}}, by="test")
    assert (await lab.run("two")).status == "paused"
    question = await asked(lab)
    assert (question["budget"], question["subject"], question["resets_at"][10:]) == (
        *("installation.day", ""),
        "T00:00:00.000000Z",
    )
    await lab.runtime.configuration.delete("installation_limits", by="test")
    assert (await lab.answer({})).status == "completed"  # an empty answer looks again


async def test_deleting_a_session_gives_nothing_back_to_others(open_lab: OpenLab) -> None:
    text = workflow("{workflow: {max_tokens: 150}}")
    async with open_lab() as lab:
        await lab.open(text, files={"scripts/a.yaml": SCRIPT})
        await lab.run("one")
        await lab.runtime.sessions.delete(await lab.reload(), by="test")
    async with open_lab() as lab:
        await lab.open(text)
        assert (await lab.run("two")).status == "completed"
        assert (await lab.run("three")).status == "paused"
        assert (await asked(lab))["used"] == 240


async def test_a_fork_has_a_session_budget_of_its_own_and_the_same_workflow_budget(lab: Lab) -> None:
    await lab.open(
        workflow("{session: {max_tokens: 120}, workflow: {max_tokens: 3000}}"), files={"scripts/a.yaml": SCRIPT}
    )
    await lab.run("one")
    lab.session = await lab.runtime.checkpoints.fork(await lab.reload(), ForkRequest())
    assert (await lab.run("two")).status == "completed"
    assert (await lab.run("three")).status == "paused"
    assert (await asked(lab))["budget"] == "session"
    await lab.answer({"max_tokens": 1_000})
    budgets = {each["budget"]: each for each in await lab.runtime.budgets.of_session(await lab.reload())}
    assert budgets["workflow"]["spent"]["tokens"] == 360


async def test_money_counts_tokens_without_a_price(open_lab: OpenLab) -> None:
    unpriced = script(otherwise={"reply": "done", "usage": {"prompt_tokens": 60_000, "completion_tokens": 0}})
    async with open_lab() as lab:  # 10 USD per million tokens, unless somebody says otherwise
        await lab.open(workflow("{session: {max_cost_usd: 0.50}}"), files={"scripts/a.yaml": unpriced})
        assert (await lab.run("one")).status == "completed"
        assert (await lab.run("two")).status == "paused"
        question = await asked(lab)
        assert (question["used"], question["assumed_cost_usd"], question["spent"]["cost_usd"]) == (0.6, 0.6, 0.0)
        assert question["spent"]["unpriced_tokens"] == 60_000
        await lab.runtime.configuration.put("unpriced_usd_per_mtok", 0, by="test")
        assert (await lab.answer({})).status == "completed"


async def test_steps_and_seconds_of_a_session(lab: Lab) -> None:
    slow = script(otherwise={"reply": "done", "delay": "120ms"})
    await lab.open(workflow("{session: {max_steps: 2, max_seconds: 0.2}}"), files={"scripts/a.yaml": slow})
    assert (await lab.run("one")).status == "completed"
    assert (await lab.run("two")).status == "completed"
    assert (await lab.run("three")).status == "paused"
    assert (await asked(lab))["limit"] == "max_seconds"
    assert (await lab.answer({"max_seconds": 60})).status == "paused"
    assert ((await asked(lab))["limit"], (await asked(lab))["used"]) == ("max_steps", 3)
    assert (await lab.answer({"max_steps": 60})).status == "completed"


async def test_a_cycle_of_code_alone_is_bounded(lab: Lab) -> None:
    text = """
    limits: {max_steps: 20}
    state: {schema: {type: object, properties: {n: {type: integer}}}}
    nodes: {count: {type: function, ref: "tools.code:count"}}
    edges: [{from: START, to: count}, {from: count, to: count, when: "state.n < 1000"}, {from: count, to: END}]
    """
    code = "async def count(state):\n    return {'n': (state.get('n') or 0) + 1}\n"
    await lab.open(text, files={"tools/code.py": code})
    assert (await lab.run(state={"n": 0})).status == "paused"
    assert (await asked(lab))["used"] == 21
    assert (await lab.answer({"max_steps": 30})).status == "paused"
    assert (await lab.state())["n"] == 30


GRAPH = """
from langgraph.graph import END, START, StateGraph
builder = StateGraph(dict)
builder.add_node("a", lambda state: {})
builder.add_edge(START, "a")
builder.add_edge("a", END)
"""


@pytest.mark.parametrize("node", ["{type: wait, duration: 1ms}", '{type: graph, ref: "tools.code:builder"}'])
async def test_a_cycle_of_waits_or_graphs_is_bounded(lab: Lab, node: str) -> None:
    text = f"""
    limits: {{max_steps: 7}}
    nodes: {{again: {node}}}
    edges: [{{from: START, to: again}}, {{from: again, to: again}}]
    """
    await lab.open(text, files={"tools/code.py": GRAPH})
    assert (await lab.run()).status == "paused"
    assert ((await asked(lab))["limit"], (await asked(lab))["used"]) == ("max_steps", 8)
    assert (await lab.answer({"max_steps": 10})).status == "paused"
    assert (await asked(lab))["used"] == 11
    assert (await lab.answer({"stop": True})).status == "failed"


PARALLEL = """
models: {main: {provider: scripted, script: scripts/a.yaml, max_tokens: 20}}
limits: {max_tokens: 1000, workflow: {max_tokens: %d}}
nodes:
  spread: {type: map, over: state.items, as: item, node: {type: llm, prompt: "{{ item }}"}}
state: {schema: {type: object, properties: {items: {type: array}, spread: {type: array}}}}
edges: [{from: START, to: spread}]
"""


async def test_parallel_branches_ask_and_one_answer_is_for_all(lab: Lab) -> None:
    await lab.open(PARALLEL % 50, files={"scripts/a.yaml": SCRIPT})
    assert (await lab.run(state={"items": ["a", "b", "c", "d"]})).status == "paused"
    questions = await lab.questions()
    assert len(questions) > 1
    run = await lab.answer({"max_tokens": 100_000}, question=questions[0])
    assert run.status == "completed", run.error
    assert len(await lab.records("llm_request")) == 4


SHARED = """
models: {main: {provider: scripted, script: scripts/a.yaml, max_tokens: %d}}
limits: {workflow: {%s, on_exceed: fail}}
nodes:
  spread: {type: map, over: state.items, as: item, node: {type: llm, prompt: "{{ item }}"}}
state: {schema: {type: object, properties: {items: {type: array}, spread: {type: array}}}}
edges: [{from: START, to: spread}]
"""


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    branches=st.lists(st.integers(1, 4), min_size=2, max_size=4),
    calls=st.integers(0, 9),
    limit=st.sampled_from(["max_tokens", "max_cost_usd", "max_iterations"]),
)
def test_parallel_runs_under_one_limit_overspend_by_one_call_at_most(
    tmp_path_factory: pytest.TempPathFactory, branches: list[int], calls: int, limit: str
) -> None:
    """Runs of several sessions, with parallel branches each, until the workflow's limit stops them."""
    call = {"max_tokens": 120, "max_cost_usd": 0.01, "max_iterations": 1}[limit]
    held = {"max_tokens": 300, "max_cost_usd": 0.03, "max_iterations": 0}[limit]  # 500 characters, and 100 tokens more
    maximum = call * (calls + 1)
    path = tmp_path_factory.mktemp("shared")

    async def spend() -> list[RunRow]:
        lab_script = script(
            otherwise={"reply": "done", "usage": USAGE, "delay": "5ms"}, prices={"input": 100, "output": 0}
        )
        async with open_runtime(settings_of(path), environment={}) as runtime:
            lab = Lab(runtime, path)
            await lab.open(SHARED % (100, f"{limit}: {maximum:g}"), files={"scripts/a.yaml": lab_script})
            request = CreateRequest(workflow_config_path="workflows/test.yaml")
            sessions = [await runtime.sessions.create(request) for _ in branches]
            starts = [
                runtime.runs.start(session, StartRequest(state={"items": ["x" * 500] * count}))
                for session, count in zip(sessions, branches, strict=True)
            ]
            run_ids = await asyncio.gather(*starts)
            await asyncio.gather(*map(runtime.runs.wait, run_ids))
            [spent] = await runtime.database.readers.query(
                "SELECT tokens, cost_nano / 1e9, calls FROM spending WHERE scope = 'workflow'"
            ) or [(0, 0.0, 0)]
            used = dict(zip(("max_tokens", "max_cost_usd", "max_iterations"), spent, strict=True))[limit]
            assert used <= maximum + held + 1e-9
            [logged] = await runtime.database.readers.query("SELECT count(*) FROM llm_calls WHERE error_kind IS NULL")
            assert logged[0] == spent[2]
            runs = [await runtime.runs.get(s.ref, r) for s, r in zip(sessions, run_ids, strict=True)]
            wanted = sum(branches) * call
            if used < wanted - 1e-9:
                assert any(run.status == "failed" for run in runs)
            assert used >= min(wanted, maximum) - held - 1e-9  # nobody is refused what is left
            return runs

    asyncio.run(spend())


DYING = """
import asyncio, os, signal
async def die(state):
    await asyncio.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_nothing_that_was_paid(tmp_path: Path) -> None:
    text = """\
    schema: modular-agent/v1
    name: dying
    models: {main: {provider: scripted, script: scripts/a.yaml}}
    limits: {session: {max_tokens: 120}, workflow: {max_tokens: 120, per_day: {max_tokens: 120}}}
    nodes:
      think: {type: llm, writes: thought}
      die: {type: function, ref: "tools.code:die"}
      again: {type: llm}
    state: {schema: {type: object, properties: {thought: {type: string}}}}
    edges: [{from: START, to: think}, {from: think, to: die}, {from: die, to: again}]
    """
    write_configs(
        tmp_path,
        {"workflows/dying.yaml": textwrap.dedent(text), "scripts/a.yaml": SCRIPT, "tools/code.py": DYING},
    )
    program = Path(__file__).with_name("dying.py")
    died = subprocess.run([sys.executable, str(program), str(tmp_path), "workflows/dying.yaml"], check=False)
    assert died.returncode == -signal.SIGKILL

    async def go_on() -> None:
        write_configs(tmp_path, {"tools/code.py": "async def die(state):\n    return {}\n"})
        async with open_runtime(settings_of(tmp_path), environment={}) as runtime:
            [(session_id, run_id)] = await runtime.database.readers.query(
                "SELECT s.session_id, r.run_id FROM runs r JOIN sessions s ON s.n = r.session_n"
            )
            rows = await runtime.database.readers.query(
                "SELECT scope, calls, tokens, cost_nano FROM spending ORDER BY 1"
            )
            assert rows == [(scope, 1, 120, 100_000_000) for scope in ("installation", "session", "workflow")]
            lab = Lab(runtime, tmp_path, session=await runtime.sessions.get(session_id), run_id=run_id)
            assert await runtime.recovery.take_up() == 1
            assert (await lab.wait()).status == "paused"  # nothing is left
            question = await asked(lab)
            assert (question["budget"], question["used"]) == ("session", 120)
            assert (await lab.answer({"max_tokens": 10_000})).status == "paused"
            assert (await asked(lab))["budget"] == "workflow"
            assert (await lab.answer({"max_tokens": 10_000})).status == "paused"
            assert (await asked(lab))["budget"] == "workflow.day"
            assert (await lab.answer({"max_tokens": 10_000})).status == "completed"

    asyncio.run(go_on())


async def test_an_answer_without_a_limit_asks_again(lab: Lab) -> None:
    await lab.open(workflow("{session: {max_tokens: 1}}"), files={"scripts/a.yaml": SCRIPT})
    await lab.run("one")
    first: InterruptRow = (await lab.questions())[0]
    assert (await lab.answer({"max_tokens": 2})).status == "paused"
    [second] = await lab.questions()
    assert second.interrupt_id != first.interrupt_id
    with pytest.raises(AnswerInvalid):
        await lab.answer({"max_tokens": -1})
    assert (await lab.answer({"max_tokens": 1_000})).status == "completed"

"""Graphs inside graphs: failures, questions, limits and holds come through, and what was done stays done."""

import asyncio
from typing import Any

from integration.engine.conftest import OpenLab
from integration.engine.lab import Lab, calls, script

CODE = """
import asyncio, pathlib
HERE = pathlib.Path(__file__).parent

def note(text):
    with (HERE / "log.txt").open("a") as file: file.write(text + "\\n")

async def before(state): note("before")
async def breaks(state):
    note("breaks")
    if not (HERE / "mended").exists(): raise ValueError("broken")
async def pay(amount: int) -> str:
    "Pays."
    note(f"pay {amount}")
    return f"paid {amount}"
async def nap(state):
    await asyncio.sleep(0.15)
    note("nap")
"""


def log(lab: Lab) -> list[str]:
    file = lab.path / "configs/tools/log.txt"
    return file.read_text().splitlines() if file.exists() else []


def sub(text: str) -> dict[str, str]:
    head = "schema: modular-agent/v1\nname: sub\n"
    return {"tools/code.py": CODE, "workflows/sub.yaml": head + text}


OUTER = """
nodes:
  first: {type: function, ref: "tools.code:before"}
  inner: {type: workflow, workflow: workflows/sub.yaml, output: {}}
edges: [{from: START, to: first}, {from: first, to: inner}, {from: inner, to: END}]
"""
BREAKS = """
nodes:
  before: {type: function, ref: "tools.code:before"}
  breaks: {type: function, ref: "tools.code:breaks"}
edges: [{from: START, to: before}, {from: before, to: breaks}, {from: breaks, to: END}]
"""


async def test_a_failure_inside_names_its_node_and_a_retry_goes_on_there(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        await lab.open(OUTER, files=sub(BREAKS))
        assert (await lab.run("go")).status == "failed"
        assert (await lab.error())["node"] == "inner/breaks"
        assert len(await lab.records("error")) == 1
        session, run_id = lab.session, lab.run_id
    async with open_lab() as lab:
        lab.session, lab.run_id = session, run_id
        (lab.path / "configs/tools/mended").write_text("")
        run = await lab.retry()
        assert run.status == "completed", run.error
        assert log(lab) == ["before", "before", "breaks", "breaks"]


PAYING = """
models: {main: {provider: scripted, script: scripts/a.yaml}}
tools: {pay: {ref: "tools.code:pay", approval: always}}
nodes: {worker: {type: agent, tools: [pay]}}
edges: [{from: START, to: worker}, {from: worker, to: END}]
"""
PAYS = script(
    turns=[
        {"when": {"last_role": "user"}, **calls(("pay", {"amount": "{{ input | int }}"}))},
        {"when": {"last_role": "tool"}, "reply": "{{ tool_results[-1].content }}"},
    ]
)


async def test_each_item_of_a_map_asks_for_itself_and_keeps_its_own_result(lab: Lab) -> None:
    text = """
    nodes: {each: {type: map, over: state.items, workflow: workflows/sub.yaml, writes: found}}
    edges: [{from: START, to: each}, {from: each, to: END}]
    """
    await lab.open(text, files={**sub(PAYING), "scripts/a.yaml": PAYS}, initial_state={"items": [1, 2, 3]})
    assert (await lab.run()).status == "paused"
    questions = await lab.questions()
    assert sorted(q.question["tool_input"]["amount"] for q in questions) == [1, 2, 3]
    assert {q.node for q in questions} == {"each.item/worker.tools"}
    by_amount = {q.question["tool_input"]["amount"]: q for q in questions}
    await lab.answer({"approve": True}, question=by_amount[3])
    await lab.answer({"approve": False}, question=by_amount[2])
    run = await lab.answer({"approve": True}, question=by_amount[1])
    assert run.status == "completed", run.error
    assert sorted(log(lab)) == ["pay 1", "pay 3"]
    found = (await lab.state())["found"]
    assert (found[0], found[2]) == ("paid 1", "paid 3")
    assert "did not approve" in found[1]
    assert len(await lab.records("llm_request")) == 6  # no item asked its model twice


async def test_limits_of_the_run_hold_inside_too(lab: Lab) -> None:
    files = {**sub(PAYING.replace(", approval: always", "")), "scripts/a.yaml": PAYS}
    await lab.open(OUTER + "limits: {max_iterations: 1}\n", files=files)
    assert (await lab.run("7")).status == "paused"
    assert [(q.kind, q.node) for q in await lab.questions()] == [("budget", "inner/worker")]
    assert (await lab.answer({"max_iterations": 5})).status == "completed"
    assert log(lab) == ["before", "pay 7"]


NAPS = """
nodes:
  one: {type: function, ref: "tools.code:nap"}
  two: {type: function, ref: "tools.code:nap"}
edges: [{from: START, to: one}, {from: one, to: two}, {from: two, to: END}]
"""


async def test_a_pause_holds_inside_and_nothing_runs_twice(open_lab: OpenLab) -> None:
    async with open_lab() as lab:
        await lab.open(OUTER, files=sub(NAPS))
        await lab.start("go")
        while "before" not in log(lab):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert (await lab.runtime.control.pause(await lab.reload(), by="test")).status == "paused"
        assert log(lab) == ["before", "nap"]
        session, run_id = lab.session, lab.run_id
    async with open_lab() as lab:
        lab.session, lab.run_id = session, run_id
        run = await lab.resume()
        assert run.status == "completed", run.error
        assert log(lab) == ["before", "nap", "nap"]


async def test_the_items_of_a_map_are_one_step_for_their_leaves(lab: Lab) -> None:
    text = """
    nodes:
      nap: {type: function, ref: "tools.code:nap"}
      each: {type: map, over: state.items, workflow: workflows/sub.yaml, writes: found}
    edges: [{from: START, to: nap}, {from: nap, to: each}, {from: each, to: END}]
    """
    await lab.open(text, files=sub(NAPS), initial_state={"items": [1, 2]})
    await lab.start()
    await asyncio.sleep(0.05)
    assert (await lab.runtime.control.pause(await lab.reload(), by="test")).status == "paused"
    counts: list[Any] = []
    for _ in range(8):
        run = await lab.resume(step=True)
        counts.append(len(log(lab)))
        if run.status != "paused":
            break
    assert run.status == "completed", run.error
    assert counts[-1] == 5  # one nap, then two in each of two items
    assert counts == sorted(counts)


async def test_an_agent_in_a_workflow_in_a_workflow(lab: Lab) -> None:
    middle = (
        "schema: modular-agent/v1\nname: middle\nnodes: {deep: {type: workflow, workflow: workflows/sub.yaml}}\n"
        "edges: [{from: START, to: deep}, {from: deep, to: END}]\n"
    )
    files = {
        **sub(PAYING.replace(", approval: always", "")),
        "scripts/a.yaml": PAYS,
        "workflows/middle.yaml": middle,
    }
    text = """
    nodes: {outer: {type: workflow, workflow: workflows/middle.yaml}}
    edges: [{from: START, to: outer}, {from: outer, to: END}]
    """
    await lab.open(text, files=files)
    run = await lab.run("5")
    assert run.status == "completed", run.error
    assert await lab.conversation() == [("user", "5"), ("assistant", "paid 5")]
    assert {r["node"] for r in await lab.records("llm_request")} == {"outer/deep/worker"}

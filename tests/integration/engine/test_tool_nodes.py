"""`tools`: the calls of a model, each a task of its own."""

from typing import Any

from integration.engine.lab import Lab, calls, script

TOOLS = """
import asyncio, pathlib

LOG = pathlib.Path(__file__).parent / "log.txt"

async def slow(name: str, seconds: float) -> str:
    "Waits."
    await asyncio.sleep(seconds)
    with LOG.open("a") as file: file.write(name + "\\n")
    return name

async def fails(times: int) -> str:
    "Fails some times."
    with LOG.open("a") as file: file.write("try\\n")
    if LOG.read_text().count("try") <= times:
        raise ValueError("not yet")
    return "at last"
"""


def workflow(tools: str, retry: str = "") -> str:
    return f"""
    models: {{main: {{provider: scripted, script: scripts/a.yaml}}}}
    tools: {tools}
    nodes:
      think: {{type: llm, tools: [{", ".join(name.split(":")[0].strip("{ ") for name in tools.split("}, "))}]}}
      act: {{type: tools{retry}}}
    edges:
      - {{from: START, to: think}}
      - {{from: think, to: act, when: has_tool_calls}}
      - {{from: think, to: END}}
      - {{from: act, to: think}}
    """


async def open_tools(lab: Lab, tools: str, asked: dict[str, Any], *, retry: str = "") -> None:
    turns = [
        {"when": {"last_role": "user"}, **asked},
        {"when": {"last_role": "tool"}, "reply": "{{ tool_results | map(attribute='content') | join(' / ') }}"},
    ]
    await lab.open(workflow(tools, retry), files={"tools/some.py": TOOLS, "scripts/a.yaml": script(turns=turns)})


def log(lab: Lab) -> list[str]:
    file = lab.path / "configs/tools/log.txt"
    return file.read_text().split() if file.exists() else []


SLOW = '{slow: {ref: "tools.some:slow", effect: read}}'


async def test_calls_run_in_parallel_and_their_results_come_in_the_order_of_the_calls(lab: Lab) -> None:
    asked = calls(
        ("slow", {"name": "a", "seconds": 0.15}),
        ("slow", {"name": "b", "seconds": 0.01}),
        ("slow", {"name": "c", "seconds": 0.08}),
    )
    await open_tools(lab, SLOW, asked)
    run = await lab.run("go")
    assert run.status == "completed", run.error
    assert log(lab) == ["b", "c", "a"]
    assert (await lab.conversation())[-1] == ("assistant", "a / b / c")
    steps = await lab.records("step", where=lambda r: r["phase"] == "start" and r["node"] == "act")
    assert len({step["task_id"] for step in steps}) == 3
    assert await lab.path_taken() == ["think", "act", "think"]


async def test_a_tool_that_does_not_exist_is_said_to_the_model(lab: Lab) -> None:
    await open_tools(lab, SLOW, calls(("nothing", {})))
    run = await lab.run("go")
    assert run.status == "completed"
    assert "There is no tool 'nothing'" in (await lab.conversation())[-1][1]
    [result] = await lab.records("tool_call")
    assert (result["success"], result["error_type"]) == (False, "UnknownTool")


async def test_arguments_that_are_no_json_are_said_to_the_model(lab: Lab) -> None:
    await open_tools(lab, SLOW, calls(("slow", "{broken")))
    run = await lab.run("go")
    assert run.status == "completed"
    [result] = await lab.records("tool_call")
    assert (result["success"], result["error_type"]) == (False, "InvalidArguments")
    assert log(lab) == []


APPROVED = '{slow: {ref: "tools.some:slow", effect: irreversible, approval: always}}'


async def test_an_approved_call_runs_once_and_its_sibling_too(lab: Lab) -> None:
    tools = '{slow: {ref: "tools.some:slow", approval: "input.name == \'b\'"}}'
    asked = calls(("slow", {"name": "a", "seconds": 0}), ("slow", {"name": "b", "seconds": 0}))
    await open_tools(lab, tools, asked)
    assert (await lab.run("go")).status == "paused"
    assert log(lab) == ["a"]
    [question] = await lab.questions()
    assert (question.kind, question.question["tool_name"]) == ("approval", "slow")
    assert question.question["tool_input"] == {"name": "b", "seconds": 0}
    run = await lab.answer({"approve": True})
    assert run.status == "completed", run.error
    assert log(lab) == ["a", "b"]
    assert (await lab.conversation())[-1] == ("assistant", "a / b")


async def test_a_person_may_change_the_arguments(lab: Lab) -> None:
    await open_tools(lab, APPROVED, calls(("slow", {"name": "a", "seconds": 0})))
    await lab.run("go")
    await lab.answer({"approve": True, "arguments": {"name": "other", "seconds": 0}})
    assert log(lab) == ["other"]


async def test_a_refused_call_never_runs_and_the_model_is_told_why(lab: Lab) -> None:
    await open_tools(lab, APPROVED, calls(("slow", {"name": "a", "seconds": 0})))
    await lab.run("go")
    run = await lab.answer({"approve": False, "reason": "too dear"})
    assert run.status == "completed"
    assert "did not approve this call: too dear" in (await lab.conversation())[-1][1]
    assert log(lab) == []
    assert await lab.runtime.database.readers.query("SELECT status FROM effects") == []


async def test_two_approvals_are_answered_one_by_one(lab: Lab) -> None:
    asked = calls(("slow", {"name": "a", "seconds": 0}), ("slow", {"name": "b", "seconds": 0}))
    await open_tools(lab, APPROVED, asked)
    assert (await lab.run("go")).status == "paused"
    first, second = await lab.questions()
    assert (await lab.answer({"approve": True}, question=second)).status == "paused"
    assert log(lab) == []
    run = await lab.answer({"approve": True}, question=first)
    assert run.status == "completed", run.error
    assert sorted(log(lab)) == ["a", "b"]


async def test_a_call_without_lasting_effect_is_tried_again(lab: Lab) -> None:
    tools = '{fails: {ref: "tools.some:fails", effect: read}}'
    retry = ", retry: {max_attempts: 3, backoff: 10ms}"
    await open_tools(lab, tools, calls(("fails", {"times": 2})), retry=retry)
    await lab.run("go")
    assert (await lab.conversation())[-1] == ("assistant", "at last")
    assert len(log(lab)) == 3


async def test_an_irreversible_call_is_not_tried_again(lab: Lab) -> None:
    tools = '{fails: {ref: "tools.some:fails", effect: irreversible}}'
    await open_tools(lab, tools, calls(("fails", {"times": 2})), retry=", retry: {max_attempts: 3, backoff: 10ms}")
    run = await lab.run("go")
    assert run.status == "completed"
    assert len(log(lab)) == 1
    assert "not yet" in (await lab.conversation())[-1][1]


async def test_an_intent_stands_before_its_result(lab: Lab) -> None:
    await open_tools(lab, '{slow: {ref: "tools.some:slow"}}', calls(("slow", {"name": "a", "seconds": 0})))
    await lab.run("go")
    phases = [(r["phase"], r["effect"]) for r in await lab.records("tool_call")]
    assert phases == [("intent", "irreversible"), ("result", "irreversible")]
    rows = await lab.runtime.database.readers.query("SELECT status, effect FROM effects")
    assert rows == [("done", "irreversible")]

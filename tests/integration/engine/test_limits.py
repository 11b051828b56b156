"""Limits: asked before a call is made, raised by a person, or the end of the run."""

import pytest

from integration.engine.conftest import OpenLab
from integration.engine.lab import Lab, calls, script

LOOP = script(
    turns=[
        {"when": {"nth_in_turn": [1, 2, 3]}, "usage": {"prompt_tokens": 100, "completion_tokens": 20}}
        | calls(("calculator", {"expression": "1 + {{ nth }}"}))
    ],
    otherwise={"reply": "done", "usage": {"prompt_tokens": 100, "completion_tokens": 20}},
    prices={"input": 1000, "output": 0},  # 0.1 USD a call
)


def workflow(limits: str) -> str:
    return f"""
    models: {{main: {{provider: scripted, script: scripts/a.yaml}}}}
    tools: {{calculator: {{use: builtin.calculator}}}}
    limits: {limits}
    nodes: {{worker: {{type: agent, tools: [calculator]}}}}
    edges: [{{from: START, to: worker}}, {{from: worker, to: END}}]
    """


async def test_without_limits_the_loop_ends_by_itself(lab: Lab) -> None:
    await lab.open(workflow("{}"), files={"scripts/a.yaml": LOOP})
    assert (await lab.run("go")).status == "completed"
    assert len(await lab.records("llm_request")) == 4
    row = await lab.reload()
    assert (row.prompt_tokens, row.cost_nano) == (400, 400_000_000)


CASES = [
    ("max_iterations", "2", 2, 10),
    ("max_tokens", "250", 2, 10_000),
    ("max_cost_usd", "0.15", 2, 5.0),
    ("max_steps", "3", 2, 100),
]


@pytest.mark.parametrize(("limit", "maximum", "made", "higher"), CASES)
async def test_over_a_limit_the_run_asks_and_goes_on_with_a_higher_one(
    open_lab: OpenLab, limit: str, maximum: str, made: int, higher: float
) -> None:
    async with open_lab() as lab:
        await lab.open(workflow(f"{{{limit}: {maximum}}}"), files={"scripts/a.yaml": LOOP})
        assert (await lab.run("go")).status == "paused"
        assert len(await lab.records("llm_request")) == made
        [question] = await lab.questions()
        assert (question.kind, question.question["limit"]) == ("budget", limit)
        assert question.question["spent"]["iterations"] == made
        session, run_id = lab.session, lab.run_id
    async with open_lab() as lab:  # what was spent is known after a restart
        lab.session, lab.run_id = session, run_id
        run = await lab.answer({limit: higher})
        assert run.status == "completed", run.error
        assert len(await lab.records("llm_request")) == 4


@pytest.mark.parametrize(("limit", "maximum", "made", "higher"), CASES)
async def test_over_a_limit_the_run_can_fail_instead(
    lab: Lab, limit: str, maximum: str, made: int, higher: float
) -> None:
    await lab.open(workflow(f"{{{limit}: {maximum}, on_exceed: fail}}"), files={"scripts/a.yaml": LOOP})
    assert (await lab.run("go")).status == "failed"
    assert (await lab.error())["type"] == "limit_reached"
    assert len(await lab.records("llm_request")) == made


async def test_a_limit_raised_too_little_asks_again(lab: Lab) -> None:
    await lab.open(workflow("{max_iterations: 1}"), files={"scripts/a.yaml": LOOP})
    await lab.run("go")
    [first] = await lab.questions()
    assert (await lab.answer({"max_tokens": 1_000_000})).status == "paused"
    [second] = await lab.questions()
    assert second.interrupt_id != first.interrupt_id
    assert (await lab.answer({"max_iterations": 9})).status == "completed"


async def test_a_raised_limit_holds_for_the_rest_of_the_run(lab: Lab) -> None:
    await lab.open(workflow("{max_iterations: 1}"), files={"scripts/a.yaml": LOOP})
    await lab.run("go")
    assert (await lab.answer({"max_iterations": 2})).status == "paused"
    assert (await lab.answer({"max_iterations": 9})).status == "completed"
    assert len(await lab.records("llm_request")) == 4


async def test_a_person_can_end_the_run_there(lab: Lab) -> None:
    await lab.open(workflow("{max_iterations: 1}"), files={"scripts/a.yaml": LOOP})
    await lab.run("go")
    assert (await lab.answer({"stop": True})).status == "failed"
    assert (await lab.error())["type"] == "limit_reached"
    assert (await lab.retry()).status == "paused", "who takes it up again is asked again"
    assert (await lab.answer({"stop": True})).status == "failed"
    assert (await lab.retry()).status == "paused"
    assert (await lab.answer({"max_iterations": 9})).status == "completed"
    assert len(await lab.records("llm_request")) == 4


async def test_seconds_count_while_the_run_executes(lab: Lab) -> None:
    slow = script(
        defaults={"delay": "150ms"},
        turns=[{"when": {"nth": [1, 2]}, **calls(("calculator", {"expression": "1"}))}],
        otherwise={"reply": "x"},
    )
    await lab.open(workflow("{max_seconds: 0.1}"), files={"scripts/a.yaml": slow})
    assert (await lab.run("go")).status == "paused"
    [question] = await lab.questions()
    assert question.question["limit"] == "max_seconds"
    assert len(await lab.records("llm_request")) == 1


async def test_limits_of_the_request_and_the_session_win(lab: Lab) -> None:
    await lab.open(
        workflow("{max_iterations: 1}"), files={"scripts/a.yaml": LOOP}, agent_config={"limits": {"max_iterations": 2}}
    )
    await lab.run("go")
    assert len(await lab.records("llm_request")) == 2
    await lab.runtime.control.stop(await lab.reload(), by="test")
    assert (await lab.run("go", limits={"max_iterations": 8})).status == "completed"


PARALLEL = """
models: {main: {provider: scripted, script: scripts/a.yaml}}
limits: {max_iterations: 2}
nodes:
  a: {type: llm, writes: one}
  b: {type: llm, writes: two}
  c: {type: llm, writes: three}
edges:
  - {from: START, to: a}
  - {from: START, to: b}
  - {from: START, to: c}
  - {from: a, to: END}
  - {from: b, to: END}
  - {from: c, to: END}
"""


async def test_parallel_branches_cannot_overspend_together(lab: Lab) -> None:
    files = {"scripts/a.yaml": script(otherwise={"reply": "x", "delay": "50ms"})}
    await lab.open(PARALLEL, files=files)
    assert (await lab.run("go")).status == "paused"
    assert len(await lab.records("llm_request")) == 2
    assert (await lab.answer({"max_iterations": 3})).status == "completed"
    assert len(await lab.records("llm_request")) == 3
    assert {"one", "two", "three"} <= (await lab.state()).keys()


async def test_a_state_that_grows_too_large_fails_the_run(open_lab: OpenLab) -> None:
    code = (
        "async def grow(state):\n    return {'big': 'x' * 200_000}\nasync def small(state):\n    return {'small': 1}\n"
    )
    async with open_lab(MAX_STATE_BYTES="100000") as lab:
        await lab.open(
            """
            nodes:
              small: {type: function, ref: "tools.code:small"}
              grow: {type: function, ref: "tools.code:grow"}
            edges: [{from: START, to: small}, {from: small, to: grow}, {from: grow, to: END}]
            """,
            files={"tools/code.py": code},
        )
        run = await lab.run("go")
        assert run.status == "failed"
        assert (await lab.error())["type"] == "state_too_large"
        assert (await lab.state())["small"] == 1


async def test_an_answer_that_makes_the_state_too_large_is_not_asked_for_again(open_lab: OpenLab) -> None:
    async with open_lab(MAX_STATE_BYTES="100000") as lab:
        await lab.open(
            """
            models: {main: {provider: scripted, script: scripts/a.yaml}}
            nodes: {grow: {type: llm, writes: big}}
            edges: [{from: START, to: grow}, {from: grow, to: END}]
            """,
            files={"scripts/a.yaml": script(otherwise={"reply": "x" * 200_000})},
        )
        assert (await lab.run("go")).status == "failed"
        assert (await lab.state())["big"] == "x" * 200_000
        assert (await lab.retry()).status == "failed"
        assert (await lab.error())["type"] == "state_too_large"
        assert len(await lab.records("llm_request")) == 1

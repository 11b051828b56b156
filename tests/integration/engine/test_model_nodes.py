"""`llm`, `agent` and `router`: nodes that ask a model."""

from integration.engine.conftest import OpenLab
from integration.engine.lab import Lab, calls, script

ONE = """
models: {main: {provider: scripted, script: scripts/a.yaml}}
nodes: {think: {type: llm, %s}}
edges: [{from: START, to: think}, {from: think, to: END}]
"""
ECHO = {"scripts/a.yaml": script(otherwise={"reply": "You said {{ input }}"})}


async def test_the_records_are_the_messages_of_the_state(lab: Lab) -> None:
    await lab.open(ONE % "model: main", files=ECHO)
    await lab.run("one")
    await lab.run("two")
    messages = (await lab.state())["messages"]
    assert [m["content"] for m in messages] == ["one", "You said one", "two", "You said two"]
    logged = await lab.records("message")
    assert [(r["record_id"], r["message_type"], r["content"]) for r in logged] == [
        (m["id"], m["role"], m["content"]) for m in messages
    ]


async def test_structured_output_goes_parsed_where_it_is_wanted(lab: Lab) -> None:
    schema = "output: {type: object, properties: {score: {type: number}}, required: [score]}, writes: verdict"
    files = {
        "scripts/a.yaml": script(turns=[{"when": {"schema": True}, "json": {"score": 0.5}}], otherwise={"reply": "no"})
    }
    await lab.open(ONE % schema, files=files)
    run = await lab.run("judge")
    assert run.status == "completed", run.error
    state = await lab.state()
    assert state["verdict"] == {"score": 0.5}
    assert [m["role"] for m in state["messages"]] == ["user"]  # the answer is not part of the conversation


async def test_an_answer_that_does_not_fit_is_asked_for_again_when_the_node_retries(lab: Lab) -> None:
    options = (
        "output: {type: object, properties: {score: {type: number}}, required: [score]}, writes: verdict,"
        " retry: {max_attempts: 2, backoff: 10ms}"
    )
    await lab.open(ONE % options, files={"scripts/a.yaml": script(otherwise={"reply": "not JSON"})})
    run = await lab.run("judge")
    assert run.status == "failed"
    error = await lab.error()
    assert (error["type"], error["node"]) == ("node_output_invalid", "think")
    assert len(await lab.records("llm_response")) == 2
    assert [r["attempts"] for r in await lab.records("step", where=lambda r: r["phase"] == "end")] == [2]


async def test_writes_takes_the_text(lab: Lab) -> None:
    await lab.open(ONE % "writes: answer", files=ECHO)
    await lab.run("hello")
    state = await lab.state()
    assert state["answer"] == "You said hello"
    assert [m["role"] for m in state["messages"]] == ["user"]
    beside = await lab.records("message", where=lambda r: r["metadata"].get("in_conversation") is False)
    assert [r["content"] for r in beside] == ["You said hello"]


async def test_an_input_of_its_own_takes_the_place_of_the_conversation(lab: Lab) -> None:
    await lab.open(
        ONE % "input: 'Sum up {{ state.topic }}', writes: summary", files=ECHO, initial_state={"topic": "cats"}
    )
    run = await lab.run("ignored")
    assert run.status == "completed", run.error
    assert (await lab.state())["summary"] == "You said Sum up cats"
    [request] = await lab.records("llm_request")
    assert request["messages"]["count"] == 1


async def test_a_prompt_is_logged_once_and_then_referred_to(open_lab: OpenLab) -> None:
    prompt = "prompt: 'Be {{ state.mood }}.'"
    async with open_lab() as lab:
        await lab.open(ONE % prompt, files=ECHO, initial_state={"mood": "kind"})
        await lab.run("one")
        await lab.run("two")
        session = lab.session
    async with open_lab() as lab:  # after a restart too
        lab.session = session
        await lab.run("three")
        prompts = await lab.records("message", where=lambda r: r["message_type"] == "system")
        assert [p["content"] for p in prompts] == ["Be kind."]
        requests = await lab.records("llm_request")
        assert {r["messages"]["system_record_id"] for r in requests} == {prompts[0]["record_id"]}
        await lab.run("four", state={"mood": "brief"})
        prompts = await lab.records("message", where=lambda r: r["message_type"] == "system")
        assert [p["content"] for p in prompts] == ["Be kind.", "Be brief."]


async def test_a_fallback_model_answers_when_the_first_cannot(lab: Lab) -> None:
    await lab.open(
        """
        models:
          main:
            {provider: scripted, script: scripts/bad.yaml, fallback: [other], retry: {max_attempts: 2, backoff: 10ms}}
          other: {provider: scripted, script: scripts/a.yaml}
        nodes: {think: {type: llm, model: main}}
        edges: [{from: START, to: think}, {from: think, to: END}]
        """,
        files={**ECHO, "scripts/bad.yaml": script(otherwise={"fail": {"kind": "overloaded"}})},
    )
    run = await lab.run("hello")
    assert run.status == "completed", run.error
    assert (await lab.conversation())[-1] == ("assistant", "You said hello")
    responses = await lab.records("llm_response")
    assert [r["error"] is None for r in responses] == [False, False, True]
    said = (await lab.records("message"))[-1]
    assert said["record_id"] == responses[-1]["message_id"]


AGENT = """
models: {main: {provider: scripted, script: scripts/a.yaml}}
tools: {calculator: {use: builtin.calculator}}
nodes: {worker: {type: agent, model: main, tools: [calculator], %s}}
edges: [{from: START, to: worker}, {from: worker, to: END}]
"""
LOOP = {
    "scripts/a.yaml": script(
        turns=[
            {"when": {"last_role": "user"}, **calls(("calculator", {"expression": "17 * 23"}))},
            {"when": {"last_role": "tool"}, "reply": "It is {{ tool_results[-1].content }}."},
        ]
    )
}
FOREVER = {"scripts/a.yaml": script(otherwise=calls(("calculator", {"expression": "1 + 1"})))}


async def test_an_agent_loops_until_it_answers(lab: Lab) -> None:
    await lab.open(AGENT % "writes: answer", files=LOOP)
    run = await lab.run("17 times 23?")
    assert run.status == "completed", run.error
    assert [role for role, _ in await lab.conversation()] == ["user", "assistant", "tool", "assistant"]
    assert (await lab.state())["answer"] == "It is 391."
    assert await lab.path_taken() == ["worker"]
    assert not any(key.startswith("__") for key in await lab.state())


async def test_an_agent_opens_with_its_own_input(lab: Lab) -> None:
    await lab.open(AGENT % "input: 'Work out {{ state.sum }}'", files=LOOP, initial_state={"sum": "17 * 23"})
    await lab.run()
    conversation = await lab.conversation()
    assert conversation[0] == ("user", "Work out 17 * 23")
    assert [role for role, _ in conversation] == ["user", "assistant", "tool", "assistant"]


async def test_an_agent_that_never_answers_reaches_its_limit(lab: Lab) -> None:
    await lab.open(AGENT % "max_iterations: 3", files=FOREVER)
    run = await lab.run("go")
    assert run.status == "failed"
    assert (await lab.error())["type"] == "iteration_limit_reached"
    assert len(await lab.records("llm_request")) == 3


async def test_the_count_of_an_agent_starts_anew_with_every_visit(lab: Lab) -> None:
    await lab.open(AGENT % "max_iterations: 2", files=LOOP)
    for _ in range(3):
        assert (await lab.run("17 times 23?")).status == "completed"


async def test_an_agent_that_failed_can_be_asked_again(lab: Lab) -> None:
    await lab.open(AGENT % "max_iterations: 2", files=FOREVER)
    assert (await lab.run("go")).status == "failed"
    lab.write(LOOP)
    assert (await lab.run("again")).status == "failed"  # the session keeps its version: the same script
    assert len(await lab.records("llm_request")) == 4  # a new run counts from the start


ROUTER = """
models: {main: {provider: scripted, script: scripts/a.yaml}}
state: {schema: {type: object, properties: {score: {type: number}, route: {type: string}}}}
nodes:
  sort:
    type: router
    %s
  low: {type: human, question: "low"}
  high: {type: human, question: "high"}
edges:
  - {from: START, to: sort}
  - {from: sort, to: low, when: 'state.route == "low"'}
  - {from: sort, to: high, when: 'state.route == "high"'}
  - {from: low, to: END}
  - {from: high, to: END}
"""


async def test_rules_decide_before_the_model_is_asked(lab: Lab) -> None:
    rules = "rules: [{when: 'state.score < 0.5', choose: low}]\n    choices: {low: a, high: b}"
    files = {"scripts/a.yaml": script(otherwise={"json": {"choice": "high"}})}
    await lab.open(ROUTER % rules, files=files, initial_state={"score": 0.1})
    await lab.run("x")
    assert [q.node for q in await lab.questions()] == ["low"]
    assert await lab.records("llm_request") == []


async def test_a_model_decides_where_no_rule_holds(lab: Lab) -> None:
    rules = "rules: [{when: 'state.score < 0.5', choose: low}]\n    choices: {low: a, high: b}\n    model: main"
    files = {"scripts/a.yaml": script(otherwise={"json": {"choice": "high"}})}
    await lab.open(ROUTER % rules, files=files, initial_state={"score": 0.9})
    await lab.run("x")
    assert [q.node for q in await lab.questions()] == ["high"]
    assert [m["role"] for m in (await lab.state())["messages"]] == ["user"]


async def test_the_default_counts_for_a_choice_that_nobody_knows(lab: Lab) -> None:
    options = "choices: {low: a, high: b}\n    default: low"
    await lab.open(ROUTER % options, files={"scripts/a.yaml": script(otherwise={"json": {"choice": "sideways"}})})
    await lab.run("x")
    assert [q.node for q in await lab.questions()] == ["low"]


async def test_a_choice_that_nobody_knows_fails_without_a_default(lab: Lab) -> None:
    options = "choices: {low: a, high: b}"
    await lab.open(ROUTER % options, files={"scripts/a.yaml": script(otherwise={"json": {"choice": "sideways"}})})
    run = await lab.run("x")
    assert (run.status, (await lab.error())["type"]) == ("failed", "node_output_invalid")

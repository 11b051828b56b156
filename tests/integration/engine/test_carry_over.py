"""What a run leaves when it is stopped or fails, and what the next one makes of it."""

import asyncio
from typing import Any

from integration.engine.lab import Lab, calls, loop_of, script

CODE = """
import asyncio, pathlib
FLAG = pathlib.Path(__file__).parent / "mended"

async def quick() -> str:
    "Answers at once."
    return "quick"

async def slow() -> str:
    "Takes long."
    await asyncio.sleep(30)
    return "slow"

async def breaks(state):
    if not FLAG.exists(): raise ValueError("broken")
"""
TURNS = script(
    turns=[
        {"when": {"last_role": "user", "last_user": "tools"}, **calls(("quick", {}), ("slow", {}))},
        {"when": {"last_role": "user"}, "reply": "You said {{ input }}"},
    ],
    otherwise={"reply": "done"},
)
LOOP = """
models: {main: {provider: scripted, script: scripts/a.yaml}}
tools: {quick: {ref: "tools.code:quick", effect: read}, slow: {ref: "tools.code:slow", effect: read}}
""" + loop_of("quick", "slow")
FILES = {"tools/code.py": CODE, "scripts/a.yaml": TURNS}


def check_valid(messages: list[dict[str, Any]]) -> None:
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


async def check_records(lab: Lab) -> None:
    """The messages of the log are those of the state, once each, in the same order."""
    messages = (await lab.state())["messages"]
    logged = await lab.records("message", where=lambda r: r["metadata"].get("in_conversation") is not False)
    assert [r["record_id"] for r in logged] == [m["id"] for m in messages]


async def test_a_stop_in_the_middle_of_the_tools_leaves_a_conversation_that_a_model_takes(lab: Lab) -> None:
    await lab.open(LOOP, files=FILES)
    await lab.start("use the tools")
    while not await lab.records("tool_call", where=lambda r: r["phase"] == "result"):
        await asyncio.sleep(0.01)
    await lab.runtime.control.stop(await lab.reload(), by="test")
    assert (await lab.run_row()).status == "stopped"
    run = await lab.run("and now?")
    assert run.status == "completed", run.error
    messages = (await lab.state())["messages"]
    check_valid(messages)
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "tool", "user", "assistant"]
    assert messages[2]["content"] == "quick"  # what was done is kept
    assert "interrupted" in messages[3]["content"]
    await check_records(lab)


async def test_a_stopped_run_can_be_taken_up_where_it_was(lab: Lab) -> None:
    await lab.open(LOOP, files={**FILES, "tools/code.py": CODE.replace("sleep(30)", "sleep(0.3)")})
    await lab.start("use the tools")
    while not await lab.records("tool_call", where=lambda r: r["phase"] == "result"):
        await asyncio.sleep(0.01)
    await lab.runtime.control.stop(await lab.reload(), by="test")
    run = await lab.retry()
    assert run.status == "completed", run.error
    messages = (await lab.state())["messages"]
    check_valid(messages)
    assert [m["content"] for m in messages[2:4]] == ["quick", "slow"]
    quick = await lab.records("tool_call", where=lambda r: r["tool_name"] == "quick" and r["phase"] == "result")
    assert len(quick) == 1  # a finished call is not repeated
    await check_records(lab)


BRANCHES = """
models: {main: {provider: scripted, script: scripts/a.yaml}}
nodes:
  say: {type: llm}
  fail: {type: function, ref: "tools.code:breaks"}
edges:
  - {from: START, to: say}
  - {from: START, to: fail}
  - {from: say, to: END}
  - {from: fail, to: END}
"""


async def test_what_a_sibling_of_a_failed_node_said_is_kept(lab: Lab) -> None:
    await lab.open(BRANCHES, files=FILES)
    assert (await lab.run("one")).status == "failed"
    assert await lab.conversation() == [("user", "one"), ("assistant", "You said one")]
    (lab.path / "configs/tools/mended").write_text("")
    run = await lab.run("two")
    assert run.status == "completed", run.error
    assert [content for _, content in await lab.conversation()] == ["one", "You said one", "two", "You said two"]
    await check_records(lab)


async def test_a_retry_runs_only_what_failed(lab: Lab) -> None:
    await lab.open(BRANCHES, files=FILES)
    assert (await lab.run("one")).status == "failed"
    (lab.path / "configs/tools/mended").write_text("")
    run = await lab.retry()
    assert run.status == "completed", run.error
    assert run.epoch > 1
    assert await lab.conversation() == [("user", "one"), ("assistant", "You said one")]
    assert len(await lab.records("llm_request")) == 1
    await check_records(lab)


async def test_an_input_that_no_node_took_is_not_lost(lab: Lab) -> None:
    """A run that is stopped before its first step has its message in the log, so the next run has it too."""
    slow = {"when": {"last_user": "one"}, "reply": "too late", "delay": "5s"}  # it may not be over before the stop
    await lab.open(LOOP, files={**FILES, "scripts/a.yaml": script(turns=[slow], otherwise={"reply": "done"})})
    await lab.start("one")
    await lab.runtime.control.stop(await lab.reload(), by="test")
    run = await lab.run("two")
    assert run.status == "completed", run.error
    check_valid((await lab.state())["messages"])
    await check_records(lab)


async def test_a_resting_state_shows_the_workflow_and_nothing_of_its_machinery(lab: Lab) -> None:
    await lab.open(
        """
        models: {main: {provider: scripted, script: scripts/a.yaml}}
        state: {schema: {type: object, properties: {known: {type: integer}}}}
        nodes:
          think: {type: llm, prompt: "Be kind."}
          ask: {type: human, question: "Sure?"}
          also: {type: human, question: "Really?"}
        edges:
          - {from: START, to: think}
          - {from: think, to: ask}
          - {from: think, to: also}
          - {from: ask, to: END}
          - {from: also, to: END}
        """,
        files=FILES,
    )
    assert (await lab.run("hello", state={"known": 1})).status == "paused"
    assert set(await lab.state()) == {"messages", "known"}
    await lab.answer("yes", question=(await lab.questions())[0])
    assert set(await lab.state()) == {"messages", "known"}
    run = await lab.answer("yes")
    assert run.result == {"output": "You said hello", "state": {"known": 1}}


async def test_a_stop_while_a_model_answers_leaves_the_conversation_as_it_was(lab: Lab) -> None:
    slow = script(otherwise={"reply": "one two three four five", "token_delay": "100ms"})
    await lab.open(LOOP, files={**FILES, "scripts/a.yaml": slow})
    await lab.start("hello")
    while not await lab.records("llm_request"):
        await asyncio.sleep(0.01)
    await lab.runtime.control.stop(await lab.reload(), by="test")
    assert (await lab.run_row()).status == "stopped"
    assert await lab.conversation() == [("user", "hello")]
    [response] = await lab.records("llm_response")
    assert response["error"]["type"] == "cancelled"
    await check_records(lab)
    assert (await lab.retry()).status == "completed"
    assert [role for role, _ in await lab.conversation()] == ["user", "assistant"]
    await check_records(lab)


async def test_an_injected_message_stands_before_the_answer_to_it(lab: Lab) -> None:
    slow = {**FILES, "tools/code.py": CODE.replace("sleep(30)", "sleep(0.3)")}
    await lab.open(LOOP, files=slow)
    await lab.start("use the tools")
    while not await lab.records("tool_call"):
        await asyncio.sleep(0.01)
    await lab.runtime.interventions.inject(await lab.reload(), "and hurry", by="test")
    run = await lab.wait()
    assert run.status == "completed", run.error
    messages = (await lab.state())["messages"]
    check_valid(messages)
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "tool", "user", "assistant"]
    await check_records(lab)

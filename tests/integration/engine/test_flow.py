"""How a run goes from node to node: conditions, branches, maps, sub-workflows, waits, people and code."""

import asyncio
import time
from typing import Any

import pytest

from integration.engine.conftest import OpenLab
from integration.engine.lab import Lab, script

CODE = """
import asyncio, os, pathlib

LOG = pathlib.Path(__file__).parent / "log.txt"

def note(text):
    with LOG.open("a") as file: file.write(text + "\\n")

def sync(state): return {"pid": os.getpid()}
async def pid(state): return {"pid": os.getpid()}
async def total(a, b): return a + b
async def stray(state): return {"stray": 1}
async def nothing(state): note("nothing")
def text(state): return "text"

async def item(item, index=0):
    note(f"start {item}")
    await asyncio.sleep(0.02)
    if item == "bad" and "mended" not in LOG.read_text(): raise ValueError("bad item")
    note(f"end {item}")
    return str(item).upper()

async def a(state): return {"log": ["a"], "sum": 1, "top": 3, "low": 3, "merged": {"a": 1}, "last": "a"}
async def b(state): return {"log": ["b"], "sum": 2, "top": 5, "low": 2, "merged": {"b": 2}, "last": "b"}
async def flaky(state):
    note("flaky")
    if LOG.read_text().count("flaky") < 3: raise OSError("again")
    return {"done": True}
async def endless(state):
    try:
        await asyncio.sleep(30)
    finally:
        note("cleaned")
async def counted(state):
    note("counted")
    return {"n": 1}
"""
FILES = {"tools/code.py": CODE}
ECHO = {"scripts/a.yaml": script(otherwise={"reply": "You said {{ input }}"})}
MODEL = "models: {main: {provider: scripted, script: scripts/a.yaml}}\n"


def log(lab: Lab) -> list[str]:
    file = lab.path / "configs/tools/log.txt"
    return file.read_text().splitlines() if file.exists() else []


def single(node: str, more: str = "") -> str:
    return f"nodes: {{one: {node}}}\nedges: [{{from: START, to: one}}, {{from: one, to: END}}]\n{more}"


# -- functions -------------------------------------------------------------------------------------------------


async def test_synchronous_code_runs_in_another_process_and_asynchronous_in_this_one(lab: Lab) -> None:
    import os

    await lab.open(single('{type: function, ref: "tools.code:sync"}'), files=FILES)
    await lab.run()
    assert (await lab.state())["pid"] != os.getpid()
    await lab.open(single('{type: function, ref: "tools.code:pid"}'), name="other")
    await lab.run()
    assert (await lab.state())["pid"] == os.getpid()


async def test_a_function_takes_arguments_from_expressions(lab: Lab) -> None:
    node = '{type: function, ref: "tools.code:total", input: {a: state.x, b: "state.x * 2"}, writes: total}'
    await lab.open(single(node), files=FILES, initial_state={"x": 5})
    run = await lab.run()
    assert run.status == "completed", run.error
    assert (await lab.state())["total"] == 15


CLOSED = "state: {schema: {type: object, additionalProperties: false, properties: {known: {type: string}}}}\n"


async def test_a_key_nobody_declared_is_an_error_where_the_state_is_closed(lab: Lab) -> None:
    await lab.open(single('{type: function, ref: "tools.code:stray"}', CLOSED), files=FILES)
    assert (await lab.run()).status == "failed"
    assert (await lab.error())["type"] == "state_key_unknown"


async def test_a_key_nobody_declared_is_kept_where_the_state_is_open(lab: Lab) -> None:
    await lab.open(single('{type: function, ref: "tools.code:stray"}'), files=FILES)
    assert (await lab.run()).status == "completed"
    assert (await lab.state())["stray"] == 1


async def test_a_function_without_writes_returns_changes_or_nothing(lab: Lab) -> None:
    await lab.open(single('{type: function, ref: "tools.code:nothing"}'), files=FILES)
    assert (await lab.run()).status == "completed"
    await lab.open(single('{type: function, ref: "tools.code:text"}'), name="other")
    assert (await lab.run()).status == "failed"
    assert (await lab.error())["type"] == "node_output_invalid"


# -- retry, timeout, cache -------------------------------------------------------------------------------------


async def test_a_node_is_tried_again(lab: Lab) -> None:
    node = '{type: function, ref: "tools.code:flaky", retry: {max_attempts: 3, backoff: 10ms}}'
    await lab.open(single(node), files=FILES)
    run = await lab.run()
    assert run.status == "completed", run.error
    [end] = await lab.records("step", where=lambda r: r["phase"] == "end")
    assert end["attempts"] == 3


async def test_a_timeout_ends_the_code_and_names_the_node(lab: Lab) -> None:
    await lab.open(single('{type: function, ref: "tools.code:endless", timeout: 50ms}'), files=FILES)
    began = time.monotonic()
    run = await lab.run()
    assert (run.status, (await lab.error())["type"]) == ("failed", "node_timeout")
    assert time.monotonic() - began < 5
    assert log(lab) == ["cleaned"]


async def test_a_cached_result_is_used_again_for_equal_input(lab: Lab) -> None:
    await lab.open(
        single('{type: function, ref: "tools.code:counted", cache: {ttl: 60s}}'), files=FILES, initial_state={"x": 1}
    )
    await lab.run()
    await lab.open(single('{type: function, ref: "tools.code:counted", cache: {ttl: 60s}}'), initial_state={"x": 1})
    await lab.run()
    assert log(lab) == ["counted"]
    await lab.open(single('{type: function, ref: "tools.code:counted", cache: {ttl: 60s}}'), initial_state={"x": 2})
    await lab.run()
    assert log(lab) == ["counted", "counted"]
    assert len(await lab.records("step")) == 2  # a result from the cache is logged as a step too


# -- people ----------------------------------------------------------------------------------------------------


async def test_an_answer_in_words_joins_the_conversation(lab: Lab) -> None:
    await lab.open(single('{type: human, question: "Who is {{ state.name }}?"}'), initial_state={"name": "Ada"})
    assert (await lab.run("hello")).status == "paused"
    [question] = await lab.questions()
    assert question.question["text"] == "Who is Ada?"
    assert (await lab.answer("a person")).status == "completed"
    assert await lab.conversation() == [("user", "hello"), ("user", "a person")]
    said = await lab.records("message")
    assert [r["record_id"] for r in said] == [m["id"] for m in (await lab.state())["messages"]]


async def test_the_fields_of_a_form_become_keys_of_the_state(lab: Lab) -> None:
    await lab.open(
        single('{type: human, question: "Sure?", form: {ok: {type: boolean}, note: {type: string}}, required: [ok]}')
    )
    await lab.run()
    await lab.answer({"ok": True, "note": "yes"})
    state = await lab.state()
    assert (state["ok"], state["note"]) == (True, "yes")


async def test_an_answer_goes_where_it_is_wanted(lab: Lab) -> None:
    await lab.open(single('{type: human, question: "Sure?", form: {ok: {type: boolean}}, writes: verdict}'))
    await lab.run()
    await lab.answer({"ok": False})
    assert (await lab.state())["verdict"] == {"ok": False}


async def test_a_question_can_have_a_time_and_an_answer_that_counts_then(lab: Lab) -> None:
    await lab.open(
        single('{type: human, question: "Sure?", answer_within: 1h, default_answer: later, writes: verdict}')
    )
    await lab.run()
    [question] = await lab.questions()
    assert question.due_at is not None
    assert abs(question.due_at - lab.runtime.clock.now_us() - 3_600_000_000) < 60_000_000
    assert question.question["default_answer"] == "later"


# -- waiting ---------------------------------------------------------------------------------------------------


async def test_a_short_wait_is_waited(lab: Lab) -> None:
    await lab.open(single("{type: wait, duration: 100ms}"))
    began = time.monotonic()
    assert (await lab.run()).status == "completed"
    assert time.monotonic() - began >= 0.1


async def test_a_long_wait_leaves_the_process_until_its_time(lab: Lab) -> None:
    await lab.open(single("{type: wait, until: '2031-01-01T00:00:00Z'}"))
    assert (await lab.run()).status == "paused"
    [question] = await lab.questions()
    assert (question.kind, question.due_at) == ("wait", 1_924_992_000_000_000)
    assert (await lab.answer(None)).status == "completed"


# -- conditions ------------------------------------------------------------------------------------------------

CHOICES = """
state: {schema: {type: object, properties: {score: {type: number}}}}
nodes:
  start: {type: function, ref: "tools.code:nothing"}
  first: {type: function, ref: "tools.code:nothing"}
  second: {type: function, ref: "tools.code:nothing"}
  other: {type: function, ref: "tools.code:nothing"}
edges:
  - {from: START, to: start}
  - {from: start, to: other}
  - {from: start, to: first, when: state.score > 1.0}
  - {from: start, to: second, when: state.score > 0.0}
  - {from: first, to: END}
  - {from: second, to: END}
  - {from: other, to: END}
"""


@pytest.mark.parametrize(("score", "node"), [(2, "first"), (0.5, "second"), (-1, "other")])
async def test_the_first_true_condition_wins_and_the_one_without_is_otherwise(
    lab: Lab, score: float, node: str
) -> None:
    await lab.open(CHOICES, files=FILES, initial_state={"score": score})
    await lab.run()
    assert await lab.path_taken() == ["start", node]


async def test_no_way_out_is_an_error(lab: Lab) -> None:
    text = CHOICES.replace("  - {from: start, to: other}\n", "  - {from: start, to: other, when: state.score < -5.0}\n")
    await lab.open(text, files=FILES, initial_state={"score": -1})
    assert (await lab.run()).status == "failed"
    error = await lab.error()
    assert (error["type"], error["node"]) == ("no_route", "start")


async def test_a_condition_that_fails_names_its_place_and_a_retry_routes_again(lab: Lab) -> None:
    await lab.open(CHOICES, files=FILES)
    assert (await lab.run()).status == "failed"
    error = await lab.error()
    assert error["type"] in {"condition_failed", "expression_failed"}
    assert "workflows/test.yaml:" in error["message"]
    assert "score" in error["message"]
    assert (await lab.retry()).status == "failed"  # asked again: still no score
    assert log(lab) == ["nothing"]  # and the node before did not run again


async def test_an_unconditional_node_fans_out_and_all_join(lab: Lab) -> None:
    await lab.open(
        """
        state:
          schema: {type: object, properties: {log: {type: array}, sum: {type: integer}, top: {type: integer},
            low: {type: integer}, merged: {type: object}, last: {type: string}}}
          reducers: {log: append, sum: add, top: max, low: min, merged: merge}
        nodes:
          a: {type: function, ref: "tools.code:a"}
          b: {type: function, ref: "tools.code:b"}
          join: {type: function, ref: "tools.code:nothing"}
        edges:
          - {from: START, to: a}
          - {from: START, to: b}
          - {from: a, to: join}
          - {from: b, to: join}
          - {from: join, to: END}
        """,
        files=FILES,
    )
    run = await lab.run()
    assert run.status == "completed", run.error
    state = await lab.state()
    assert {key: state[key] for key in ("log", "sum", "top", "low", "merged", "last")} == {
        "log": ["a", "b"],
        "sum": 3,
        "top": 5,
        "low": 2,
        "merged": {"a": 1, "b": 2},
        "last": "b",  # of several writers to a plain key, the last in file order
    }
    assert log(lab) == ["nothing"]


# -- map -------------------------------------------------------------------------------------------------------


def mapped(body: str, more: str = "") -> str:
    return single(f"{{type: map, over: state.items, {body}}}", more)


ITEM = 'node: {type: function, ref: "tools.code:item", input: {item: item}}'


async def test_results_come_in_the_order_of_the_items(lab: Lab) -> None:
    await lab.open(mapped(f"{ITEM}, writes: found"), files=FILES, initial_state={"items": ["a", "b", "c"]})
    run = await lab.run()
    assert run.status == "completed", run.error
    assert (await lab.state())["found"] == ["A", "B", "C"]
    assert sorted(log(lab)[:3]) == ["start a", "start b", "start c"]
    assert await lab.path_taken() == ["one"]


async def test_at_most_so_many_items_run_at_once(lab: Lab) -> None:
    await lab.open(mapped(f"{ITEM}, max_parallel: 2"), files=FILES, initial_state={"items": list("abcdef")})
    assert (await lab.run()).status == "completed"
    running = most = 0
    for line in log(lab):
        running += 1 if line.startswith("start") else -1
        most = max(most, running)
    assert most == 2


async def test_an_empty_list_gives_an_empty_result(lab: Lab) -> None:
    await lab.open(mapped(f"{ITEM}, writes: found"), files=FILES, initial_state={"items": []})
    assert (await lab.run()).status == "completed"
    assert (await lab.state())["found"] == []


async def test_a_failing_item_keeps_the_others_and_a_retry_runs_it_alone(lab: Lab) -> None:
    await lab.open(mapped(f"{ITEM}, writes: found"), files=FILES, initial_state={"items": ["a", "bad", "c"]})
    assert (await lab.run()).status == "failed"
    assert sorted(line for line in log(lab) if line.startswith("end")) == ["end a", "end c"]
    (lab.path / "configs/tools/log.txt").write_text("mended\n")
    run = await lab.retry()
    assert run.status == "completed", run.error
    assert (await lab.state())["found"] == ["A", "BAD", "C"]
    assert [line for line in log(lab) if line.startswith("start")] == ["start bad"]


async def test_the_item_is_known_in_prompts(lab: Lab) -> None:
    body = "as: city, node: {type: llm, input: 'Weather in {{ city }} for {{ state.who }}?'}, writes: found"
    await lab.open(mapped(body, MODEL), files=ECHO, initial_state={"items": ["Rome", "Oslo"], "who": "Ada"})
    run = await lab.run()
    assert run.status == "completed", run.error
    assert (await lab.state())["found"] == ["You said Weather in Rome for Ada?", "You said Weather in Oslo for Ada?"]


async def test_an_agent_can_be_the_body(lab: Lab) -> None:
    turns = [
        {
            "when": {"last_role": "user"},
            "tool_calls": [{"name": "calculator", "arguments": {"expression": "{{ input }} * 2"}}],
        },
        {"when": {"last_role": "tool"}, "reply": "{{ tool_results[-1].content }}"},
    ]
    more = MODEL + "tools: {calculator: {use: builtin.calculator}}\n"
    body = "node: {type: agent, tools: [calculator]}, writes: found"
    await lab.open(
        mapped(body, more), files={"scripts/a.yaml": script(turns=turns)}, initial_state={"items": [1, 2, 3]}
    )
    run = await lab.run()
    assert run.status == "completed", run.error
    assert (await lab.state())["found"] == ["2", "4", "6"]


SUB = {
    "workflows/sub.yaml": """
    schema: modular-agent/v1
    name: sub
    models: {main: {provider: scripted, script: scripts/a.yaml}}
    nodes: {think: {type: llm, model: main}}
    edges: [{from: START, to: think}, {from: think, to: END}]
    """
}


async def test_a_workflow_can_be_the_body(lab: Lab) -> None:
    await lab.open(
        mapped("workflow: workflows/sub.yaml, writes: found"),
        files={**ECHO, **SUB},
        initial_state={"items": ["x", "y"]},
    )
    run = await lab.run()
    assert run.status == "completed", run.error
    assert (await lab.state())["found"] == ["You said x", "You said y"]


async def test_what_is_no_list_is_an_error(lab: Lab) -> None:
    await lab.open(mapped(ITEM), files=FILES, initial_state={"items": "abc"})
    assert (await lab.run()).status == "failed"
    assert (await lab.error())["type"] == "node_output_invalid"


# -- sub-workflows ---------------------------------------------------------------------------------------------


async def test_a_sub_workflow_answers_the_last_message_and_its_records_carry_its_name(lab: Lab) -> None:
    await lab.open(single("{type: workflow, workflow: workflows/sub.yaml}"), files={**ECHO, **SUB})
    run = await lab.run("hello")
    assert run.status == "completed", run.error
    assert await lab.conversation() == [("user", "hello"), ("assistant", "You said hello")]
    nodes = {r["node"] for r in await lab.records("llm_request")}
    assert nodes == {"one/think"}
    inner = await lab.records("message", where=lambda r: r["node"] == "one/think")
    assert all(r["metadata"].get("in_conversation") is False for r in inner)


async def test_its_input_and_output_are_expressions(lab: Lab) -> None:
    node = (
        "{type: workflow, workflow: workflows/sub.yaml, input: {messages: \"'about ' + state.topic\"},"
        " output: {summary: last_message.content, count: message_count}}"
    )
    await lab.open(single(node), files={**ECHO, **SUB}, initial_state={"topic": "cats"})
    run = await lab.run("ignored")
    assert run.status == "completed", run.error
    state = await lab.state()
    assert (state["summary"], state["count"]) == ("You said about cats", 2)


async def test_a_question_inside_is_asked_and_answered(open_lab: OpenLab) -> None:
    sub = {
        "workflows/sub.yaml": """
        schema: modular-agent/v1
        name: sub
        nodes: {before: {type: function, ref: "tools.code:nothing"}, ask: {type: human, question: "Sure?"}}
        edges: [{from: START, to: before}, {from: before, to: ask}, {from: ask, to: END}]
        """
    }
    async with open_lab() as lab:
        await lab.open(
            single("{type: workflow, workflow: workflows/sub.yaml, output: {said: last_message.content}}"),
            files={**FILES, **sub},
        )
        assert (await lab.run("hello")).status == "paused"
        assert [q.node for q in await lab.questions()] == ["one/ask"]
        session, run_id = lab.session, lab.run_id
    async with open_lab() as lab:
        lab.session, lab.run_id = session, run_id
        run = await lab.answer("very")
        assert run.status == "completed", run.error
        assert (await lab.state())["said"] == "very"
        assert log(lab) == ["nothing"]


async def test_stepping_goes_into_a_sub_workflow_one_node_at_a_time(lab: Lab) -> None:
    sub = {
        "workflows/sub.yaml": """
        schema: modular-agent/v1
        name: sub
        nodes: {x: {type: function, ref: "tools.code:nothing"}, y: {type: function, ref: "tools.code:nothing"}}
        edges: [{from: START, to: x}, {from: x, to: y}, {from: y, to: END}]
        """
    }
    text = """
    nodes:
      nap: {type: wait, duration: 100ms}
      one: {type: workflow, workflow: workflows/sub.yaml, output: {}}
      z: {type: function, ref: "tools.code:nothing"}
    edges: [{from: START, to: nap}, {from: nap, to: one}, {from: one, to: z}, {from: z, to: END}]
    """
    await lab.open(text, files={**FILES, **sub})
    await lab.start("go")
    await asyncio.sleep(0.03)
    assert (await lab.runtime.control.pause(await lab.reload(), by="test")).status == "paused"
    seen: list[tuple[Any, int]] = []
    for _ in range(6):
        run = await lab.resume(step=True)
        seen.append((run.status.value, len(log(lab))))
        if run.status != "paused":
            break
    assert seen[-1] == ("completed", 3)
    assert [count for _, count in seen] == sorted({count for _, count in seen} - {0})

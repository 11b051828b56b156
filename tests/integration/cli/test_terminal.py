"""What a person at a terminal sees and does."""

import json
import re
from typing import Any


def test_the_answer_streams_in_colour_and_plain_where_that_is_wanted(project: Any) -> None:
    person = project.terminal("run", "react", "What is 17 * 23?")
    person.expect("The result is 391.")
    assert person.end() == 0
    assert "\x1b[" in person.shown
    plain = project.terminal("run", "react", "What is 17 * 23?", NO_COLOR="1")
    assert plain.end() == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", plain.shown)


def test_a_form_is_asked_field_by_field(project: Any) -> None:
    person = project.terminal("run", "replies", "My kettle arrived broken!")
    person.expect("Send it as it is? (y/n)")
    person.send("what\n")
    person.expect("cannot be used: what")
    person.send("n\n")
    person.expect("What should be different? (Enter for none)")
    person.send("offer tea\n")
    person.expect("offer tea")
    person.expect("(y/n)")
    person.send("y\n")
    person.expect("(Enter for none)")
    person.send("\n")
    assert person.end() == 0
    assert "completed · sort → draft → check → draft → check → send" in person.shown


def test_questions_are_chinese_for_a_chinese_locale(project: Any) -> None:
    person = project.terminal("run", "orders", "Please refund 700 for A-1002.", LANG="zh_CN.UTF-8")
    person.expect("允许调用 refund 吗？")
    person.expect("批准 (y/n)")
    person.send("否\n")
    person.expect("原因 (回车跳过)")
    person.send("太贵\n")
    person.expect("太贵")
    assert person.end() == 0
    assert "已完成" in person.shown


def test_an_interrupt_at_a_question_leaves_it_open(project: Any) -> None:
    person = project.terminal("run", "orders", "Please refund 700 for A-1002.")
    person.expect("(y/n)")
    person.interrupt()
    assert person.end() == 3
    assert "Go on with: modular-agent run --session orders-" in person.shown


def test_an_interrupt_pauses_after_the_step_and_the_run_goes_on_later(project: Any) -> None:
    person = project.terminal("run", "slow", "hello", "--json")
    person.expect('"phase":"start"')
    person.interrupt()
    person.expect("Pausing after the step in progress")
    assert person.end() == 3
    assert '"action":"pause"' in person.shown
    session_id = project.session_ids()[0]
    done = project.run("run", "--session", session_id)
    assert done.returncode == 0
    assert done.stdout == "one two three four five\n"


def test_a_second_interrupt_stops_a_step_that_never_ends(project: Any) -> None:
    person = project.terminal("run", "slow", "hang", "--json")
    person.expect('"record_type":"llm_request"')
    person.interrupt()
    person.expect("Pausing")
    person.interrupt()
    person.expect("Stopping")
    assert person.end() == 4
    statuses = re.findall(r'"status":"(\w+)","session_status"', person.shown)
    assert statuses[-1] == "stopped"


LED = """
schema: modular-agent/v1
name: led
models: {offline: {provider: scripted, script: scripts/led.yaml}}
state: {schema: {type: object, properties: {note: {type: string}}}}
nodes:
  first: {type: llm, prompt: First.}
  second: {type: llm, prompt: Second.}
  third: {type: llm, prompt: Third.}
edges: [{from: START, to: first}, {from: first, to: second}, {from: second, to: third}]
"""
LED_SCRIPT = """
turns: [{when: {system: First.}, reply: "one two three four five six", token_delay: 50ms}]
otherwise: {reply: "{{ system }} {{ input }}!"}
"""


def paused(project: Any, **environment: str) -> Any:
    """A person whose run has paused after its first step."""
    project.write("configs/workflows/led.yaml", LED)
    project.write("configs/scripts/led.yaml", LED_SCRIPT)
    person = project.terminal("run", "led", "hello", **environment)
    person.expect("one two")
    person.interrupt()
    person.expect(" · q")
    return person


def records(project: Any) -> list[dict[str, Any]]:
    [file] = project.folder.glob("data/history/*/*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_paused_run_is_told_changed_and_led_on_step_by_step(project: Any) -> None:
    person = paused(project)
    person.send("m in short\n")
    person.send('e note="mine"\n')
    person.send("e note=1\n")
    person.expect("error[state_invalid]")
    person.send("dance\n")
    person.expect("not known: dance")
    person.send("s\n")
    person.expect("Second. in short!")
    person.expect(" · q")
    person.send("\n")
    person.expect("Third. in short!")
    assert person.end() == 0
    found = records(project)
    assert [r["action"] for r in found if r["record_type"] == "control"] == [
        "pause",
        "inject",
        "edit",
        "step",
        "resume",
    ]
    assert found[-1]["result"]["state"] == {"note": "mine"}


def test_an_interrupt_of_a_paused_run_stops_it(project: Any) -> None:
    person = paused(project, LANG="zh_CN.UTF-8")
    person.interrupt()
    person.expect("已停止")
    assert person.end() == 4


def test_a_run_that_was_left_paused_goes_on_with_what_a_later_command_gives_it(project: Any) -> None:
    person = paused(project)
    person.send("q\n")
    assert person.end() == 3
    session_id = project.session_ids()[0]
    done = project.run("run", "--session", session_id, "in short", "--state", 'note="mine"', "--step")
    assert (done.returncode, done.stdout) == (3, "Second. in short!\n")
    done = project.run("run", "--session", session_id)
    assert (done.returncode, done.stdout) == (0, "Third. in short!\n")
    assert records(project)[-1]["result"]["state"] == {"note": "mine"}
    done = project.run("run", "--session", session_id, "--step")
    assert (done.returncode, "error[nothing_to_continue]" in done.stderr) == (2, True)
    assert project.run("run", "led", "hello", "--step").returncode == 2


ASKING = """
schema: modular-agent/v1
name: asking
models: {offline: {provider: scripted, script: scripts/led.yaml}}
nodes:
  first: {type: llm, prompt: First.}
  review: {type: human, question: "Good?", form: {approve: {type: boolean}}}
  third: {type: llm, prompt: Third.}
edges: [{from: START, to: first}, {from: first, to: review}, {from: review, to: third}]
"""
REST = """
schema: modular-agent/v1
name: rest
nodes: {rest: {type: wait, duration: 6s}}
edges: [{from: START, to: rest}]
"""


def actions(project: Any) -> list[str]:
    return [record["action"] for record in records(project) if record["record_type"] == "control"]


def test_a_question_in_a_step_belongs_to_the_step(project: Any) -> None:
    project.write("configs/workflows/asking.yaml", ASKING)
    project.write("configs/scripts/led.yaml", LED_SCRIPT)
    person = project.terminal("run", "asking", "hello")
    person.expect("one two")
    person.interrupt()
    person.expect(" · q")
    person.send("s\n")
    person.expect("(y/n)")
    person.send("y\n")
    person.expect(" · q")  # the step is done: the run is in the person's hands again
    assert "Third." not in person.shown
    person.send("\n")
    person.expect("Third. hello!")
    assert person.end() == 0
    assert actions(project) == ["pause", "step", "resume"]


def test_who_interrupts_a_wait_holds_it_until_a_later_command_goes_on(project: Any) -> None:
    project.write("configs/workflows/rest.yaml", REST)
    person = project.terminal("run", "rest", "hello")
    person.expect("Waiting until")
    person.interrupt()
    assert person.end() == 3
    assert actions(project) == ["pause"]
    done = project.run("run", "--session", project.session_ids()[0])
    assert (done.returncode, "completed" in done.stderr) == (0, True)
    assert actions(project) == ["pause", "resume"]


def test_sessions_are_a_table(project: Any) -> None:
    project.run("run", "react", "Hello!")
    person = project.terminal("sessions", "list")
    assert person.end() == 0
    assert "session" in person.shown
    assert "completed" in person.shown

"""What a person at a terminal sees and does."""

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


def test_sessions_are_a_table(project: Any) -> None:
    project.run("run", "react", "Hello!")
    person = project.terminal("sessions", "list")
    assert person.end() == 0
    assert "session" in person.shown
    assert "completed" in person.shown

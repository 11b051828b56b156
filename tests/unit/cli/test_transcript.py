from collections.abc import Callable
from typing import Any

import orjson
import pytest

from modular_agent.cli.terminal import Terminal
from modular_agent.cli.transcript import Transcript


class Play:
    """Events as a session sends them."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.transcript = Transcript(terminal, speakers={"think"})

    def send(self, kind: str, **data: Any) -> None:
        self.transcript.take(kind, orjson.dumps({"type": kind, "data": data}))

    def delta(self, text: str, offset: int, *, message_id: str = "m1", node: str = "think", **more: Any) -> None:
        self.send(
            "message_delta", message_id=message_id, node=node, text=text, offset=offset, channel="content", **more
        )

    def message(self, content: Any, *, record_id: str = "m1", node: str = "think", **metadata: Any) -> None:
        fields = {"record_id": record_id, "node": node, "metadata": metadata, "content": content}
        self.send("message", message_type="assistant", **fields)

    def tool(self, phase: str, call_id: str, **more: Any) -> None:
        fields = {"tool_name": "add", "tool_input": {"a": 1}, "tool_output": None, "success": None}
        self.send("tool_call", phase=phase, tool_call_id=call_id, execution_time=0.5, **{**fields, **more})

    @property
    def out(self) -> str:
        return self.terminal.out.file.getvalue()  # type: ignore[attr-defined]

    @property
    def err(self) -> str:
        return self.terminal.err.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def watched(make_terminal: Callable[..., Terminal]) -> Play:
    return Play(make_terminal(watched=True))


@pytest.fixture
def piped(make_terminal: Callable[..., Terminal]) -> Play:
    return Play(make_terminal())


def test_an_answer_streams_to_whoever_watches_and_is_written_once(watched: Play) -> None:
    watched.delta("Hel", 0)
    assert watched.out == "Hel"
    watched.delta("lo", 3)
    watched.message("Hello there")
    assert watched.out == "Hello there\n"


def test_a_delta_that_repeats_what_was_sent_is_not_written_twice(watched: Play) -> None:
    watched.delta("Hel", 0)
    watched.delta("Hello", 0)
    watched.message("Hello")
    assert watched.out == "Hello\n"


def test_a_pipe_gets_finished_answers_only(piped: Play) -> None:
    piped.delta("Hel", 0)
    assert piped.out == ""
    piped.message("Hello")
    assert piped.out == "Hello\n"


def test_a_failed_attempt_is_told_and_the_next_one_starts_on_its_own_line(watched: Play) -> None:
    watched.delta("Wro", 0)
    watched.delta("", 0, abandoned=True)
    watched.delta("Right", 0, message_id="m2")
    watched.message("Right", record_id="m2")
    assert watched.out == "Wro\nRight\n"
    assert "broke off" in watched.err


def test_answers_of_parallel_branches_do_not_mix(watched: Play) -> None:
    watched.delta("one ", 0, message_id="a")
    watched.delta("two", 0, message_id="b")
    watched.message("two", record_id="b")
    watched.delta("more", 4, message_id="a")
    watched.message("one more", record_id="a")
    assert watched.out == "one more\ntwo\n"


def test_what_an_answer_began_with_while_another_was_open_is_not_lost(watched: Play) -> None:
    watched.delta("one", 0, message_id="a")
    watched.delta("two ", 0, message_id="b")  # the next node's model: `a` is not in the log yet
    watched.delta("and ", 4, message_id="b")
    watched.message("one", record_id="a")
    watched.delta("more", 8, message_id="b")
    watched.message("two and more", record_id="b")
    assert watched.out == "one\ntwo and more\n"


def test_what_a_failed_attempt_began_with_beside_another_answer_is_never_shown(watched: Play) -> None:
    watched.delta("one", 0, message_id="a")
    watched.delta("wrong", 0, message_id="b")
    watched.delta("", 0, message_id="b", abandoned=True)
    watched.message("one", record_id="a")
    watched.message("right", record_id="b")
    assert watched.out == "one\nright\n"


def test_a_note_waits_for_the_end_of_the_line(watched: Play) -> None:
    watched.delta("Hel", 0)
    watched.send("log", level="warning", message="careful")
    assert watched.err == ""
    watched.message("Hello")
    assert "! careful" in watched.err


def test_what_is_held_back_is_shown_at_the_end(watched: Play) -> None:
    watched.delta("Hel", 0)
    watched.send("log", level="info", message="note")
    watched.transcript.close()
    assert watched.out == "Hel\n"
    assert "note" in watched.err


def test_answers_beside_the_conversation_are_notes(watched: Play) -> None:
    watched.delta('{"a"', 0, node="plan")
    watched.message('{"a": 1}', node="plan", in_conversation=False)
    assert watched.out == ""
    assert 'plan: {"a": 1}' in watched.err


def test_a_result_that_does_not_follow_its_call_names_its_tool(piped: Play) -> None:
    piped.tool("intent", "c1")
    piped.tool("intent", "c2")
    piped.tool("result", "c1", tool_output="1", success=True)
    piped.tool("result", "c2", tool_output="no", success=False)
    piped.tool("interrupted", "c3")
    assert [line.strip() for line in piped.err.splitlines()] == [
        "→ add(a=1)",
        "→ add(a=1)",
        "← add: 1  (500 ms)",
        "✗ add: no  (500 ms)",
        "✗ add: interrupted; whether it was done is not known",
    ]


def test_control_characters_of_a_model_do_not_reach_the_terminal(watched: Play) -> None:
    watched.delta("\x1b]0;owned\x07ok\tyes", 0)
    watched.message("\x1b]0;owned\x07ok\tyes")
    assert "\x1b" not in watched.out
    assert "\x07" not in watched.out
    assert "ok\tyes" in watched.out


def test_tokens_without_a_price_are_unpriced_not_free(piped: Play) -> None:
    for amount in ("0.0012", None):
        piped.send("llm_call", record_type="token_usage", prompt_tokens=100, completion_tokens=10)
        piped.send("llm_call", record_type="cost", amount=amount)
    assert piped.transcript.spent.shown(piped.terminal) == (
        "220 tokens (200 in, 20 out), $0.0012 + 110 tokens unpriced"
    )


def test_the_path_is_whole_although_each_record_repeats_its_end_only(piped: Play) -> None:
    path = [f"n{number}" for number in range(50)]
    for length in range(1, 51):
        piped.send("workflow_state", execution_path=path[:length][-20:], path_length=length)
    assert piped.transcript.path == path

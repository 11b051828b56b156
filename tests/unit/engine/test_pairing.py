"""Conversations as models insist on them."""

from hypothesis import given
from hypothesis import strategies as st

from modular_agent.engine.pairing import NO_RESULT, is_paired, paired
from modular_agent.engine.providers.port import Message

CALLS = st.lists(st.sampled_from("abcd"), max_size=3, unique=True)


def said(role: str, *calls: str) -> Message:
    message: Message = {"role": role, "content": "x"}  # type: ignore[typeddict-item]
    if calls:
        message["tool_calls"] = [
            {"id": call, "type": "function", "function": {"name": "f", "arguments": "{}"}} for call in calls
        ]
    return message


def result(call: str) -> Message:
    return {"role": "tool", "content": "done", "tool_call_id": call, "name": "f"}


MESSAGES = st.lists(
    st.one_of(
        st.just(said("user")),
        CALLS.map(lambda calls: said("assistant", *calls)),
        st.sampled_from("abcd").map(result),
    ),
    max_size=12,
)


def test_what_is_paired_stays_as_it_is() -> None:
    whole = [said("user"), said("assistant", "a", "b"), result("b"), result("a"), said("assistant"), said("user")]
    assert is_paired(whole)
    for torn in (whole[:2], whole[:3], whole[2:], [*whole[:3], said("user"), whole[3]], [*whole, result("a")]):
        assert not is_paired(torn)


def test_a_missing_result_is_made_up_and_one_without_its_call_left_out() -> None:
    mended = paired([result("z"), said("assistant", "a", "b"), said("user"), result("b")])
    assert [message["role"] for message in mended] == ["assistant", "tool", "tool", "user"]
    assert [message["content"] for message in mended[1:3]] == [NO_RESULT, "done"]


@given(MESSAGES)
def test_whatever_came_before_is_paired_afterwards_and_nothing_said_is_lost(messages: list[Message]) -> None:
    mended = paired(messages)
    assert is_paired(mended)
    assert [m for m in mended if m["role"] != "tool"] == [m for m in messages if m["role"] != "tool"]
    if is_paired(messages):
        assert sorted(map(str, mended)) == sorted(map(str, messages))

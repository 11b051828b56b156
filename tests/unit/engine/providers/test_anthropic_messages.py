"""A conversation keeps its meaning in Anthropic's shape."""

import pytest

from modular_agent.engine.providers.anthropic_messages import wire_messages, wire_tool_choice


def call(call_id: str, arguments: str = '{"x":1}') -> dict:
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": arguments}}


def test_system_messages_go_apart() -> None:
    system, wire = wire_messages(
        [
            {"role": "system", "content": "Be brief.", "id": "rec_1"},
            {"role": "user", "content": "Hi", "id": "rec_2"},
            {"role": "system", "content": "In Chinese."},
        ]
    )
    assert system == "Be brief.\n\nIn Chinese."
    assert wire == [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]


def test_consecutive_tool_results_and_the_next_question_are_one_user_message() -> None:
    _, wire = wire_messages(
        [
            {"role": "user", "content": "Go"},
            {"role": "assistant", "content": "Well", "tool_calls": [call("a"), call("b")]},
            {"role": "tool", "content": "1", "tool_call_id": "a"},
            {"role": "tool", "content": "", "tool_call_id": "b"},
            {"role": "user", "content": "And?"},
        ]
    )
    assert [message["role"] for message in wire] == ["user", "assistant", "user"]
    assert wire[1]["content"] == [
        {"type": "text", "text": "Well"},
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "f", "input": {"x": 1}},
    ]
    assert wire[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "1"},
        {"type": "tool_result", "tool_use_id": "b"},
        {"type": "text", "text": "And?"},
    ]


def test_arguments_that_are_no_object_are_still_sent() -> None:
    _, wire = wire_messages(
        [{"role": "assistant", "content": None, "tool_calls": [call("a", "{broken"), call("b", "[1]")]}]
    )
    assert [block["input"] for block in wire[0]["content"]] == [{"arguments": "{broken"}, {"arguments": [1]}]


def test_thinking_goes_back_first_and_unchanged() -> None:
    thinking = [{"type": "thinking", "thinking": "hm", "signature": "s"}]
    extra = {"anthropic": {"thinking": thinking}, "google": {"thought_signature": "t"}}
    _, wire = wire_messages([{"role": "assistant", "content": "Yes", "reasoning": "hm", "extra_content": extra}])
    assert wire[0]["content"] == [*thinking, {"type": "text", "text": "Yes"}]


def test_empty_messages_are_left_out() -> None:
    assert wire_messages([{"role": "assistant", "content": ""}, {"role": "user", "content": " \n"}]) == ("", [])


def test_ids_of_other_providers_fit_the_alphabet_on_both_sides() -> None:
    _, wire = wire_messages(
        [
            {"role": "assistant", "content": None, "tool_calls": [call("functions.f:0")]},
            {"role": "tool", "content": "1", "tool_call_id": "functions.f:0"},
        ]
    )
    assert wire[0]["content"][0]["id"] == wire[1]["content"][0]["tool_use_id"] == "functions_f_0"


def test_images_are_sent_by_value_or_by_address() -> None:
    parts = [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
    ]
    _, wire = wire_messages([{"role": "user", "content": parts}])
    assert [block.get("source") for block in wire[0]["content"]] == [
        None,
        {"type": "base64", "media_type": "image/png", "data": "QUJD"},
        {"type": "url", "url": "https://x/y.png"},
    ]


@pytest.mark.parametrize(
    ("choice", "parallel", "wire"),
    [
        (None, None, None),
        ("auto", None, None),
        ("required", None, {"type": "any"}),
        ("none", False, {"type": "none"}),
        ("f", None, {"type": "tool", "name": "f"}),
        ({"type": "function", "function": {"name": "f"}}, None, {"type": "tool", "name": "f"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
    ],
)
def test_tool_choice(choice: object, parallel: bool | None, wire: dict | None) -> None:
    assert wire_tool_choice(choice, parallel=parallel) == wire

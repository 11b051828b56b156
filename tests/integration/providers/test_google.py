"""Gemini's dialect of OpenAI's format."""

import orjson
import pytest

from modular_agent.engine.providers.errors import ProviderError
from modular_agent.engine.providers.port import FinishReason, ToolSchema, Usage
from servers.model_server import Canned


def event(choice: dict | None, **more: object) -> bytes:
    choices = [] if choice is None else [{"index": 0, **choice}]
    return b"data: " + orjson.dumps({"model": "models/gemini-x", "choices": choices, **more}) + b"\n\n"


async def test_calls_without_index_keep_the_signatures_that_must_go_back(caller) -> None:
    model = caller("google", model="models/gemini-x")
    signature = {"google": {"thought_signature": "c2ln"}}

    def call(name: str, **more: object) -> dict:
        return {
            "id": f"function-call-{name}",
            "type": "function",
            "function": {"name": name, "arguments": "{}"},
            **more,
        }

    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 40}
    parts = [
        event({"delta": {"role": "assistant", "tool_calls": [call("f", extra_content=signature)]}}),
        event({"delta": {"tool_calls": [call("g")]}}),
        event({"delta": {}, "finish_reason": "stop"}, usage=usage),
        b"data: [DONE]\n\n",
    ]
    model.server.enqueue(Canned(parts=parts))
    tool = ToolSchema(
        name="f",
        description="F",
        parameters={
            "$schema": "x",
            "type": "object",
            "properties": {"a": {"type": "string"}},
            "additionalProperties": False,
        },
    )
    completion = await model.ask({"role": "user", "content": "Go"}, tools=[tool])
    assert [each["function"]["name"] for each in completion.message["tool_calls"]] == ["f", "g"]
    assert completion.finish_reason is FinishReason.TOOL_CALLS
    assert completion.usage == Usage(prompt_tokens=10, completion_tokens=30, reasoning_tokens=25)
    assert completion.model == "gemini-x"
    assert model.sent["model"] == "gemini-x"
    assert model.sent["tools"][0]["function"]["parameters"] == {
        "type": "object",
        "properties": {"a": {"type": "string"}},
    }
    results = [
        {"role": "tool", "content": "1", "tool_call_id": each["id"]} for each in completion.message["tool_calls"]
    ]
    await model.ask({"role": "user", "content": "Go"}, completion.message, *results)
    first, second = model.sent["messages"][1]["tool_calls"]
    assert first["extra_content"] == signature
    assert "extra_content" not in second
    other = caller("openai")
    await other.ask({"role": "user", "content": "Go"}, completion.message, *results)
    assert "extra_content" not in other.sent["messages"][1]["tool_calls"][0]


async def test_thoughts_among_the_content_have_their_own_channel(caller) -> None:
    model = caller("google")
    thought = {"content": "<thought>Hm", "extra_content": {"google": {"thought": True}}}
    parts = [
        event({"delta": thought}),
        event({"delta": {"content": "Yes."}, "finish_reason": "stop"}),
        b"data: [DONE]\n\n",
    ]
    model.server.enqueue(Canned(parts=parts))
    completion = await model.ask()
    assert (completion.message["reasoning"], completion.message["content"]) == ("Hm", "Yes.")
    assert model.pieces == [("reasoning", "Hm"), ("content", "Yes.")]


async def test_an_error_in_a_list_asks_for_its_wait(caller) -> None:
    model = caller("google")
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12s"}
    body = [{"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": [detail]}}]
    model.server.enqueue(Canned(parts=[orjson.dumps(body)], status=429, content_type="application/json"))
    with pytest.raises(ProviderError) as caught:
        await model.ask()
    assert (caught.value.reason, caught.value.retry_after) == ("rate_limited", 12.0)

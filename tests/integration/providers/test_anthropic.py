"""Anthropic's Messages API over real sockets."""

import orjson
import pytest

from modular_agent.engine.providers.errors import ProviderError
from modular_agent.engine.providers.port import FinishReason, Usage
from servers.model_server import Behaviour, Canned


def events(*values: dict) -> list[bytes]:
    return [b"event: %b\ndata: %b\n\n" % (value["type"].encode(), orjson.dumps(value)) for value in values]


def start(**usage: int) -> dict:
    return {"type": "message_start", "message": {"model": "claude-served", "usage": usage}}


def stop(reason: str = "end_turn", **usage: int) -> tuple[dict, dict]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}, {"type": "message_stop"}


async def test_a_text_streams_with_its_thinking(caller, key: str) -> None:
    model = caller("anthropic")
    model.server.behaviour = Behaviour(text="Hello 你好", reasoning="Let me think")
    completion = await model.ask(
        {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi", "id": "rec_1"}
    )
    assert completion.message["content"] == "Hello 你好"
    assert completion.message["reasoning"] == "Let me think"
    thinking = [{"type": "thinking", "thinking": "Let me think", "signature": "c2lnbmVk"}]
    assert completion.message["extra_content"] == {"anthropic": {"thinking": thinking}}
    assert (model.text("reasoning"), model.text()) == ("Let me think", "Hello 你好")
    request = model.server.requests[-1]
    assert request.path == "/v1/messages"
    assert (request.headers["x-api-key"], request.headers["anthropic-version"]) == (key, "2023-06-01")
    assert request.body == {
        "model": "test-model",
        "max_tokens": 8192,
        "stream": True,
        "system": "Be kind.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    }


async def test_a_tool_is_called_and_its_result_told(caller, calculator) -> None:
    model = caller("anthropic")
    question = {"role": "user", "content": "What is 17 * 23?"}
    first = await model.ask(question, tools=[calculator], parallel_tool_calls=False)
    (call,) = first.message["tool_calls"]
    assert call["function"] == {"name": "calculator", "arguments": '{"expression":"17 * 23"}'}
    assert first.finish_reason is FinishReason.TOOL_CALLS
    assert model.sent["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    result = {"role": "tool", "content": "391", "tool_call_id": call["id"]}
    second = await model.ask(question, first.message, result, tools=[calculator])
    assert "391" in second.message["content"]
    assert model.sent["tools"] == [
        {"name": "calculator", "description": "Calculates.", "input_schema": dict(calculator.parameters)}
    ]


async def test_cached_tokens_are_part_of_the_prompt_and_later_counts_replace_earlier_ones(caller) -> None:
    model = caller("anthropic")
    first = start(input_tokens=10, cache_read_input_tokens=100, cache_creation_input_tokens=20, output_tokens=1)
    text = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "x"}}
    model.server.enqueue(Canned(parts=events(first, {"type": "ping"}, text, *stop(output_tokens=50))))
    completion = await model.ask()
    assert completion.usage == Usage(prompt_tokens=130, completion_tokens=50, cached_tokens=100, cache_write_tokens=20)
    assert completion.model == "claude-served"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "other"),
    ],
)
async def test_stop_reasons_have_one_vocabulary(caller, raw: str, reason: str) -> None:
    model = caller("anthropic")
    model.server.enqueue(Canned(parts=events(start(input_tokens=1), *stop(raw, output_tokens=1))))
    assert (await model.ask()).finish_reason == reason


async def test_parallel_calls_may_interleave_and_a_call_may_have_no_arguments(caller) -> None:
    def block(index: int, call_id: str) -> dict:
        tool = {"type": "tool_use", "id": call_id, "name": "f", "input": {}}
        return {"type": "content_block_start", "index": index, "content_block": tool}

    def piece(index: int, text: str) -> dict:
        return {
            "type": "content_block_delta",
            "index": index,
            "delta": {"type": "input_json_delta", "partial_json": text},
        }

    model = caller("anthropic")
    stream = [start(input_tokens=1), block(0, "a"), block(1, "b"), piece(1, '{"y"'), piece(0, ""), piece(1, ":2}")]
    model.server.enqueue(Canned(parts=events(*stream, *stop("tool_use", output_tokens=1))))
    calls = (await model.ask()).message["tool_calls"]
    assert [(call["id"], call["function"]["arguments"]) for call in calls] == [("a", "{}"), ("b", '{"y":2}')]


async def test_an_answer_by_schema_uses_the_output_format(caller) -> None:
    model = caller("anthropic")
    schema = {"type": "object", "properties": {"score": {"type": "number", "minimum": 0}}, "required": ["score"]}
    completion = await model.ask(response_schema=schema, stop="END", temperature=0.5, seed=3)
    assert set(orjson.loads(completion.message["content"])) == {"score"}
    wanted = model.sent["output_config"]["format"]
    assert wanted["type"] == "json_schema"
    assert wanted["schema"]["additionalProperties"] is False
    assert "minimum" not in wanted["schema"]["properties"]["score"]
    assert (model.sent["stop_sequences"], model.sent["temperature"]) == (["END"], 0.5)
    assert "seed" not in model.sent


async def test_an_older_model_is_made_to_call_a_tool_for_its_answer(caller) -> None:
    model = caller("anthropic", model="claude-3-5-haiku-latest")
    tool = {"type": "tool_use", "id": "t", "name": "give_answer", "input": {}}
    pieces = [
        {"type": "content_block_start", "index": 0, "content_block": tool},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"a":1}'}},
    ]
    model.server.enqueue(Canned(parts=events(start(input_tokens=1), *pieces, *stop("tool_use", output_tokens=1))))
    completion = await model.ask(response_schema={"properties": {"a": {"type": "integer"}}})
    assert completion.message == {"role": "assistant", "content": '{"a":1}'}
    assert completion.finish_reason is FinishReason.STOP
    assert model.pieces == [("content", '{"a":1}')]
    assert model.sent["tool_choice"] == {"type": "tool", "name": "give_answer"}
    assert model.sent["tools"][0]["input_schema"]["type"] == "object"


async def test_an_overload_inside_the_stream_is_known(caller) -> None:
    model = caller("anthropic")
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    model.server.enqueue(Canned(parts=events(start(input_tokens=1), error)))
    with pytest.raises(ProviderError) as caught:
        await model.ask()
    assert (caught.value.reason, caught.value.retryable) == ("overloaded", True)


@pytest.mark.parametrize(
    "broken",
    [
        {"type": "content_block_delta", "index": 4, "delta": {"type": "text_delta", "text": "x"}},
        {"type": "content_block_start", "index": 0},
        {"type": "message_delta"},
    ],
)
async def test_events_of_a_wrong_shape_are_bad_responses(caller, broken: dict) -> None:
    model = caller("anthropic")
    model.server.enqueue(Canned(parts=events(start(input_tokens=1), broken)))
    with pytest.raises(ProviderError) as caught:
        await model.ask()
    assert caught.value.reason == "bad_response"


async def test_a_server_that_does_not_stream(caller) -> None:
    model = caller("anthropic")
    body = {
        "type": "message",
        "model": "m",
        "content": [{"type": "text", "text": "whole"}, {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    model.server.enqueue(Canned(parts=[orjson.dumps(body)], content_type="application/json"))
    completion = await model.ask()
    assert completion.message["content"] == "whole"
    assert completion.message["tool_calls"][0]["function"]["arguments"] == '{"x":1}'
    assert completion.usage == Usage(prompt_tokens=3, completion_tokens=2)
    assert model.pieces == [("content", "whole")]

"""OpenAI's format over real sockets, as OpenAI and its many imitators speak it."""

import asyncio
import time

import aiohttp
import orjson
import pytest

from modular_agent.engine.providers.errors import ProviderError, ProviderErrorKind
from modular_agent.engine.providers.openai import DEEPSEEK_DIALECT, OPENAI_DIALECT, OpenAIModel, dialect_of
from modular_agent.engine.providers.port import ChatRequest, FinishReason, Usage
from servers.model_server import Behaviour, Canned


def event(value: object) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else orjson.dumps(value)) + b"\n\n"


def delta(finish: str | None = None, **fields: object) -> bytes:
    return event({"model": "served-model", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]})


DONE = event(b"[DONE]")


async def test_a_text_streams_word_by_word(caller, key: str) -> None:
    model = caller()
    model.server.behaviour = Behaviour(text="Hello 你好 world", reasoning="Think first", cached_tokens=3)
    completion = await model.ask({"role": "user", "content": "Hi there, server", "id": "rec_1"})
    assert completion.message == {"role": "assistant", "content": "Hello 你好 world", "reasoning": "Think first"}
    assert model.pieces[:3] == [("reasoning", "Think"), ("reasoning", " first"), ("content", "Hello")]
    assert completion.finish_reason is FinishReason.STOP
    assert completion.usage.source == "provider"
    assert (completion.usage.cached_tokens, completion.usage.reasoning_tokens) == (3, 2)
    assert completion.served_by == model.server.openai_url
    request = model.server.requests[-1]
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {key}"
    assert request.body == {
        "model": "test-model",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "Hi there, server"}],
    }


async def test_a_tool_is_called_and_its_result_told(caller, calculator) -> None:
    model = caller()
    question = {"role": "user", "content": "What is 17 * 23?"}
    first = await model.ask(question, tools=[calculator])
    (call,) = first.message["tool_calls"]
    assert call["function"] == {"name": "calculator", "arguments": '{"expression":"17 * 23"}'}
    assert (first.finish_reason, first.message["content"]) == (FinishReason.TOOL_CALLS, None)
    result = {"role": "tool", "content": "391", "tool_call_id": call["id"], "name": "calculator", "id": "rec_9"}
    second = await model.ask(question, {**first.message, "id": "rec_8"}, result, tools=[calculator])
    assert "391" in second.message["content"]
    assert model.sent["messages"][1] == {"role": "assistant", "content": None, "tool_calls": [call]}
    assert model.sent["messages"][2] == {
        "role": "tool",
        "content": "391",
        "tool_call_id": call["id"],
        "name": "calculator",
    }
    assert model.sent["tools"][0]["function"]["parameters"] == calculator.parameters


@pytest.mark.parametrize("written", ["{expression: 2", "[1]"])
async def test_arguments_that_are_no_object_go_back_as_one(caller, written: str) -> None:
    model = caller()
    call = {"id": "c1", "type": "function", "function": {"name": "calculator", "arguments": written}}
    result = {"role": "tool", "content": "not valid", "tool_call_id": "c1"}
    await model.ask({"role": "assistant", "content": None, "tool_calls": [call]}, result)
    [sent] = model.sent["messages"][0]["tool_calls"]
    assert orjson.loads(sent["function"]["arguments"]) == {"arguments": written}


async def test_calls_reuse_one_connection(caller) -> None:
    model = caller()
    for _ in range(5):
        await model.ask()
    assert model.server.connections_made == 1


async def test_many_tasks_may_use_one_model(caller) -> None:
    model = caller()
    model.server.behaviour = Behaviour(token_delay=0.001)
    asked = [model.ask({"role": "user", "content": f"number {n}"}) for n in range(40)]
    answers = await asyncio.gather(*asked)
    assert [answer.message["content"] for answer in answers] == [f"You said: number {n}" for n in range(40)]


async def test_chunks_may_be_cut_inside_a_character_and_lines_end_in_crlf(caller) -> None:
    model = caller()
    stream = (b": hello\n\n" + delta(content="你好，") + delta(content="世界") + delta("stop") + DONE).replace(
        b"\n", b"\r\n"
    )
    model.server.enqueue(Canned(parts=[stream[i : i + 7] for i in range(0, len(stream), 7)]))
    assert (await model.ask()).message["content"] == "你好，世界"


async def test_usage_in_a_last_chunk_without_choices(caller) -> None:
    model = caller()
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 5}
    model.server.enqueue(
        Canned(parts=[delta(content="x"), delta("stop"), event({"choices": [], "usage": usage}), DONE])
    )
    completion = await model.ask()
    assert completion.usage == Usage(prompt_tokens=9, completion_tokens=4, cached_tokens=5)
    assert completion.model == "served-model"


async def test_missing_usage_is_estimated_and_marked(caller) -> None:
    model = caller()
    model.server.behaviour = Behaviour(usage=False)
    completion = await model.ask({"role": "user", "content": "x" * 400})
    assert completion.usage.source == "estimated"
    assert completion.usage.prompt_tokens > 100


@pytest.mark.parametrize("content_type", ["application/json", "text/plain; charset=utf-8"])
async def test_a_server_that_does_not_stream(caller, content_type: str) -> None:
    model = caller()
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    message = {"role": "assistant", "content": "whole", "reasoning": "r", "tool_calls": [call]}
    body = {
        "model": "m",
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    model.server.enqueue(Canned(parts=[orjson.dumps(body)], content_type=content_type))
    completion = await model.ask()
    assert (completion.message["content"], completion.message["reasoning"]) == ("whole", "r")
    assert completion.message["tool_calls"][0]["function"]["arguments"] == '{"x":1}'
    assert completion.finish_reason is FinishReason.TOOL_CALLS
    assert model.pieces == [("content", "whole"), ("reasoning", "r")]


async def test_a_stream_under_a_wrong_name_is_read(caller) -> None:
    model = caller()
    model.server.enqueue(Canned(parts=[delta(content="x"), delta("stop"), DONE], content_type="text/plain"))
    assert (await model.ask()).message["content"] == "x"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("weird", "other"),
        ("tool_calls", "stop"),
    ],
)
async def test_finish_reasons_have_one_vocabulary(caller, raw: str, reason: str) -> None:
    model = caller()
    model.server.enqueue(Canned(parts=[delta(content="x"), delta(raw), DONE]))
    assert (await model.ask()).finish_reason == reason


async def test_a_stream_may_end_after_its_finish_reason_without_done(caller) -> None:
    model = caller()
    model.server.enqueue(Canned(parts=[delta(content="x"), delta("stop")]))
    assert (await model.ask()).message["content"] == "x"


async def test_a_server_that_lingers_after_the_end_does_not_hold_the_answer(caller) -> None:
    model = caller()
    model.server.enqueue(Canned(parts=[delta(content="x"), delta("stop"), DONE], end="hang"))
    begin = time.monotonic()
    assert (await model.ask()).message["content"] == "x"
    assert time.monotonic() - begin < 1
    assert (await model.ask()).message["content"] == "You said: Hi"


async def test_parameters_take_the_wires_names(caller, calculator) -> None:
    model = caller(parameters={"temperature": 0.1, "top_k": 5, "max_tokens": 10})
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    completion = await model.ask(
        tools=[calculator], temperature=0.7, stop=["END"], seed=None, tool_choice="calculator", response_schema=schema
    )
    sent = model.sent
    assert (sent["temperature"], sent["top_k"], sent["max_tokens"], sent["stop"]) == (0.7, 5, 10, ["END"])
    assert "seed" not in sent
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "calculator"}}
    assert sent["response_format"]["json_schema"] == {"name": "answer", "schema": schema, "strict": True}
    assert set(orjson.loads(completion.message["content"])) == {"a"}


async def test_tool_parameters_without_tools_are_left_out(caller) -> None:
    model = caller()
    await model.ask(tool_choice="auto", parallel_tool_calls=False, response_schema={"type": "object"})
    assert not {"tool_choice", "parallel_tool_calls", "tools"} & set(model.sent)
    assert model.sent["response_format"]["json_schema"]["strict"] is False


async def test_a_server_that_refuses_the_usage_option_is_asked_without(caller) -> None:
    model = caller()
    body = orjson.dumps({"error": {"message": "Unrecognized request argument: stream_options"}})
    model.server.enqueue(Canned(parts=[body], status=400, content_type="application/json"))
    assert (await model.ask()).message["content"] == "You said: Hi"
    assert (await model.ask()).usage.source == "estimated"
    assert ["stream_options" in seen.body for seen in model.server.requests] == [True, False, False]


async def test_dialects_are_known_by_host(server, calculator) -> None:
    assert dialect_of("https://api.openai.com/v1") is OPENAI_DIALECT
    assert dialect_of("https://api.deepseek.com") is DEEPSEEK_DIALECT
    assert dialect_of("https://notdeepseek.com/v1").schema_mode == "json_schema"
    call = {"id": "a", "type": "function", "function": {"name": "calculator", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "because"},
        {"role": "tool", "content": "1", "tool_call_id": "a"},
    ]
    request = ChatRequest(messages=messages, parameters={"response_schema": {"type": "object"}, "max_tokens": 5})
    async with aiohttp.ClientSession() as session:
        for dialect in (DEEPSEEK_DIALECT, OPENAI_DIALECT):
            made = OpenAIModel("m", session=session, base_url=server.openai_url, dialect=dialect)
            await made.complete(request, lambda *_: None)
    deepseek, openai = (seen.body for seen in server.requests)
    assert deepseek["response_format"] == {"type": "json_object"}
    assert "JSON Schema" in deepseek["messages"][1]["content"]
    assert deepseek["messages"][3]["reasoning_content"] == "because"
    assert openai["max_completion_tokens"] == 5
    assert "reasoning_content" not in openai["messages"][2]


async def test_a_cancelled_call_closes_its_connection(caller) -> None:
    model = caller()
    model.server.behaviour = Behaviour(token_delay=0.01, tokens=1000)
    task = asyncio.ensure_future(model.ask())
    while not model.pieces:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(2):
        while not model.server.connections_lost:
            await asyncio.sleep(0.005)


async def test_a_request_that_is_no_json_is_refused_without_a_call(caller) -> None:
    model = caller()
    with pytest.raises(ProviderError) as caught:
        await model.ask(temperature=object())
    assert caught.value.reason is ProviderErrorKind.BAD_REQUEST
    assert model.server.calls == 0

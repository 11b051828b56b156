"""LangChain's models work behind our port, shown with LangChain's own fakes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel, FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import Field

from modular_agent.engine.providers.errors import ProviderError, ProviderErrorKind
from modular_agent.engine.providers.langchain import LangChainModel
from modular_agent.engine.providers.port import ChatRequest, FinishReason, ToolSchema, Usage

TOOL = ToolSchema(name="add", description="Adds.", parameters={"type": "object", "properties": {}})


class ChunkModel(BaseChatModel):
    """Streams given chunks and remembers what it was asked."""

    chunks: list[Any]
    seen: list[Any] = Field(default_factory=list)
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def _llm_type(self) -> str:
        return "chunks"

    def bind_tools(self, tools: Any, **options: Any) -> Any:
        return self.bind(tools=tools, **options)

    def _generate(self, messages: list[BaseMessage], stop=None, run_manager=None, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    async def _astream(
        self, messages: list[BaseMessage], stop=None, run_manager=None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        self.seen.extend(messages)
        self.options.update(kwargs, stop=stop)
        for chunk in self.chunks:
            if isinstance(chunk, BaseException):
                raise chunk
            if isinstance(chunk, float):
                await asyncio.sleep(chunk)
                continue
            yield ChatGenerationChunk(message=chunk)


def wrap(chat_model: BaseChatModel) -> LangChainModel:
    return LangChainModel(chat_model, provider="langchain:fake", model="fake-1", secrets=("hunter2",))


async def ask(chat_model: BaseChatModel, *messages: dict, tools=(), timeout: float = 5.0, **parameters):
    pieces: list[tuple[str, str]] = []
    request = ChatRequest(
        messages=messages or ({"role": "user", "content": "x"},), tools=tools, parameters=parameters, timeout=timeout
    )
    completion = await wrap(chat_model).complete(request, lambda channel, text: pieces.append((channel, text)))
    return completion, pieces


async def test_text_streams_and_missing_usage_is_estimated() -> None:
    completion, pieces = await ask(FakeListChatModel(responses=["你好 world"]))
    assert completion.message == {"role": "assistant", "content": "你好 world"}
    assert "".join(text for _, text in pieces) == "你好 world"
    assert len(pieces) == 8
    assert completion.usage.source == "estimated"
    assert (completion.finish_reason, completion.model) == (FinishReason.STOP, "fake-1")


async def test_a_model_that_cannot_stream_answers_too() -> None:
    completion, _ = await ask(GenericFakeChatModel(messages=iter([AIMessage(content="whole answer")])))
    assert completion.message["content"] == "whole answer"


async def test_tool_calls_come_in_pieces_and_broken_ones_are_kept() -> None:
    def chunk(index: int, name: str | None, args: str, call_id: str | None) -> AIMessageChunk:
        piece = {"name": name, "args": args, "id": call_id, "index": index, "type": "tool_call_chunk"}
        return AIMessageChunk(content="", tool_call_chunks=[piece])

    chunks = [
        chunk(0, "add", '{"a":', "c1"),
        chunk(0, None, "1}", None),
        chunk(1, "add", '{"a" oops', "c2"),
        AIMessageChunk(content="", response_metadata={"finish_reason": "tool_calls", "model_name": "big-1"}),
    ]
    chat_model = ChunkModel(chunks=chunks)
    completion, _ = await ask(chat_model, tools=[TOOL], tool_choice="required", temperature=0.1, stop=["END"])
    calls = [
        (call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in completion.message["tool_calls"]
    ]
    assert calls == [("c1", "add", '{"a":1}'), ("c2", "add", '{"a" oops')]
    assert completion.message["content"] is None
    assert (completion.finish_reason, completion.model) == (FinishReason.TOOL_CALLS, "big-1")
    assert chat_model.options["tool_choice"] == "required"
    assert chat_model.options["temperature"] == 0.1
    assert chat_model.options["stop"] == ["END"]
    assert chat_model.options["tools"][0]["function"]["name"] == "add"


async def test_usage_comes_with_its_parts() -> None:
    metadata = {
        "input_tokens": 100,
        "output_tokens": 20,
        "total_tokens": 120,
        "input_token_details": {"cache_read": 40, "cache_creation": 10},
        "output_token_details": {"reasoning": 5},
    }
    completion, _ = await ask(
        ChunkModel(chunks=[AIMessageChunk(content="x"), AIMessageChunk(content="", usage_metadata=metadata)])
    )
    assert completion.usage == Usage(
        prompt_tokens=100, completion_tokens=20, cached_tokens=40, cache_write_tokens=10, reasoning_tokens=5
    )


async def test_reasoning_has_its_own_channel_and_signed_thoughts_come_back() -> None:
    chunks = [
        AIMessageChunk(content=[{"type": "thinking", "thinking": "hm", "signature": "s", "index": 0}]),
        AIMessageChunk(content=[{"type": "text", "text": "yes", "index": 1}]),
    ]
    completion, pieces = await ask(ChunkModel(chunks=chunks))
    assert pieces == [("reasoning", "hm"), ("content", "yes")]
    assert (completion.message["content"], completion.message["reasoning"]) == ("yes", "hm")
    later = ChunkModel(chunks=[AIMessageChunk(content="ok")])
    await ask(later, {"role": "user", "content": "x"}, completion.message, {"role": "user", "content": "y"})
    assert later.seen[1].content[0]["signature"] == "s"


async def test_a_conversation_goes_over_whole() -> None:
    chat_model = ChunkModel(chunks=[AIMessageChunk(content="ok")])
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{broken"}},
    ]
    await ask(
        chat_model,
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "U"}]},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "1", "tool_call_id": "a", "name": "f"},
    )
    system, human, assistant, tool = chat_model.seen
    assert (system.type, system.content, human.type) == ("system", "S", "human")
    assert assistant.tool_calls[0]["args"] == {"x": 1}
    assert assistant.invalid_tool_calls[0]["args"] == "{broken"
    assert (tool.tool_call_id, tool.content) == ("a", "1")


async def test_a_schema_is_an_option_where_the_package_has_one_and_an_instruction_elsewhere() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    request = ChatRequest(messages=[{"role": "user", "content": "x"}], parameters={"response_schema": schema})
    with_option = ChunkModel(chunks=[AIMessageChunk(content="{}")])
    made = LangChainModel(with_option, provider="langchain:mistralai", model="m")
    await made.complete(request, lambda *_: None)
    assert with_option.options["response_format"]["json_schema"]["schema"] == schema
    assert len(with_option.seen) == 1
    without = ChunkModel(chunks=[AIMessageChunk(content="{}")])
    await LangChainModel(without, provider="langchain:ollama", model="m").complete(request, lambda *_: None)
    assert "response_format" not in without.options
    assert '"properties"' in without.seen[0].content


class ApiStatusError(Exception):
    def __init__(self, message: str, status_code: int) -> None:
        super().__init__(message)
        self.status_code = status_code


@pytest.mark.parametrize(
    ("error", "reason", "retryable"),
    [
        (ApiStatusError("slow, hunter2", 429), ProviderErrorKind.RATE_LIMITED, True),
        (ApiStatusError("no", 401), ProviderErrorKind.AUTHENTICATION, False),
        (ConnectionRefusedError("refused"), ProviderErrorKind.CONNECTION, True),
        (TimeoutError("late"), ProviderErrorKind.TIMEOUT, True),
        (ValueError("bad input"), ProviderErrorKind.BAD_REQUEST, False),
    ],
)
async def test_errors_of_packages_are_translated(error: Exception, reason: ProviderErrorKind, retryable: bool) -> None:
    with pytest.raises(ProviderError) as caught:
        await ask(ChunkModel(chunks=[AIMessageChunk(content="x"), error]))
    assert (caught.value.reason, caught.value.retryable) == (reason, retryable)
    assert "hunter2" not in str(caught.value)


async def test_a_call_that_takes_too_long_ends() -> None:
    with pytest.raises(ProviderError) as caught:
        await ask(ChunkModel(chunks=[AIMessageChunk(content="x"), 30.0]), timeout=0.02)
    assert caught.value.reason is ProviderErrorKind.TIMEOUT

"""What a user's LangGraph graph does inside: its model and tool calls, logged, priced and counted as our own are.

LangChain tells a callback handler of every call. It does so on the event loop for asynchronous code, and on a worker
thread for synchronous code; everything of ours happens on the loop.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast
from uuid import UUID

import orjson
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.tracers._streaming import (
    _StreamingCallbackHandler,  # pyright: ignore[reportPrivateUsage]  # the only way to ask for tokens
)
from langgraph.errors import GraphBubbleUp, GraphInterrupt

from modular_agent.engine.budgets import Need, Reservation
from modular_agent.engine.errors import LimitReached
from modular_agent.engine.nodes.call_records import cost_record, usage_record
from modular_agent.engine.nodes.langchain_messages import from_langchain, plain
from modular_agent.engine.nodes.spending import hold_now, need_of_unknown
from modular_agent.engine.nodes.visit import Visit
from modular_agent.engine.providers.port import Usage
from modular_agent.engine.providers.tokens import estimate_tokens
from modular_agent.engine.store import ModelCall
from modular_agent.events import Delta, Record, RecordType
from modular_agent.kit.clock import MICROSECONDS
from modular_agent.kit.ids import new_id

__all__ = ["GraphCalls", "OverBudget"]

_SHOWN_PARAMETERS: Final = ("temperature", "max_tokens", "max_completion_tokens", "top_p", "stop")


class OverBudget(GraphBubbleUp):
    """A model call inside the graph would break a limit of the run; it was not made (see `GraphCalls.refusal`)."""


@dataclass(slots=True)
class _ModelCall:
    """A model call under way."""

    provider: str
    model: str  # as the provider calls it, once it has answered
    asked: str
    held: Reservation
    prompt_tokens: int  # estimated
    began: float
    message_id: str = field(default_factory=lambda: new_id("rec"))
    first_token: float | None = None
    offset: int = 0


@dataclass(slots=True)
class _ToolCall:
    """A tool call under way."""

    tool_call_id: str
    tool_name: str
    tool_input: Any  # JSON
    began: float


class GraphCalls(BaseCallbackHandler, _StreamingCallbackHandler[Any]):
    """Watches one execution of a graph for the node `visit`.

    LangChain runs it in place (`run_inline`), and lets it refuse a call by raising (`raise_error`). `refusal` is what
    the node has to raise after `OverBudget`: a question to a person, or `LimitReached`.
    """

    run_inline = True
    raise_error = True

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._models: dict[UUID, _ModelCall] = {}
        self._tools: dict[UUID, _ToolCall] = {}
        self._closed = False
        self._node_context = contextvars.copy_context()  # in which a question is the node's, not one of the graph's
        self.refusal: Exception | None = None
        self.record_ids: dict[str, str] = {}  # LangChain's message id to the id under which its text was streamed

    # -- LangChain's events ------------------------------------------------------------------------------------

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        text = "".join(str(message.text) for batch in messages for message in batch)
        count = sum(len(batch) for batch in messages)
        self._now(lambda: self._begin(run_id, serialized, text, count, kwargs))

    def on_llm_start(self, serialized: dict[str, Any], prompts: list[str], *, run_id: UUID, **kwargs: Any) -> None:
        self._now(lambda: self._begin(run_id, serialized, "".join(prompts), len(prompts), kwargs))

    def on_llm_new_token(self, token: Any, *, run_id: UUID, **kwargs: Any) -> None:
        if isinstance(token, str) and token:
            self._soon(lambda: self._token(run_id, token))

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        self._soon(lambda: self._end(run_id, response))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._soon(lambda: self._fail(run_id, error))

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        inputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        name = str(kwargs.get("name") or (serialized or {}).get("name") or "tool")
        call_id = str(kwargs.get("tool_call_id") or new_id("call"))
        given = plain(inputs) if inputs is not None else {"input": input_str}
        self._soon(lambda: self._tool_begin(run_id, call_id, name, given))

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        success = not (isinstance(output, ToolMessage) and output.status == "error")
        self._soon(lambda: self._tool_end(run_id, _text(output), success=success))

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        if isinstance(error, GraphBubbleUp):  # a question, or a hold: the call has not ended
            self._soon(lambda: self._tools.pop(run_id, None))
            return
        text = str(error) or type(error).__name__
        self._soon(lambda: self._tool_end(run_id, text, success=False, error_type=type(error).__name__))

    def tap_output_aiter(self, run_id: UUID, output: Any) -> Any:
        """Part of the marker's protocol: the chunks as they come."""
        return output

    def tap_output_iter(self, run_id: UUID, output: Any) -> Any:
        """Part of the marker's protocol: the chunks as they come."""
        return output

    # -- from any thread to the loop ---------------------------------------------------------------------------

    def _soon(self, act: Callable[[], object]) -> None:
        """Acts on the loop, now if this is its thread; in the order of the calls."""
        if threading.get_ident() == self._thread:
            act()
        else:
            self._loop.call_soon_threadsafe(self._unless_closed, act)

    def _now(self, act: Callable[[], object]) -> None:
        """Acts on the loop and raises what that raises: a worker thread waits for it."""
        if threading.get_ident() == self._thread:
            act()
            return

        async def on_loop() -> None:
            act()

        asyncio.run_coroutine_threadsafe(on_loop(), self._loop).result()

    def _unless_closed(self, act: Callable[[], object]) -> None:
        if not self._closed and self._visit.context.binding.failure is None:
            act()

    def close(self) -> None:
        """Ends what is still open, because the graph was cancelled or failed; later events are ignored."""
        if self._visit.context.binding.failure is None:
            for run_id in list(self._models):
                self._fail(run_id, asyncio.CancelledError())
            for run_id in list(self._tools):
                self._tool_end(run_id, "The call was cancelled.", success=False, error_type="CancelledError")
        for call in self._models.values():
            call.held.release()
        self._models.clear()
        self._tools.clear()
        self._closed = True

    # -- model calls -------------------------------------------------------------------------------------------

    def _begin(
        self, run_id: UUID, serialized: Mapping[str, Any] | None, text: str, count: int, more: Mapping[str, Any]
    ) -> None:
        if self._closed:
            raise asyncio.CancelledError  # synchronous code that goes on after its run was stopped
        context = self._visit.context
        parameters: Mapping[str, Any] = more.get("invocation_params") or {}
        metadata: Mapping[str, Any] = more.get("metadata") or {}
        estimate = estimate_tokens(text)
        name = (serialized or {}).get("name")
        provider = f"langchain:{metadata.get('ls_provider') or name or 'unknown'}"
        model = str(
            metadata.get("ls_model_name")
            or parameters.get("model")
            or parameters.get("model_name")
            or name
            or "unknown"
        )
        call = _ModelCall(
            provider=provider,
            model=model,
            asked=model,
            held=self._held(need_of_unknown(self._visit, provider, model, estimate)),
            prompt_tokens=estimate,
            began=context.clock.monotonic(),
        )
        self._models[run_id] = call
        shown = {key: plain(parameters[key]) for key in _SHOWN_PARAMETERS if parameters.get(key) is not None}
        context.emit(
            context.record(
                RecordType.LLM_REQUEST,
                self._visit.node,
                model=call.model,
                provider=call.provider,
                parameters=shown,
                messages={"system_record_id": None, "first_record_id": None, "last_record_id": None, "count": count},
                tools=[str(tool) for tool in _tool_names(parameters.get("tools") or ())],
                attempt=1,
                message_id=call.message_id,
                graph_node=metadata.get("langgraph_node"),
            )
        )

    def _held(self, need: Need) -> Reservation:
        """What the call holds of the limits. Raises `OverBudget`."""
        if self.refusal is None:
            try:
                return self._node_context.run(hold_now, self._visit, need)
            except (GraphInterrupt, LimitReached) as error:
                self.refusal = error
        raise OverBudget

    def _token(self, run_id: UUID, text: str) -> None:
        call, context = self._models.get(run_id), self._visit.context
        if call is None:
            return
        if call.first_token is None:
            call.first_token = context.clock.monotonic()
        self._publish(call, text, offset=call.offset)
        call.offset += len(text)

    def _publish(self, call: _ModelCall, text: str, *, offset: int, abandoned: bool = False) -> None:
        context = self._visit.context
        context.tell(
            Delta(
                session=context.key.session,
                run_id=context.key.run_id,
                node=self._visit.node,
                message_id=call.message_id,
                text=text,
                offset=offset,
                abandoned=abandoned,
            )
        )

    def _end(self, run_id: UUID, result: LLMResult) -> None:
        call = self._models.pop(run_id, None)
        if call is None:
            return
        context = self._visit.context
        message = _message(result)
        if message is not None and message.id:
            self.record_ids[message.id] = call.message_id
        metadata: Mapping[str, Any] = message.response_metadata if message is not None else {}
        call.model = str(metadata.get("model_name") or metadata.get("model") or call.model)
        usage = _usage(result, message) or Usage(
            prompt_tokens=call.prompt_tokens, completion_tokens=estimate_tokens(_answer(result)), source="estimated"
        )
        price = context.prices.price(call.provider, call.model, usage, context.clock.now_us())
        answer = from_langchain(message) if message is not None else {"content": _answer(result)}
        response = self._response(
            call,
            response={key: answer.get(key) for key in ("content", "tool_calls", "reasoning")},
            finish_reason=metadata.get("finish_reason") or metadata.get("stop_reason"),
            token_usage={"total_tokens": usage.total_tokens},
        )
        made = self._numbers(
            call,
            response.record_id,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cost_nano=price.amount_nano if price else None,
            served_by="",
            price_source=f"{price.source} {price.version}".strip() if price else None,
        )
        context.emit(
            response,
            usage_record(self._visit, made, source=usage.source, message_id=call.message_id),
            cost_record(self._visit, made, message_id=call.message_id),
            calls=[made],
            charges=context.budget.settle(call.held, made, model=call.asked),
        )

    def _fail(self, run_id: UUID, error: BaseException) -> None:
        call = self._models.pop(run_id, None)
        if call is None:
            return
        context = self._visit.context
        if call.offset:
            self._publish(call, "", offset=0, abandoned=True)
        kind = "cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__
        response = self._response(call, error={"type": kind, "message": str(error) or kind, "retry_in": None})
        call.held.release()
        context.emit(response, calls=[self._numbers(call, response.record_id, error_kind=kind)])

    def _response(self, call: _ModelCall, **more: Any) -> Record:
        clock, first = self._visit.context.clock, call.first_token
        fields: dict[str, Any] = {"response": None, "finish_reason": None, "token_usage": None, "error": None, **more}
        return self._visit.context.record(
            RecordType.LLM_RESPONSE,
            self._visit.node,
            model=call.model,
            provider=call.provider,
            response_time=round(clock.monotonic() - call.began, 6),
            time_to_first_token=None if first is None else round(first - call.began, 6),
            attempt=1,
            message_id=call.message_id,
            **fields,
        )

    def _numbers(self, call: _ModelCall, call_id: str, **more: Any) -> ModelCall:
        context, first = self._visit.context, call.first_token
        numbers: dict[str, Any] = {
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "cached_tokens": 0,
            "cache_write_tokens": 0,
            "reasoning_tokens": 0,
            "cost_nano": None,
            "price_source": None,
            **more,
        }
        return ModelCall(
            call_id=call_id,
            workflow_id=context.workflow_id,
            node=self._visit.node,
            provider=call.provider,
            model=call.model,
            duration_us=int((context.clock.monotonic() - call.began) * MICROSECONDS),
            first_token_us=None if first is None else int((first - call.began) * MICROSECONDS),
            **numbers,
        )

    # -- tool calls --------------------------------------------------------------------------------------------

    def _tool_begin(self, run_id: UUID, call_id: str, name: str, given: Any) -> None:
        call = _ToolCall(call_id, name, given, self._visit.context.clock.monotonic())
        self._tools[run_id] = call
        self._visit.context.emit(self._tool_record(call, phase="intent", tool_output=None, success=None))

    def _tool_end(self, run_id: UUID, output: str, *, success: bool, error_type: str | None = None) -> None:
        call = self._tools.pop(run_id, None)
        if call is None:
            return
        seconds = round(self._visit.context.clock.monotonic() - call.began, 6)
        more = {"error_type": error_type} if error_type else {}
        record = self._tool_record(
            call, phase="result", tool_output=output, success=success, execution_time=seconds, **more
        )
        self._visit.context.emit(record)

    def _tool_record(self, call: _ToolCall, *, phase: str, execution_time: float | None = None, **more: Any) -> Record:
        return self._visit.context.record(
            RecordType.TOOL_CALL,
            self._visit.node,
            tool_call_id=call.tool_call_id,
            tool_name=call.tool_name,
            tool_input=call.tool_input,
            execution_time=execution_time,
            effect=None,  # the graph's own business: it is not in our ledger
            phase=phase,
            **more,
        )


def _tool_names(tools: Sequence[Any]) -> list[str]:
    """The names of tools as providers are told of them."""
    named: list[str] = []
    for tool in tools:
        if isinstance(tool, Mapping):
            described = cast("Mapping[str, Any]", tool)
            named.append(str((described.get("function") or described).get("name", "tool")))
    return named


def _message(result: LLMResult) -> BaseMessage | None:
    first = result.generations[0][0] if result.generations and result.generations[0] else None
    return first.message if isinstance(first, ChatGeneration) else None


def _answer(result: LLMResult) -> str:
    return "".join(generation.text for batch in result.generations for generation in batch)


def _usage(result: LLMResult, message: BaseMessage | None) -> Usage | None:
    """The usage that LangChain reports, with inclusive totals; None where there is none.

    A few packages leave cached tokens out of the total; a part above its total shows that, and is added to it.
    """
    reported: Mapping[str, Any] | None = getattr(message, "usage_metadata", None)
    if reported is None:
        old: Mapping[str, Any] = (result.llm_output or {}).get("token_usage") or {}
        if not old.get("total_tokens"):
            return None
        prompt, completion = int(old.get("prompt_tokens") or 0), int(old.get("completion_tokens") or 0)
        return Usage(prompt_tokens=prompt, completion_tokens=completion)
    inputs: Mapping[str, Any] = reported.get("input_token_details") or {}
    outputs: Mapping[str, Any] = reported.get("output_token_details") or {}
    prompt, completion = int(reported["input_tokens"]), int(reported["output_tokens"])
    cached, written = int(inputs.get("cache_read") or 0), int(inputs.get("cache_creation") or 0)
    reasoning = int(outputs.get("reasoning") or 0)
    return Usage(
        prompt_tokens=prompt + cached + written if cached + written > prompt else prompt,
        completion_tokens=completion + reasoning if reasoning > completion else completion,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
    )


def _text(output: Any) -> str:
    """A tool's result as the log shows it."""
    value = plain(output)
    if isinstance(output, BaseMessage):
        value = cast("dict[str, Any]", value)["content"]
    return value if isinstance(value, str) else orjson.dumps(value).decode()

"""One call of a language model from a node: within the budget, with retries and fallbacks, logged attempt by attempt.

What a call cost is logged at once, whatever becomes of the step; the message goes into the log with the step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from modular_agent.engine.budgets import Reservation
from modular_agent.engine.failures import error_record
from modular_agent.engine.nodes.call_records import cost_record, usage_record
from modular_agent.engine.nodes.spending import hold, need_of
from modular_agent.engine.nodes.visit import Visit
from modular_agent.engine.providers.chain import ModelChain
from modular_agent.engine.providers.errors import ProviderError
from modular_agent.engine.providers.port import (
    ChatRequest,
    Completion,
    DeltaSink,
    Message,
    ToolSchema,
)
from modular_agent.engine.providers.resilience import Attempt, complete_with_fallback
from modular_agent.engine.store import ModelCall
from modular_agent.events import Delta, Record, RecordType
from modular_agent.kit.clock import MICROSECONDS
from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.ids import new_id

__all__ = ["Conversation", "call_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What a model is sent, the references to records by which the log says so, and about how many tokens it has."""

    messages: Sequence[Message]
    references: Mapping[str, Any]
    tokens: int


async def call_model(
    visit: Visit,
    chain: ModelChain,
    conversation: Conversation,
    *,
    tools: Sequence[ToolSchema] = (),
    parameters: Mapping[str, Any],
) -> Message:
    """The assistant's message, with the `id` its record will have.

    Raises `ProviderError` when every attempt failed, `LimitReached` when the budget is used up.
    """
    context = visit.context
    for note in chain.notes:
        if note not in context.notes:
            context.notes.add(note)
            context.emit(context.record(RecordType.LOG, visit.node, level="warning", message=note))
    held = await hold(visit, need_of(visit, chain, conversation.tokens, tools=tools, parameters=parameters))
    observer = _CallLog(visit, conversation.references, parameters, tools, held)
    request = ChatRequest(messages=conversation.messages, tools=tools, parameters=parameters, timeout=chain.timeout)
    try:
        completion = await complete_with_fallback(chain.models, request, observer=observer, policy=chain.policy)
    finally:
        held.release()
    return {**completion.message, "id": observer.message_id}


@dataclass(slots=True)
class _CallLog:
    """Watches the attempts of one call: records, deltas, usage, price."""

    visit: Visit
    references: Mapping[str, Any]
    parameters: Mapping[str, Any]
    tools: Sequence[ToolSchema]
    held: Reservation
    message_id: str = ""
    _began: float = 0.0
    _first_token: float | None = None
    _offsets: dict[str, int] = field(default_factory=dict[str, int])

    async def started(self, attempt: Attempt) -> DeltaSink:
        context = self.visit.context
        self.message_id = new_id("rec")
        self._began, self._first_token = context.clock.monotonic(), None
        self._offsets = {}
        context.emit(
            context.record(
                RecordType.LLM_REQUEST,
                self.visit.node,
                model=attempt.model.model,
                provider=attempt.model.provider,
                parameters=self.parameters,
                messages=self.references,
                tools=[tool.name for tool in self.tools],
                attempt=attempt.number,
                message_id=self.message_id,
            )
        )
        return self._delta

    def _delta(self, channel: str, text: str) -> None:
        context = self.visit.context
        if self._first_token is None:
            self._first_token = context.clock.monotonic()
        offset = self._offsets.get(channel, 0)
        self._offsets[channel] = offset + len(text)
        context.tell(
            Delta(
                session=context.key.session,
                run_id=context.key.run_id,
                node=self.visit.node,
                message_id=self.message_id,
                text=text,
                offset=offset,
                channel=channel,
            )
        )

    def _abandon(self) -> None:
        """Tells those who watch that what came under this id is void."""
        context = self.visit.context
        if self._offsets:
            context.tell(
                Delta(
                    session=context.key.session,
                    run_id=context.key.run_id,
                    node=self.visit.node,
                    message_id=self.message_id,
                    text="",
                    offset=0,
                    abandoned=True,
                )
            )

    async def failed(self, attempt: Attempt, error: BaseException, *, seconds: float, retry_in: float | None) -> None:
        self._abandon()
        context = self.visit.context
        kind = error.reason.value if isinstance(error, ProviderError) else "cancelled"
        response = self._response(
            attempt, seconds, error={"type": kind, "message": str(error) or kind, "retry_in": retry_in}
        )
        records = [response]
        if retry_in is not None:  # the last failure becomes the node's own error
            records.append(
                error_record(
                    error,
                    run_id=context.key.run_id,
                    node=self.visit.node,
                    workflow_id=context.workflow_id,
                    severity="warning",
                )
            )
        if context.binding.failure is None:
            context.emit(*records, calls=[self._call(attempt, response.record_id, seconds, error_kind=kind)])

    async def succeeded(self, attempt: Attempt, completion: Completion, *, seconds: float) -> None:
        context, usage = self.visit.context, completion.usage
        price = context.prices.price(
            attempt.model.provider,
            completion.model,
            usage,
            context.clock.now_us(),
            served_by=completion.served_by,
        )
        response = self._response(
            attempt,
            seconds,
            model=completion.model,
            response={key: completion.message.get(key) for key in ("content", "tool_calls", "reasoning")},
            finish_reason=completion.finish_reason,
            token_usage={"total_tokens": usage.total_tokens},
        )
        call = self._call(
            attempt,
            response.record_id,
            seconds,
            model=completion.model,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cost_nano=price.amount_nano if price else None,
            price_source=f"{price.source} {price.version}".strip() if price else None,
            served_by=completion.served_by,
        )
        context.emit(
            response,
            usage_record(self.visit, call, source=usage.source, message_id=self.message_id),
            cost_record(self.visit, call, message_id=self.message_id),
            calls=[call],
            charges=context.budget.settle(self.held, call, model=attempt.model.model),
        )

    def _response(self, attempt: Attempt, seconds: float, *, model: str | None = None, **more: Any) -> Record:
        context = self.visit.context
        first = self._first_token
        fields: dict[str, Any] = {"response": None, "finish_reason": None, "token_usage": None, "error": None, **more}
        return context.record(
            RecordType.LLM_RESPONSE,
            self.visit.node,
            model=model or attempt.model.model,
            provider=attempt.model.provider,
            response_time=round(seconds, 6),
            time_to_first_token=None if first is None else round(first - self._began, 6),
            attempt=attempt.number,
            message_id=self.message_id,
            **fields,
        )

    def _call(
        self, attempt: Attempt, call_id: str, seconds: float, *, model: str | None = None, **more: Any
    ) -> ModelCall:
        first = self._first_token
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
            workflow_id=self.visit.context.workflow_id,
            node=self.visit.node,
            provider=attempt.model.provider,
            model=model or attempt.model.model,
            duration_us=int(seconds * MICROSECONDS),
            first_token_us=None if first is None else int((first - self._began) * MICROSECONDS),
            **numbers,
        )

"""The model that ships with the product: offline, deterministic, told by a script what to say (see `script.py`)."""

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, TypeAlias, cast

import orjson

from modular_agent.engine.providers.errors import ProviderError, ProviderErrorKind
from modular_agent.engine.providers.messages import used_call_ids
from modular_agent.engine.providers.port import (
    ChatRequest,
    Completion,
    DeltaSink,
    FinishReason,
    Message,
    ToolCall,
    Usage,
)
from modular_agent.engine.providers.script import (
    Failure,
    Pace,
    RecordedAnswer,
    Reply,
    Script,
    ScriptPrices,
    ScriptUsage,
)
from modular_agent.engine.providers.script_matching import Scene, matches
from modular_agent.engine.providers.script_templates import ScriptTemplates, TemplateFailed
from modular_agent.engine.providers.tokens import estimate_messages, estimate_tokens, estimate_tools

__all__ = ["ScriptedModel"]

Sleep: TypeAlias = Callable[[float], Awaitable[object]]

_WORDS: Final = re.compile(r"\s*\S+|\s+$|\s+")
_MILLION: Final = Decimal(1_000_000)


class ScriptedModel:
    """A model that answers by `script`; `source` is the script's name in error texts. `sleep` takes seconds."""

    def __init__(
        self,
        script: Script,
        *,
        source: str,
        model: str | None = None,
        provider: str = "scripted",
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._script = script
        self._source = source
        self._model = script.model or model or script.name or "scripted"
        self._provider = provider
        self._sleep = sleep
        self._templates = ScriptTemplates()
        self._failures: Counter[int] = Counter()

    @property
    def provider(self) -> str:
        return self._provider

    @property
    def model(self) -> str:
        return self._model

    async def complete(self, request: ChatRequest, on_delta: DeltaSink) -> Completion:
        """One call; see `ChatModel.complete`."""
        try:
            async with asyncio.timeout(request.timeout):
                return await self._complete(request, on_delta)
        except TimeoutError as error:
            detail = f"no complete answer within {request.timeout:g} s"
            raise self._error(ProviderErrorKind.TIMEOUT, detail) from error

    async def _complete(self, request: ChatRequest, on_delta: DeltaSink) -> Completion:
        scene = Scene(request)
        if scene.answers < len(self._script.recorded):
            recorded = self._script.recorded[scene.answers]
            completion = self._replay(recorded, request)
            await self._speak(completion.message, self._script.defaults, on_delta)
            return completion
        reply = self._choose(scene)
        if reply.hang:
            await asyncio.get_running_loop().create_future()
        failure = self._due_failure(reply)
        if failure is not None and failure.after_chunks == 0:
            await self._wait(self._pace(reply).delay)
            raise self._failed(failure)
        completion = self._answer(reply, scene)
        await self._speak(completion.message, self._pace(reply), on_delta, failure)
        if failure is not None:
            raise self._failed(failure)
        return completion

    def _choose(self, scene: Scene) -> Reply:
        for turn in self._script.turns:
            if matches(turn.when, scene):
                return turn
        if self._script.otherwise is not None:
            return self._script.otherwise
        last = f"{scene.last_role}: {scene.last_message[:200]}" if scene.last_role else "nothing"
        detail = f"script {self._source} has no turn for call {scene.answers + 1} (last message: {last})"
        raise self._error(ProviderErrorKind.BAD_REQUEST, detail)

    def _due_failure(self, reply: Reply) -> Failure | None:
        failure = reply.failure
        if failure is None or failure.times is None:
            return failure
        key = id(reply)  # the script keeps its turns alive
        if self._failures[key] >= failure.times:
            return None
        self._failures[key] += 1
        return failure

    def _answer(self, reply: Reply, scene: Scene) -> Completion:
        try:
            message = self._message(reply, scene)
        except TemplateFailed as error:
            raise self._error(ProviderErrorKind.BAD_REQUEST, f"script {self._source}: {error}") from error
        if reply.finish_reason is not None:
            reason = reply.finish_reason
        else:
            reason = FinishReason.TOOL_CALLS if message.get("tool_calls") else FinishReason.STOP
        usage = _counted(scene.request, message) if reply.usage is None else _told(reply.usage)
        return self._completion(message, reason, usage)

    def _message(self, reply: Reply, scene: Scene) -> Message:
        names = scene.names()
        content = ""
        if reply.reply is not None:
            content = self._templates.text(reply.reply, names)
        elif "json_" in reply.model_fields_set:
            content = orjson.dumps(self._templates.value(reply.json_, names)).decode()
        message: Message = {"role": "assistant", "content": content}
        if reply.reasoning is not None:
            message["reasoning"] = self._templates.text(reply.reasoning, names)
        if reply.tool_calls:
            used = used_call_ids(scene.request.messages)
            calls: list[ToolCall] = []
            for index, call in enumerate(reply.tool_calls):
                given = call.arguments
                arguments = given if isinstance(given, str) else _dump(self._templates.value(given, names))
                call_id = _call_id(scene.request, call.name, arguments, index=index, wanted=call.id or "", used=used)
                calls.append(
                    {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
                )
            message["tool_calls"] = calls
            message["content"] = content or None
        return message

    def _replay(self, recorded: RecordedAnswer, request: ChatRequest) -> Completion:
        given = recorded.message
        message: Message = {"role": "assistant", "content": given.get("content")}
        if reasoning := given.get("reasoning"):
            message["reasoning"] = str(reasoning)
        if calls := given.get("tool_calls"):
            used = used_call_ids(request.messages)
            message["tool_calls"] = [
                _replayed_call(call, request, index=index, used=used) for index, call in enumerate(calls)
            ]
        reason = FinishReason.TOOL_CALLS if message.get("tool_calls") else FinishReason.STOP
        usage = _counted(request, message) if recorded.usage is None else _told(recorded.usage)
        return self._completion(message, recorded.finish_reason or reason, usage, model=recorded.model)

    def _completion(
        self, message: Message, reason: FinishReason, usage: Usage, *, model: str | None = None
    ) -> Completion:
        if self._script.prices is not None and usage.cost_usd is None:
            usage = _priced(usage, self._script.prices)
        return Completion(message=message, finish_reason=reason, usage=usage, model=model or self._model)

    async def _speak(self, message: Message, pace: Pace, on_delta: DeltaSink, failure: Failure | None = None) -> None:
        """Sends the pieces of `message`, or those before a `failure`."""
        await self._wait(pace.delay)
        left = failure.after_chunks if failure is not None else -1
        content = message["content"]
        first = True
        for channel, text in (("reasoning", message.get("reasoning", "")), ("content", content)):
            if not isinstance(text, str):
                continue
            for piece in _pieces(text, pace.chunk):
                if left == 0:
                    return
                left -= 1
                if not first and pace.token_delay:
                    await self._sleep(pace.token_delay)
                first = False
                on_delta(channel, piece)

    async def _wait(self, delay: float | None) -> None:
        """Gives way even without a delay: no provider answers within one turn of the loop."""
        await self._sleep(delay or 0)

    def _pace(self, reply: Reply) -> Pace:
        defaults = self._script.defaults
        return Pace(
            delay=defaults.delay if reply.delay is None else reply.delay,
            token_delay=defaults.token_delay if reply.token_delay is None else reply.token_delay,
            chunk=reply.chunk or defaults.chunk,
        )

    def _failed(self, failure: Failure) -> ProviderError:
        return self._error(failure.kind, failure.message, status=failure.status, retry_after=failure.retry_after)

    def _error(
        self,
        reason: ProviderErrorKind,
        detail: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> ProviderError:
        return ProviderError(
            reason,
            provider=self._provider,
            model=self._model,
            detail=detail,
            status=status,
            retry_after=retry_after,
        )


def _pieces(text: str, chunk: int | None) -> list[str]:
    if chunk is None:
        return _WORDS.findall(text)
    return [text[start : start + chunk] for start in range(0, len(text), chunk)]


def _dump(value: Any) -> str:  # any JSON value
    return orjson.dumps(value).decode()


def _call_id(request: ChatRequest, name: str, arguments: str, *, index: int, wanted: str, used: set[str]) -> str:
    """An id that the same request always gives and no other call of the conversation has.

    The last message goes in with its `id`, which is new for every input: the same question asked again in the same
    session (after its first run was rolled back) is another call, and must not find the first one in the ledger.
    """
    if wanted and wanted not in used:
        used.add(wanted)
        return wanted
    last = request.messages[-1] if request.messages else None
    digest = hashlib.sha256(orjson.dumps([len(request.messages), last, name, arguments, index, wanted]))
    call_id = f"call_{digest.hexdigest()[:20]}"
    while call_id in used:
        digest.update(b"again")
        call_id = f"call_{digest.hexdigest()[:20]}"
    used.add(call_id)
    return call_id


def _replayed_call(call: Mapping[str, Any], request: ChatRequest, *, index: int, used: set[str]) -> ToolCall:
    function = cast("Mapping[str, Any]", call.get("function") or call)
    name = str(function.get("name") or "")
    given = function.get("arguments", {})
    arguments = given if isinstance(given, str) else _dump(given)
    call_id = _call_id(request, name, arguments, index=index, wanted=str(call.get("id") or ""), used=used)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _counted(request: ChatRequest, message: Message) -> Usage:
    reasoning = estimate_tokens(message.get("reasoning", ""))
    return Usage(
        prompt_tokens=estimate_messages(request.messages) + estimate_tools(request.tools),
        completion_tokens=estimate_messages((message,)) + reasoning,
        reasoning_tokens=reasoning,
    )


def _told(usage: ScriptUsage) -> Usage:
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )


def _priced(usage: Usage, prices: ScriptPrices) -> Usage:
    """`usage` with the cost that the script's prices give, as if the provider had reported it."""
    plain = usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens
    cached = prices.input if prices.cached is None else prices.cached
    written = prices.input if prices.cache_write is None else prices.cache_write
    amounts = (
        (plain, prices.input),
        (usage.cached_tokens, cached),
        (usage.cache_write_tokens, written),
        (usage.completion_tokens, prices.output),
    )
    cost = sum((Decimal(tokens) * Decimal(str(price)) for tokens, price in amounts), Decimal(0)) / _MILLION
    return replace(usage, cost_usd=format(cost, "f"))

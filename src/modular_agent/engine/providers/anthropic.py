"""Anthropic's Messages API, streamed (https://docs.anthropic.com/en/api/messages).

A `response_schema` is asked for with `output_config.format`; models older than that get a tool they must call.
"""

from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import orjson

from modular_agent.engine.providers.anthropic_messages import wire_messages, wire_tool_choice
from modular_agent.engine.providers.anthropic_stream import ANSWER_TOOL, AnthropicAnswer
from modular_agent.engine.providers.endpoint import Endpoint
from modular_agent.engine.providers.errors import ProviderErrorKind
from modular_agent.engine.providers.json_schemas import close_objects
from modular_agent.engine.providers.port import ChatRequest, Completion, DeltaSink
from modular_agent.kit.clock import Clock, SystemClock

__all__ = ["DEFAULT_BASE_URL", "DEFAULT_MAX_TOKENS", "AnthropicModel"]

DEFAULT_BASE_URL: Final = "https://api.anthropic.com"
DEFAULT_MAX_TOKENS: Final = 8192
API_VERSION: Final = "2023-06-01"

_WITHOUT_OUTPUT_CONFIG: Final = (
    "claude-2",
    "claude-3",
    "claude-instant",
    "claude-opus-4-0",
    "claude-opus-4-2",  # the dated name, claude-opus-4-20250514
    "claude-sonnet-4-0",
    "claude-sonnet-4-2",
)
_UNSUPPORTED_KEYWORDS: Final = frozenset(
    {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "$schema",
        "$id",
    }
)
_NEUTRAL_ONLY: Final = frozenset({"seed", "tool_choice", "parallel_tool_calls", "response_schema", "stop", "n"})
_OWN_KEYS: Final = frozenset({"model", "messages", "tools", "stream", "system"})


class AnthropicModel:
    """A model behind `POST {base_url}/v1/messages`. `parameters` are defaults under those of each request.

    The session is the caller's. `max_tokens`, which the API demands, is 8192 unless a parameter says otherwise.
    """

    def __init__(
        self,
        model: str,
        *,
        session: aiohttp.ClientSession,
        base_url: str = DEFAULT_BASE_URL,
        key: str | None = None,
        parameters: Mapping[str, Any] | None = None,  # any JSON: the provider's own
        headers: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        connect_timeout: float = 10.0,
    ) -> None:
        self._model = model
        self._parameters = dict(parameters or {})
        self._served_by = "" if base_url == DEFAULT_BASE_URL else base_url
        self._forces_tool = model.startswith(_WITHOUT_OUTPUT_CONFIG)
        self._endpoint = Endpoint(
            session,
            url=base_url.rstrip("/").removesuffix("/v1") + "/v1/messages",
            headers={"anthropic-version": API_VERSION, **({"x-api-key": key} if key else {}), **(headers or {})},
            provider="anthropic",
            model=model,
            clock=clock or SystemClock(),
            key=key,
            connect_timeout=connect_timeout,
        )

    @property
    def provider(self) -> str:
        return "anthropic"

    @property
    def model(self) -> str:
        return self._model

    async def complete(self, request: ChatRequest, on_delta: DeltaSink) -> Completion:
        """One call; see `ChatModel.complete`."""
        parameters = {**self._parameters, **request.parameters}
        answer_tool = ANSWER_TOOL if self._forces_tool and parameters.get("response_schema") else None
        answer = AnthropicAnswer(
            self._endpoint,
            request=request,
            on_delta=on_delta,
            model=self._model,
            served_by=self._served_by,
            answer_tool=answer_tool,
        )
        await self._endpoint.post(self._body(request, parameters), timeout=request.timeout, answer=answer)
        return answer.completion()

    def _body(self, request: ChatRequest, parameters: Mapping[str, Any]) -> bytes:
        system, messages = wire_messages(request.messages)
        body: dict[str, Any] = {"model": self._model, "max_tokens": DEFAULT_MAX_TOKENS, "stream": True}
        if system:
            body["system"] = system
        body["messages"] = messages
        reserved = _NEUTRAL_ONLY | _OWN_KEYS
        body.update({key: value for key, value in parameters.items() if value is not None and key not in reserved})
        if stop := parameters.get("stop"):
            body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
        if request.tools:
            body["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}
                for tool in request.tools
            ]
            choice = wire_tool_choice(parameters.get("tool_choice"), parallel=parameters.get("parallel_tool_calls"))
            if choice:
                body["tool_choice"] = choice
        if schema := parameters.get("response_schema"):
            self._ask_for_schema(body, schema)
        try:
            return orjson.dumps(body)
        except orjson.JSONEncodeError as error:
            raise self._endpoint.error(ProviderErrorKind.BAD_REQUEST, f"the request is not JSON: {error}") from error

    def _ask_for_schema(self, body: dict[str, Any], schema: Mapping[str, Any]) -> None:
        if not self._forces_tool:
            wanted = close_objects(schema, unsupported=_UNSUPPORTED_KEYWORDS)
            body["output_config"] = {
                **body.get("output_config", {}),
                "format": {"type": "json_schema", "schema": wanted},
            }
            return
        tools = body.setdefault("tools", [])
        body["tool_choice"] = {"type": "any"} if tools else {"type": "tool", "name": ANSWER_TOOL}
        tools.append(
            {
                "name": ANSWER_TOOL,
                "description": "Gives the final answer.",
                "input_schema": {"type": "object", **schema},
            }
        )

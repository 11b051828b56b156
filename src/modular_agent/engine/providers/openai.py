"""OpenAI's chat completions, streamed, as OpenAI and the many servers that speak its format serve them.

The format: https://platform.openai.com/docs/api-reference/chat. Where servers differ is data (`Dialect`), not code.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, cast

import aiohttp
import orjson
from yarl import URL

from modular_agent.engine.providers.endpoint import Endpoint
from modular_agent.engine.providers.errors import ProviderError, ProviderErrorKind
from modular_agent.engine.providers.folded import Folded
from modular_agent.engine.providers.json_schemas import drop_keywords, is_closed
from modular_agent.engine.providers.messages import leading_systems
from modular_agent.engine.providers.openai_stream import OpenAIAnswer
from modular_agent.engine.providers.port import ChatRequest, Completion, DeltaSink, Message, ToolSchema
from modular_agent.engine.providers.remembered import Remembered
from modular_agent.kit.clock import Clock, SystemClock
from modular_agent.kit.dataclass import dataclass

__all__ = ["DEFAULT_BASE_URL", "Dialect", "OpenAIModel", "dialect_of"]

DEFAULT_BASE_URL: Final = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Where servers of OpenAI's format differ.

    `asks_usage`: send `stream_options.include_usage`. `max_tokens_key`: the name of the limit. `schema_mode`: how a
    `response_schema` is asked for; `json_object` puts the schema into a system message. `echo_reasoning`: a message
    with tool calls goes back with its reasoning. `echo_extra`: the key of `extra_content` that goes back.
    `thoughts_apart`: the reported completion tokens leave the reasoning out. `dropped_keywords`: JSON Schema the server
    refuses.
    """

    asks_usage: bool = True
    max_tokens_key: str = "max_tokens"
    schema_mode: Literal["json_schema", "json_object"] = "json_schema"
    echo_reasoning: bool = False
    echo_extra: str | None = None
    thoughts_apart: bool = False
    dropped_keywords: frozenset[str] = frozenset()


OPENAI_DIALECT: Final = Dialect(max_tokens_key="max_completion_tokens")
DEEPSEEK_DIALECT: Final = Dialect(schema_mode="json_object", echo_reasoning=True)
MOONSHOT_DIALECT: Final = Dialect(echo_reasoning=True)
PLAIN_DIALECT: Final = Dialect()

_DIALECTS: Final[Mapping[str, Dialect]] = {
    "openai.com": OPENAI_DIALECT,
    "openai.azure.com": OPENAI_DIALECT,
    "deepseek.com": DEEPSEEK_DIALECT,
    "moonshot.cn": MOONSHOT_DIALECT,
    "moonshot.ai": MOONSHOT_DIALECT,
}

_TOOL_PARAMETERS: Final = frozenset({"tool_choice", "parallel_tool_calls"})
_OWN_KEYS: Final = frozenset({"model", "messages", "tools", "stream", "stream_options", "n"})


def dialect_of(base_url: str) -> Dialect:
    """The dialect of the server at `base_url`, by its host name."""
    host = URL(base_url).host or ""
    for domain, dialect in _DIALECTS.items():
        if host == domain or host.endswith("." + domain):
            return dialect
    return PLAIN_DIALECT


class OpenAIModel:
    """A model behind `POST {base_url}/chat/completions`. `parameters` are defaults under those of each request.

    The session is the caller's. `key` None sends no `Authorization` (a server of one's own).
    """

    def __init__(
        self,
        model: str,
        *,
        session: aiohttp.ClientSession,
        base_url: str = DEFAULT_BASE_URL,
        key: str | None = None,
        provider: str = "openai",
        parameters: Mapping[str, Any] | None = None,  # any JSON: the provider's own
        headers: Mapping[str, str] | None = None,
        dialect: Dialect | None = None,
        served_by: str = "",
        clock: Clock | None = None,
        connect_timeout: float = 10.0,
    ) -> None:
        self.model: Final = model
        self.provider: Final = provider
        self._parameters = dict(parameters or {})
        self._dialect = dialect or dialect_of(base_url)
        self._served_by = served_by or ("" if base_url == DEFAULT_BASE_URL else base_url)
        self._asks_usage = self._dialect.asks_usage
        self._sent = Folded(self._extended, b"")
        self._tools = Remembered(self._encoded_tools)
        self._endpoint = Endpoint(
            session,
            url=base_url.rstrip("/") + "/chat/completions",
            headers={**({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})},
            provider=provider,
            model=model,
            clock=clock or SystemClock(),
            key=key,
            connect_timeout=connect_timeout,
        )

    async def complete(self, request: ChatRequest, on_delta: DeltaSink) -> Completion:
        """One call; see `ChatModel.complete`."""
        try:
            return await self._complete(request, on_delta)
        except ProviderError as error:
            # Older servers refuse the option; their usage is estimated from then on.
            refused = error.reason is ProviderErrorKind.BAD_REQUEST and "stream_options" in error.detail
            if not (refused and self._asks_usage):
                raise
        self._asks_usage = False
        return await self._complete(request, on_delta)

    async def _complete(self, request: ChatRequest, on_delta: DeltaSink) -> Completion:
        answer = OpenAIAnswer(
            self._endpoint,
            request=request,
            on_delta=on_delta,
            model=self.model,
            served_by=self._served_by,
            thoughts_apart=self._dialect.thoughts_apart,
        )
        await self._endpoint.post(self._body(request), timeout=request.timeout, answer=answer)
        return answer.completion()

    def _body(self, request: ChatRequest) -> bytes:
        dialect = self._dialect
        body: dict[str, Any] = {"model": self.model, "stream": True}
        if self._asks_usage:
            body["stream_options"] = {"include_usage": True}
        lead = leading_systems(request.messages)
        parts = [self._encoded(message) for message in request.messages[:lead]]
        if request.tools:
            body["tools"] = orjson.Fragment(self._tools.of(request.tools))
        for key, value in {**self._parameters, **request.parameters}.items():
            if value is None or key in _OWN_KEYS or (key in _TOOL_PARAMETERS and not request.tools):
                continue
            if key == "max_tokens":
                body[dialect.max_tokens_key] = value
            elif key == "tool_choice":
                body[key] = _wire_tool_choice(value)
            elif key == "response_schema":
                if asked := _ask_for_schema(body, schema=value, dialect=dialect):
                    parts.append(self._dumps({"role": "system", "content": asked}))
            else:
                body[key] = value
        if wire := self._sent.of(request.messages[lead:]):
            parts.append(wire)
        body["messages"] = orjson.Fragment(b"[%s]" % b",".join(parts))
        return self._dumps(body)

    def _extended(self, wire: bytes, messages: Sequence[Message]) -> bytes:
        """What was sent of a conversation, with more messages behind it: JSON values separated by commas."""
        return b",".join([*([wire] if wire else []), *map(self._encoded, messages)])

    def _encoded_tools(self, tools: Sequence[ToolSchema]) -> bytes:
        return self._dumps([_wire_tool(tool, self._dialect) for tool in tools])

    def _encoded(self, message: Message) -> bytes:
        return self._dumps(_wire_message(message, self._dialect))

    def _dumps(self, value: Any) -> bytes:  # any JSON value
        try:
            return orjson.dumps(value)
        except orjson.JSONEncodeError as error:
            raise self._endpoint.error(ProviderErrorKind.BAD_REQUEST, f"the request is not JSON: {error}") from error


def _wire_message(message: Message, dialect: Dialect) -> dict[str, Any]:
    """What goes over the wire of a message: keys the format does not know stay behind."""
    wire: dict[str, Any] = {"role": message["role"], "content": message["content"]}
    if "tool_call_id" in message:
        wire["tool_call_id"] = message["tool_call_id"]
    if "name" in message:
        wire["name"] = message["name"]
    calls = message.get("tool_calls")
    if calls:
        wire["tool_calls"] = [_wire_call(cast("Mapping[str, Any]", call), dialect.echo_extra) for call in calls]
        if dialect.echo_reasoning and "reasoning" in message:
            wire["reasoning_content"] = message["reasoning"]
    elif wire["content"] is None:
        wire["content"] = ""
    return wire


def _wire_call(call: Mapping[str, Any], echo_extra: str | None) -> dict[str, Any]:
    function = call["function"]
    if not _is_object(function["arguments"]):  # some servers read them; the model shall see what it wrote
        function = {**function, "arguments": orjson.dumps({"arguments": function["arguments"]}).decode()}
    wire = {"id": call["id"], "type": "function", "function": function}
    extra = call.get("extra_content")
    if extra and echo_extra and echo_extra in extra:
        wire["extra_content"] = {echo_extra: extra[echo_extra]}
    return wire


def _is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def _wire_tool(tool: ToolSchema, dialect: Dialect) -> dict[str, Any]:
    parameters = dict(tool.parameters)
    if dialect.dropped_keywords:
        parameters = drop_keywords(parameters, keywords=dialect.dropped_keywords)
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def _wire_tool_choice(choice: Any) -> Any:  # a word, a tool's name, or the wire's own object
    if isinstance(choice, str) and choice not in ("auto", "none", "required"):
        return {"type": "function", "function": {"name": choice}}
    return choice


def _ask_for_schema(body: dict[str, Any], *, schema: Mapping[str, Any], dialect: Dialect) -> str:
    """Asks for an answer that fits `schema`; what has to be said of it in a message of its own, if anything."""
    if dialect.schema_mode == "json_schema":
        wanted = drop_keywords(schema, keywords=dialect.dropped_keywords) if dialect.dropped_keywords else dict(schema)
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": wanted, "strict": is_closed(wanted)},
        }
        return ""
    body["response_format"] = {"type": "json_object"}
    return "Answer with one JSON object that fits this JSON Schema:\n" + orjson.dumps(dict(schema)).decode()

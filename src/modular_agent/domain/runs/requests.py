"""What starts a run, checked and turned into what the graph starts with."""

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, Final, cast

from modular_agent.engine.errors import StateInvalid
from modular_agent.engine.limits import SessionLimits, checked_limits
from modular_agent.engine.models import check_overrides
from modular_agent.errors import Fault, Text
from modular_agent.kit.dataclass import dataclass

__all__ = ["StartRequest", "check_agent_config", "check_messages", "check_start"]

ROLES: Final = ("system", "user", "assistant", "tool")
_CALL: Final = Text(
    'a call is {"id", "type": "function", "function": {"name", "arguments": JSON text}}',
    '一次调用是 {"id", "type": "function", "function": {"name", "arguments": JSON 文本}}',
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """A new run: a person's `message` (text or content parts), changes of the `state`, `limits` of its own.

    With `checkpoint_id` it starts from the state there instead of the newest.
    `idempotency_key` with the request's `fingerprint` makes a repeated request answer as the first did. `key_id` is
    the API key that the request presented: the run is charged to it.
    """

    message: Any = None  # text or content parts
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
    checkpoint_id: str | None = None
    requested_by: str = "local"
    key_id: str | None = None
    idempotency_key: str | None = None
    fingerprint: str = ""


def check_start(request: StartRequest) -> None:
    """Raises `LimitsInvalid` or `StateInvalid` for what no workflow could start with."""
    if request.limits:
        checked_limits(request.limits)
    if request.message is not None:
        faults = _content_faults(request.message, "message")
        found = [Fault(code="message_shape", text=text, path=at) for at, text in faults]
        if found:
            raise StateInvalid(found)
    check_messages(request.state.get("messages", []), path="state.messages")


def check_messages(messages: Any, *, path: str) -> None:
    """Raises `StateInvalid` with every fault, unless these are messages: text, one `{role, content}`, or a list."""
    items = cast("list[Any]", messages) if isinstance(messages, list) else [messages]
    faults: list[Fault] = []
    for number, item in enumerate(items):
        place = f"{path}.{number}" if isinstance(messages, list) else path
        faults += [Fault(code="message_shape", text=text, path=at) for at, text in _message_faults(item, place)]
    if faults:
        raise StateInvalid(faults)


def _message_faults(item: Any, path: str) -> Iterator[tuple[str, Text]]:
    """Where and why a message cannot be used."""
    if isinstance(item, str):
        return
    if not isinstance(item, dict):
        yield (
            path,
            Text("a message is text, or an object with role and content", "消息是文本，或含 role 与 content 的对象"),
        )
        return
    message = cast("dict[str, Any]", item)
    if message.get("role") not in ROLES:
        known = ", ".join(ROLES)
        yield f"{path}.role", Text(f"must be one of {known}", f"必须是以下之一：{known}")
    yield from _content_faults(message.get("content"), f"{path}.content")
    if message.get("role") == "tool" and not _is_text(message.get("tool_call_id")):
        yield (
            f"{path}.tool_call_id",
            Text("must name the call that this is the result of", "必须指明这是哪次调用的结果"),
        )
    yield from _call_faults(message.get("tool_calls"), f"{path}.tool_calls")


def _call_faults(calls: Any, path: str) -> Iterator[tuple[str, Text]]:
    """Where and why the tool calls of a message cannot be used."""
    if calls is None:
        return
    if not isinstance(calls, list):
        yield path, Text("must be a list", "必须是列表")
        return
    for number, call in enumerate(cast("list[Any]", calls)):
        fields = cast("dict[str, Any]", call) if isinstance(call, dict) else {}
        function = fields.get("function")
        named = cast("dict[str, Any]", function) if isinstance(function, dict) else {}
        if not (_is_text(fields.get("id")) and _is_text(named.get("name")) and isinstance(named.get("arguments"), str)):
            yield f"{path}.{number}", _CALL


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _content_faults(content: Any, path: str) -> Iterator[tuple[str, Text]]:
    """Where and why the content of a message cannot be used: it is text, null, or a list of parts with a `type`."""
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        yield path, Text("must be text or a list of content parts", "必须是文本或内容部分的列表")
        return
    for number, part in enumerate(cast("list[Any]", content)):
        fields = cast("dict[str, Any]", part) if isinstance(part, dict) else {}
        kind = fields.get("type")
        if not isinstance(kind, str) or not kind:
            yield f"{path}.{number}", Text("a content part is an object with a type", "内容部分是含 type 的对象")
        elif kind == "text" and not isinstance(fields.get("text"), str):
            yield f"{path}.{number}.text", Text("must be text", "必须是文本")


def check_agent_config(config: Mapping[str, Any]) -> None:
    """Raises `AgentConfigInvalid` or `LimitsInvalid` for what a session may not override."""
    check_overrides(config)
    checked_limits(config.get("limits") or {}, SessionLimits, path="agent_config.limits")

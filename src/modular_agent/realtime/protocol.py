"""The WebSocket protocol: what a client may say, what it is answered, and where exactly a message is wrong.

A client's message is `{"type", "session_id", "data", "timestamp", "id"}`. What belongs to a message (`after_seq`,
`types`, `generation`, `action`, `query`) may stand in `data` or beside it. An answer is an envelope with the message's
`id`. Events themselves are in `event`.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

import orjson

from modular_agent.errors import AgentError, Fault, InvalidInput, Language, Text
from modular_agent.kit.clock import rfc3339
from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.json_integers import first_too_large
from modular_agent.realtime.errors import InvalidMessage, UnknownMessageType
from modular_agent.realtime.event import DELTA, METRICS, RECORD_EVENTS
from modular_agent.realtime.ports import Control, Query

__all__ = [
    "ACTIONS",
    "MESSAGE_TYPES",
    "QUERIES",
    "SUBSCRIBABLE",
    "WILDCARD",
    "ClientMessage",
    "MessageId",
    "Ping",
    "Pong",
    "Subscribe",
    "Unsubscribe",
    "answer",
    "error_answer",
    "parse",
]

MessageId: TypeAlias = str | int | None

WILDCARD: Final = "*"
ACTIONS: Final = frozenset({"start", "pause", "resume", "step", "stop", "retry", "inject", "edit", "answer"})
QUERIES: Final = frozenset({"status", "state", "history", "runs", "checkpoints"})
SUBSCRIBABLE: Final = RECORD_EVENTS | {DELTA, METRICS}
SESSION_TYPES: Final = SUBSCRIBABLE - {METRICS}
MAX_DEPTH: Final = 32
MAX_ID: Final = 128  # characters
MAX_SEQ: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """`session_id` None: the types alone, of every session of the tenant; `"*"`: every session."""

    id: MessageId
    session_id: str | None
    after_seq: int | None = None
    generation: int | None = None
    types: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribe:
    """Ends the subscription of that `session_id` (`"*"`, or None for the one by types alone)."""

    id: MessageId
    session_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """To be answered with `pong`."""

    id: MessageId


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """The answer to the server's `ping`."""

    id: MessageId


ClientMessage: TypeAlias = Subscribe | Unsubscribe | Ping | Pong | Control | Query
JsonObject: TypeAlias = Mapping[str, Any]  # as a client wrote it


class _Reader:
    """Takes fields out of one message and gathers what is wrong with them."""

    def __init__(self, message: JsonObject) -> None:
        self.faults: list[Fault] = []
        self.message = message
        self.id = self._id()
        data = message.get("data")
        if data is not None and not isinstance(data, dict):
            self.fault("data", Text("must be an object", "必须是对象"))
            data = None
        self.data: JsonObject = cast("JsonObject", data or {})

    def fault(self, path: str, text: Text, *, code: str = "invalid_field", suggestion: str | None = None) -> None:
        self.faults.append(Fault(code=code, text=text, path=path, suggestion=suggestion))

    def field(self, name: str) -> tuple[str, object]:
        """The place and value of a field that may stand in `data` or beside it; null counts as absent."""
        inner, outer = self.data.get(name), self.message.get(name)
        if inner is not None and outer is not None and inner != outer:
            self.fault(
                name, Text(f"says something else than data.{name}", f"与 data.{name} 不一致"), code="contradiction"
            )
        return (f"data.{name}", inner) if inner is not None else (name, outer)

    def number(self, name: str) -> int | None:
        path, value = self.field(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_SEQ:
            self.fault(path, Text("must be a whole number, 0 or more", "必须是不小于 0 的整数"))
            return None
        return value

    def choice(self, name: str, choices: frozenset[str]) -> str:
        path, value = self.field(name)
        known = ", ".join(sorted(choices))
        if value is None:
            self.fault(f"data.{name}", Text(f"is missing; one of {known}", f"缺失；可用的有 {known}"), code="missing")
        elif not isinstance(value, str) or value not in choices:
            text = Text(f"must be one of {known}", f"必须是以下之一：{known}")
            self.fault(path, text, suggestion=_likely(value, choices))
        else:
            return value
        return ""

    def types(self, choices: frozenset[str]) -> frozenset[str] | None:
        path, value = self.field("types")
        if value is None:
            return None
        if not isinstance(value, list) or not value:
            self.fault(path, Text("must be a list of event types, at least one", "必须是事件类型的列表，至少一项"))
            return None
        names = cast("list[object]", value)
        for index, name in enumerate(names[: len(SUBSCRIBABLE) * 2]):
            if name == METRICS and name not in choices:
                text = Text(
                    f"{METRICS} belong to no session: subscribe to types alone",
                    f"{METRICS} 不属于任何会话：请只按类型订阅",
                )
                self.fault(f"{path}[{index}]", text)
            elif not isinstance(name, str) or name not in choices:
                known = ", ".join(sorted(choices))
                text = Text(f"is no event type; known are {known}", f"不是事件类型；可用的有 {known}")
                self.fault(f"{path}[{index}]", text, suggestion=_likely(name, choices))
        return frozenset(str(name) for name in names)

    def session(self, *, required: bool) -> str | None:
        value = self.message.get("session_id")
        if isinstance(value, str) and 0 < len(value) <= 256:
            return value
        if value is not None:
            self.fault("session_id", Text("must be a text of 1 to 256 characters", "必须是 1 至 256 个字符的文本"))
        elif required:
            self.fault("session_id", Text("is missing", "缺失"), code="missing")
        return None

    def known(self, *names: str) -> None:
        """Faults every field that is none of the message's: a misspelt cursor would silently lose events."""
        outer = {"type", "session_id", "data", "timestamp", "id", *names}
        for prefix, fields, allowed in (("", self.message, outer), ("data.", self.data, {*names})):
            for name in fields:
                if name not in allowed:
                    likely = _likely(name, allowed)
                    self.fault(
                        f"{prefix}{name}"[:200], Text("is unknown", "未知"), code="unknown_field", suggestion=likely
                    )

    def _id(self) -> MessageId:
        value = self.message.get("id")
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        if isinstance(value, str) and len(value) <= MAX_ID:
            return value
        text = Text(
            f"must be a number, or a text of {MAX_ID} characters at most", f"必须是数字，或最多 {MAX_ID} 个字符的文本"
        )
        self.fault("id", text)
        return None


def _likely(value: object, choices: frozenset[str] | set[str]) -> str | None:
    found = difflib.get_close_matches(value[:64], sorted(choices), n=1) if isinstance(value, str) else []
    return found[0] if found else None


def _subscribe(reader: _Reader) -> ClientMessage:
    session_id = reader.session(required=False)
    of_session = session_id is not None and session_id != WILDCARD
    reader.known("after_seq", "generation", "types")
    types = reader.types(SESSION_TYPES if of_session else SUBSCRIBABLE)
    after_seq, generation = reader.number("after_seq"), reader.number("generation")
    if not of_session and (after_seq is not None or generation is not None):
        reader.fault(
            "after_seq",
            Text(
                "needs one session: a subscription to many is live only",
                "需要指定一个会话：对多个会话的订阅只有实时事件",
            ),
        )
    if session_id is None and types is None and not reader.faults:
        reader.fault(
            "session_id",
            Text('is missing: name a session, "*" or types', '缺失：请给出一个会话、"*" 或 types'),
            code="missing",
        )
    return Subscribe(id=reader.id, session_id=session_id, after_seq=after_seq, generation=generation, types=types)


def _unsubscribe(reader: _Reader) -> ClientMessage:
    reader.known("types")
    return Unsubscribe(id=reader.id, session_id=reader.session(required=False))


def _control(reader: _Reader) -> ClientMessage:
    action = reader.choice("action", ACTIONS)
    session_id = reader.session(required=action not in ("start", ""))
    return Control(id=reader.id, action=action, session_id=session_id, data=_without(reader.data, "action"))


def _query(reader: _Reader) -> ClientMessage:
    query = reader.choice("query", QUERIES)
    session_id = reader.session(required=True) or ""
    return Query(id=reader.id, query=query, session_id=session_id, data=_without(reader.data, "query"))


def _status(reader: _Reader) -> ClientMessage:
    return Query(id=reader.id, query="status", session_id=reader.session(required=True) or "", data=reader.data)


def _without(data: JsonObject, name: str) -> JsonObject:
    return {key: value for key, value in data.items() if key != name}


_PARSERS: Final[Mapping[str, Callable[[_Reader], ClientMessage]]] = {
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "ping": lambda reader: Ping(id=reader.id),
    "pong": lambda reader: Pong(id=reader.id),
    "control": _control,
    "query": _query,
    "status": _status,
}
MESSAGE_TYPES: Final = frozenset(_PARSERS)


def parse(payload: str | bytes) -> ClientMessage:
    """A client's message. Raises `InvalidMessage` with every fault found, or `UnknownMessageType`."""
    try:
        message: object = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        text = Text(
            f"is not JSON: {error.msg} (line {error.lineno} column {error.colno})",
            f"不是 JSON（第 {error.lineno} 行第 {error.colno} 列）",
        )
        raise InvalidMessage([Fault(code="invalid_json", text=text)]) from None
    if not isinstance(message, dict):
        raise InvalidMessage([Fault(code="invalid_message", text=Text("must be a JSON object", "必须是 JSON 对象"))])
    fields = cast("JsonObject", message)
    _check_depth(payload, fields)
    _check_integers(payload)
    reader = _Reader(fields)
    kind = reader.message.get("type")
    parser = _PARSERS.get(kind) if isinstance(kind, str) else None
    if isinstance(kind, str) and parser is None:
        raise UnknownMessageType(type=repr(kind[:64]), known=", ".join(sorted(MESSAGE_TYPES)), message_id=reader.id)
    if parser is None:
        fault = Fault(code="missing", text=Text("must be a text", "必须是文本"), path="type")
        raise InvalidMessage([fault], message_id=reader.id)
    parsed = parser(reader)
    if reader.faults:
        raise InvalidMessage(reader.faults, message_id=reader.id)
    return parsed


def _check_depth(payload: str | bytes, message: object) -> None:
    brackets = payload.count("{") + payload.count("[") if isinstance(payload, str) else _brackets(payload)
    if brackets <= MAX_DEPTH:
        return
    level: list[object] = [message]
    for _ in range(MAX_DEPTH):
        level = [child for value in level for child in _children(value)]
        if not level:
            return
    text = Text(f"is nested more than {MAX_DEPTH} deep", f"嵌套超过 {MAX_DEPTH} 层")
    raise InvalidMessage([Fault(code="too_deep", text=text)])


def _check_integers(payload: str | bytes) -> None:
    place = first_too_large(payload.encode() if isinstance(payload, str) else payload)
    if place is not None:
        fault = Fault(
            code="number_too_large",
            text=Text("does not fit into 64 bits; send it as a string", "超出 64 位；请以字符串形式发送"),
            path=place[1:].replace("/", "."),
        )
        raise InvalidMessage([fault])


def _brackets(payload: bytes) -> int:
    return payload.count(b"{") + payload.count(b"[")


def _children(value: object) -> Sequence[object]:
    if isinstance(value, dict):
        return list(cast("dict[str, object]", value).values())
    return cast("list[object]", value) if isinstance(value, list) else ()


def answer(
    kind: str,
    *,
    message_id: MessageId,
    now_us: int,
    data: JsonObject,
    session_id: str | None = None,
    seq: int | None = None,
) -> bytes:
    """An answer's envelope: `{"type", "session_id", "seq", "timestamp", "id", "data"}`."""
    return orjson.dumps(
        {
            "type": kind,
            "session_id": session_id,
            "seq": seq,
            "timestamp": rfc3339(now_us),
            "id": message_id,
            "data": data,
        }
    )


def error_answer(
    error: AgentError,
    *,
    message_id: MessageId,
    now_us: int,
    language: Language = "en",
    session_id: str | None = None,
) -> bytes:
    """The `error` answer: `data` is `{"code", "kind", "message", "errors"?, "retry_after"?}`."""
    data: dict[str, Any] = {"code": error.code, "kind": error.kind, "message": error.message(language)}
    if isinstance(error, (InvalidMessage, InvalidInput)):
        data["errors"] = [_fault(fault, language) for fault in error.faults]
    if error.retry_after is not None:
        data["retry_after"] = error.retry_after
    return answer("error", message_id=message_id, now_us=now_us, data=data, session_id=session_id)


def _fault(fault: Fault, language: Language) -> JsonObject:
    return {name: value for name, value in fault.fields(language).items() if value not in (None, "")}

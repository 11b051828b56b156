"""What goes wrong between a client and the stream of events.

    AgentError
    ├── LogUnavailable          the log did not answer in time
    ├── MessageRefused          a client's message that cannot be carried out; keeps its `id`
    │   ├── InvalidMessage      it does not have the declared shape (with `faults`)
    │   └── UnknownMessageType  its `type` is none of the protocol's
    ├── MessageTooLarge         bigger than the connection takes
    ├── TooManyMessages         faster than the connection's rate
    ├── TooManySubscriptions    more than one connection may hold
    ├── TooManyCommands         more unanswered commands than one connection may have
    └── NotSubscribed           nothing to unsubscribe from

`Disconnected` is a signal of the transport, not an error that anybody is told of.
"""

from collections.abc import Sequence

from modular_agent.errors import AgentError, Fault, Kind, Text

__all__ = [
    "Disconnected",
    "InvalidMessage",
    "LogUnavailable",
    "MessageRefused",
    "MessageTooLarge",
    "NotSubscribed",
    "TooManyCommands",
    "TooManyMessages",
    "TooManySubscriptions",
    "UnknownMessageType",
]


class Disconnected(Exception):
    """The peer is gone, or the transport was closed."""


class LogUnavailable(AgentError):
    """The log did not answer in time."""

    code = "log_unavailable"
    kind = Kind.UNAVAILABLE
    english = "The log of session {session_id} could not be read in time; subscribe again from the last seq received."
    chinese = "未能及时读取会话 {session_id} 的日志；请从最后收到的 seq 重新订阅。"


class MessageRefused(AgentError):
    """A client's message that cannot be carried out; `message_id` is its `id`, for the answer."""

    kind = Kind.MALFORMED

    def __init__(
        self, *, message_id: str | int | None = None, retry_after: float | None = None, **parameters: object
    ) -> None:
        super().__init__(retry_after=retry_after, **parameters)
        self.message_id = message_id


class InvalidMessage(MessageRefused):
    """A client's message that does not have the declared shape, with every fault found in it."""

    code = "invalid_message"
    english = "The message cannot be understood: {faults}"
    chinese = "无法理解该消息：{faults}"

    def __init__(self, faults: Sequence[Fault], *, message_id: str | int | None = None) -> None:
        super().__init__(message_id=message_id, faults=_together(faults))
        self.faults = tuple(faults)


def _together(faults: Sequence[Fault]) -> Text:
    return Text("; ".join(fault.told("en") for fault in faults), "；".join(fault.told("zh") for fault in faults))


class MessageTooLarge(AgentError):
    """A client's message beyond the connection's limit, in bytes."""

    code = "message_too_large"
    kind = Kind.TOO_LARGE
    english = "A message may have {limit} bytes at most."
    chinese = "消息最多 {limit} 字节。"


class UnknownMessageType(MessageRefused):
    """A `type` that the protocol does not know."""

    code = "unknown_message_type"
    english = "There is no message type {type}; known are {known}."
    chinese = "没有消息类型 {type}；可用的有 {known}。"


class TooManyMessages(AgentError):
    """Messages faster than the connection's rate."""

    code = "rate_limited"
    kind = Kind.RATE_LIMITED
    english = "Too many messages: at most {rate} per second. This one was ignored."
    chinese = "消息过多：每秒最多 {rate} 条。此条已忽略。"


class TooManySubscriptions(AgentError):
    """More subscriptions than one connection may hold."""

    code = "too_many_subscriptions"
    kind = Kind.RATE_LIMITED
    english = "A connection may hold {limit} subscriptions at most."
    chinese = "一个连接最多可有 {limit} 个订阅。"


class TooManyCommands(AgentError):
    """More unanswered commands than one connection may have."""

    code = "too_many_commands"
    kind = Kind.RATE_LIMITED
    english = "A connection may have {limit} unanswered commands at most."
    chinese = "一个连接最多可有 {limit} 条未应答的命令。"


class NotSubscribed(AgentError):
    """Nothing to unsubscribe from."""

    code = "not_subscribed"
    kind = Kind.NOT_FOUND
    english = "This connection has no subscription to {target}."
    chinese = "此连接没有对 {target} 的订阅。"

"""What the realtime layer needs from the rest of the product."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from modular_agent.events import CommittedRecord, SessionRef
from modular_agent.kit.dataclass import dataclass

__all__ = ["Access", "CommandHandler", "Control", "Head", "LogReader", "MetricsSource", "Query", "Tenants", "Transport"]


class Head(NamedTuple):
    """Where a session's log stands: its last `seq` (0 when empty) and its generation.

    The generation is 0 until a restored backup first takes `seq` back, and is raised by each that does.
    """

    last_seq: int
    generation: int


class LogReader(Protocol):
    """Reads committed records. Both raise an `AgentError` when the session does not exist."""

    async def read_after(self, session: SessionRef, seq: int, limit: int) -> Sequence[CommittedRecord]:
        """At most `limit` records after `seq`, ascending; whatever was handed to `Hub.publish` must be visible."""
        ...

    async def head(self, session: SessionRef) -> Head:
        """The log's end and generation."""
        ...


class Tenants(Protocol):
    """Says whose a session is."""

    async def tenant_of(self, session: SessionRef) -> str | None:
        """The session's tenant; None when there is no such session."""
        ...


class MetricsSource(Protocol):
    """Samples the figures of `performance_metrics`."""

    async def sample(self, tenant: str) -> Mapping[str, Any]:
        """The `data` of the event: a JSON object that holds nothing of another tenant's."""
        ...


class Access(Protocol):
    """What the caller behind one connection may read; made per connection by whoever authenticated it."""

    async def authorize(self, session_id: str) -> SessionRef:
        """The session; raises an `AgentError` (not found, forbidden) otherwise."""
        ...

    async def tenant(self) -> str:
        """The tenant whose sessions the caller may watch all at once; raises an `AgentError` otherwise."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A client's `control` message. `data` is what it sent beside `action`."""

    action: str
    session_id: str | None
    data: Mapping[str, Any]  # as the client wrote it; the handler validates
    id: str | int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A client's `query` or `status` message. `data` is what it sent beside `query`."""

    query: str
    session_id: str
    data: Mapping[str, Any]  # as the client wrote it; the handler validates
    id: str | int | None = None


class CommandHandler(Protocol):
    """Carries out the commands of one connection's caller; raises an `AgentError` for a refusal."""

    async def control(self, command: Control, *, accepted: Callable[[Mapping[str, Any]], None]) -> Mapping[str, Any]:
        """Calls `accepted` with the data of `ack` once it is durable, and returns the data of `result`.

        After `accepted` it only waits: it may be cancelled without harm when the client goes away.
        """
        ...

    async def query(self, query: Query) -> Mapping[str, Any]:
        """The data of `result`."""
        ...


class Transport(Protocol):
    """One WebSocket after its handshake."""

    async def receive(self) -> str | bytes:
        """The next message, whole; raises `Disconnected` when there will be none."""
        ...

    async def send(self, payloads: Sequence[bytes]) -> None:
        """Sends texts in UTF-8, at least one, as a frame each; returns when the next may be sent.

        Raises `Disconnected`.
        """
        ...

    async def close(self, code: int, reason: str) -> None:
        """Closes with a WebSocket status code; does nothing when closed already."""
        ...

"""What routes get: the parts of the running process, the session in the path, and who asks."""

from typing import Annotated, Final, cast

from fastapi import Depends, Header, Path
from starlette.requests import HTTPConnection

from modular_agent.api.middleware.identity import API_KEY
from modular_agent.domain.history.service import HistoryService
from modular_agent.domain.sessions import Session
from modular_agent.domain.workflows.service import WorkflowsService
from modular_agent.runtime import Runtime

__all__ = [
    "MAX_ID_LENGTH",
    "ApiKeyDep",
    "CallerDep",
    "HistoryDep",
    "IdempotencyKey",
    "RuntimeDep",
    "SessionDep",
    "SessionId",
    "WorkflowsDep",
    "caller_of",
    "key_id_of",
    "runtime_of",
]


def runtime_of(connection: HTTPConnection) -> Runtime:
    """The parts of the process that serves a request or WebSocket."""
    return cast(Runtime, connection.app.state.runtime)


def caller_of(connection: HTTPConnection) -> str:
    """Who asks, for the log: the key that was presented, else the address."""
    key_id = key_id_of(connection)
    if key_id is not None:
        return f"key:{key_id}"
    return f"address:{connection.client.host}" if connection.client else "local"


def key_id_of(connection: HTTPConnection) -> str | None:
    """The API key by which a request or WebSocket was identified."""
    return connection.scope.get("state", {}).get(API_KEY)


async def _runtime(connection: HTTPConnection) -> Runtime:  # async, because others cost a thread
    return runtime_of(connection)


async def _caller(connection: HTTPConnection) -> str:
    return caller_of(connection)


async def _key_id(connection: HTTPConnection) -> str | None:
    return key_id_of(connection)


MAX_ID_LENGTH: Final = 200  # characters

RuntimeDep = Annotated[Runtime, Depends(_runtime)]
CallerDep = Annotated[str, Depends(_caller)]
ApiKeyDep = Annotated[str | None, Depends(_key_id)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="A repeated request with the same key is answered as the first was.",
    ),
]
SessionId = Annotated[
    str, Path(description="The id of a session.", examples=["react-251022-174800-1f73e8"], max_length=MAX_ID_LENGTH)
]


async def _session(session_id: SessionId, connection: HTTPConnection) -> Session:
    return await runtime_of(connection).sessions.get(session_id)


async def _workflows(runtime: RuntimeDep) -> WorkflowsService:
    return runtime.workflows


async def _history(runtime: RuntimeDep) -> HistoryService:
    return runtime.history


SessionDep = Annotated[Session, Depends(_session)]
WorkflowsDep = Annotated[WorkflowsService, Depends(_workflows)]
HistoryDep = Annotated[HistoryService, Depends(_history)]

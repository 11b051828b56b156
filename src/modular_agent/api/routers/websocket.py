"""`/ws/{client_id}`: the WebSocket, adapted to the realtime layer; control and queries of its clients."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Final, TypeVar

import orjson
from fastapi import APIRouter, Path, Query, WebSocket
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.websockets import WebSocketDisconnect, WebSocketState

from modular_agent.api.dependencies import caller_of, key_id_of, runtime_of
from modular_agent.api.language import language_of
from modular_agent.api.routers.runs import start_request
from modular_agent.api.routers.sessions import create_request
from modular_agent.api.schemas.checkpoints import EditState, InjectMessage
from modular_agent.api.schemas.runs import AnswerInterrupt, StartRun
from modular_agent.api.schemas.sessions import CreateSession
from modular_agent.api.validation import request_faults
from modular_agent.api.websocket_protocol import TOGETHER
from modular_agent.domain.runs import MultitaskMode, interrupt_view
from modular_agent.domain.sessions import Session, session_view
from modular_agent.errors import Fault, InvalidInput, Kind, Text
from modular_agent.events import SessionRef
from modular_agent.kit.late_model import LateModel
from modular_agent.realtime.connections import Connections
from modular_agent.realtime.errors import Disconnected
from modular_agent.realtime.ports import Control
from modular_agent.realtime.ports import Query as RealtimeQuery
from modular_agent.realtime.websocket import Connection, ConnectionLimits
from modular_agent.runtime import Runtime

__all__ = ["router"]

router = APIRouter()
TENANT: Final = "default"  # until there is login, everybody is of one tenant
Accepted = Callable[[Mapping[str, Any]], None]
Body = TypeVar("Body", bound=BaseModel)


class ControlInvalid(InvalidInput):
    """A control message does not have what its action needs."""

    code = "control_invalid"
    kind = Kind.MALFORMED
    english = "The control message cannot be used ({count} fault(s))."
    chinese = "控制消息无法使用（{count} 处错误）。"


class _Nothing(LateModel):
    """The data of a control that needs none."""

    model_config = ConfigDict(extra="forbid")


class RetryRun(_Nothing):
    """Which run to take up; the session's last one if none is named."""

    run_id: str | None = None


class AnswerQuestion(AnswerInterrupt):
    """An answer, and the question it belongs to."""

    interrupt_id: str


class _Socket:
    """Implements the realtime layer's `Transport`."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._together = TOGETHER in websocket.scope.get("extensions", {})

    async def receive(self) -> str | bytes:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise Disconnected
        text: str | None = message.get("text")
        return text if text is not None else message["bytes"]

    async def send(self, payloads: Sequence[bytes]) -> None:
        try:
            if self._together:
                *before, last = payloads
                await self._websocket.send({"type": "websocket.send", "text": last.decode(), "before": before})
            else:
                for payload in payloads:
                    await self._websocket.send({"type": "websocket.send", "text": payload.decode()})
        except (WebSocketDisconnect, RuntimeError) as error:  # closed by the other side while it was sent
            raise Disconnected from error

    async def close(self, code: int, reason: str) -> None:
        if self._websocket.application_state is not WebSocketState.DISCONNECTED:
            try:
                await self._websocket.close(code, reason)
            except (WebSocketDisconnect, RuntimeError) as error:
                raise Disconnected from error


class _Access:
    """Implements `Access` for everybody's sessions."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def authorize(self, session_id: str) -> SessionRef:
        return await self._runtime.sessions.reference(session_id)

    async def tenant(self) -> str:
        return TENANT


class _Commands:
    """Implements `CommandHandler`: what a client asks for over its WebSocket is what REST does."""

    def __init__(self, runtime: Runtime, by: str, api_key: str | None) -> None:
        self._runtime = runtime
        self._by = by
        self._api_key = api_key

    async def control(self, command: Control, *, accepted: Accepted) -> Mapping[str, Any]:
        if command.action == "start":
            return await self._start(command, accepted)
        session = await self._session(command)
        if command.action == "inject":
            return await self._inject(session, command, accepted)
        run_id = await self._controlled(session, command)
        accepted({"action": command.action, "run_id": run_id})
        if command.action == "edit":
            return await self._runtime.sessions.state(session)
        await self._runtime.runs.wait(run_id)
        if command.action == "answer":  # other branches may have executed: that was their end, and the run goes on
            await self._runtime.runs.wait(run_id)
        return await self._run(session, run_id)

    async def _controlled(self, session: Session, command: Control) -> str:
        """Asks for what a control says; answers the id of the run it is about."""
        control, by, action = self._runtime.control, self._by, command.action
        if action == "edit":
            change = _validated(EditState, command.data)
            run = await self._runtime.interventions.edit(session, change.state, by=by)
        elif action == "answer":
            given = _validated(AnswerQuestion, command.data)
            key = self._api_key
            run = await control.answer(session, given.interrupt_id, given.answer, by=by, key_id=key, wait=False)
        elif action == "retry":
            run = await control.retry(session, by=by, run_id=_validated(RetryRun, command.data).run_id)
        else:
            _validated(_Nothing, command.data)
            if action in {"pause", "stop"}:
                verb = control.pause if action == "pause" else control.stop
                run = await verb(session, by=by, wait=False)
            else:
                run = await control.resume(session, by=by, step=action == "step")
        return run.run_id

    async def _inject(self, session: Session, command: Control, accepted: Accepted) -> Mapping[str, Any]:
        """Puts a message into the run in progress; the result says what became of it."""
        message = _validated(InjectMessage, command.data).message
        injected = await self._runtime.interventions.inject(session, message, by=self._by)
        accepted({"action": "inject", **asdict(injected)})
        return asdict(await self._runtime.interventions.outcome(session, injected))

    async def _start(self, command: Control, accepted: Accepted) -> Mapping[str, Any]:
        """Starts a run; without a session, in one made of the same data."""
        given = {key: value for key, value in command.data.items() if key in StartRun.model_fields}
        rest = {key: value for key, value in command.data.items() if key not in given}
        body = _validated(StartRun, given)
        wanted = start_request(body, by=self._by, api_key=self._api_key, key=None, path="")
        if command.session_id is None:
            new = create_request(_validated(CreateSession, rest), api_key=self._api_key)
            session, run_id = await self._runtime.sessions.start_in_new(new, wanted)
        elif rest:
            raise ControlInvalid(
                [Fault(code="unknown_key", text=Text("unknown key", "未知的键"), path=key) for key in rest]
            )
        else:
            session = await self._runtime.sessions.get(command.session_id)
            run_id = await self._runtime.multitask.start(session, wanted, mode=MultitaskMode(body.multitask))
        accepted({"action": "start", "session_id": session.session_id, "run_id": run_id})
        await self._runtime.multitask.started(run_id)
        await self._runtime.runs.wait(run_id)
        return await self._run(session, run_id)

    async def query(self, query: RealtimeQuery) -> Mapping[str, Any]:
        session = await self._runtime.sessions.get(query.session_id)
        match query.query:
            case "status":
                return await self._status(session)
            case "state":
                return await self._runtime.sessions.state(session)
            case "history":
                lines = await self._runtime.history.newest(session.session_id, limit=50)
                return {"history": [orjson.loads(line) for line in lines]}
            case "checkpoints":
                return {"checkpoints": await self._runtime.sessions.checkpoints(session)}
            case _:
                page = await self._runtime.runs.rows.page(session.ref, limit=20)
                return {"runs": [self._runtime.views.brief(session, run) for run in page.runs]}

    async def _status(self, session: Session) -> dict[str, Any]:
        page = await self._runtime.runs.rows.page(session.ref, limit=1)
        asked = await self._runtime.runs.interrupts.open(session.ref)
        return {
            "session": session_view(session),
            "run": await self._runtime.views.full(session, page.runs[0]) if page.runs else None,
            "interrupts": [interrupt_view(row) for row in asked],
        }

    async def _session(self, command: Control) -> Session:
        if command.session_id is None:
            raise _missing("session_id")
        return await self._runtime.sessions.get(command.session_id)

    async def _run(self, session: Session, run_id: str) -> dict[str, Any]:
        return await self._runtime.views.full(session, await self._runtime.runs.get(session.ref, run_id))


def _validated(model: type[Body], data: Mapping[str, Any]) -> Body:
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        raise ControlInvalid(request_faults(error.errors(), data)) from error


def _missing(*names: str) -> ControlInvalid:
    return ControlInvalid([Fault(code="missing", text=Text("must be given", "必须给出"), path=name) for name in names])


@router.websocket("/ws/{client_id}")
async def websocket(
    websocket: WebSocket,
    client_id: Annotated[str, Path(min_length=1, max_length=200)],
    token: Annotated[str | None, Query(max_length=4000)] = None,
) -> None:
    """Live events, queries and control over one connection; a second one with the `client_id` takes it over."""
    runtime = runtime_of(websocket)
    connections: Connections = websocket.app.state.connections
    settings = runtime.settings.websocket
    await websocket.accept()
    by = caller_of(websocket)
    await connections.run(
        Connection(
            _Socket(websocket),
            hub=runtime.hub,
            access=_Access(runtime),
            handler=_Commands(runtime, by, key_id_of(websocket)),
            clock=runtime.clock,
            client_id=client_id,
            owner=TENANT,
            language=language_of(websocket.scope),
            limits=ConnectionLimits(
                message_bytes=settings.max_message_bytes,
                rate=settings.messages_per_second,
                burst=2 * settings.messages_per_second,
                ping_interval=settings.ping_interval,
            ),
        )
    )

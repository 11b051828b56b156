"""JSON bodies read strictly: orjson, no NaN, no half characters, no bottomless nesting, no integers made floats."""

import re
from collections.abc import Callable, Coroutine
from typing import Any, Final

import orjson
from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from modular_agent.api.errors import JsonNumberTooLarge, JsonTooDeep
from modular_agent.api.late_route import LateRoute
from modular_agent.kit.json_integers import first_too_large

__all__ = ["DEPTH_KEY", "JsonRequest", "JsonRoute", "ShortRoute", "nests_deeper"]

DEPTH_KEY: Final = "modular_agent.max_json_depth"  # in the ASGI scope
_REQUEST: Final = "modular_agent.json_request"  # in the ASGI scope, where something was read of it before
DEFAULT_DEPTH: Final = 64
_STRINGS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)  # possessive: never quadratic
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")


def nests_deeper(body: bytes, limit: int) -> bool:
    """Whether the JSON text `body` nests deeper than `limit`; a text that is not JSON is left to the parser.

    It runs before the parser and at the speed of C: each pass takes away the innermost pairs of brackets, so that there
    are at most `limit` passes over ever fewer bytes.
    """
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    brackets = _STRINGS.sub(b"", body).translate(_ONE_KIND, _NOT_BRACKETS)
    for _ in range(limit):
        rest = brackets.replace(b"[]", b"")
        if not rest or len(rest) == len(brackets):
            return False
        brackets = rest
    return True


class JsonRequest(Request):
    """A request whose `json()` raises `json.JSONDecodeError`, `JsonTooDeep` or `JsonNumberTooLarge`."""

    async def body(self) -> bytes:
        if hasattr(self, "_body") or self._stream_consumed:
            return await super().body()
        chunks: list[bytes] = []
        while not self._stream_consumed:  # what `stream` does, without a generator
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._is_disconnected = True
                raise ClientDisconnect
            chunks.append(message.get("body", b""))
            self._stream_consumed = not message.get("more_body", False)
        self._body = b"".join(chunks)
        return self._body

    async def json(self) -> Any:  # any JSON value
        if not hasattr(self, "_json"):
            body = await self.body()
            limit: int = self.scope.get(DEPTH_KEY, DEFAULT_DEPTH)
            if nests_deeper(body, limit):
                raise JsonTooDeep(limit=limit)
            document = orjson.loads(body)
            place = first_too_large(body)
            if place is not None:
                raise JsonNumberTooLarge(path=f"/body{place}")
            self._json = document
        return self._json


def _as_json(request: Request) -> JsonRequest:
    """The same request; what was read of it before is not read again."""
    if isinstance(request, JsonRequest):
        return request
    return request.scope.get(_REQUEST) or JsonRequest(request.scope, request.receive)


class JsonRoute(LateRoute):
    """The route class of every router of ours: `APIRouter(route_class=JsonRoute)`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(_as_json(request))

        return handle_json


class ShortRoute(JsonRoute):
    """A route that is asked so often that its plain requests skip what FastAPI does around what is declared.

    `short` answers them, and None for all others (anything that looks wrong or unusual): these go the declared way,
    with its checks and its errors. For `router.add_api_route(route_class_override=...)` make a subclass. What `short`
    raises is answered by the application's handlers, as everything is.
    """

    short: Callable[[JsonRequest], Coroutine[Any, Any, Response | None]]

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in self.methods:
            asked = JsonRequest(scope, receive, send)
            answer = await type(self).short(asked)
            if answer is not None:
                await answer(scope, receive, send)
                return
            scope[_REQUEST] = asked
        await super().handle(scope, receive, send)

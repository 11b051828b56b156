"""JSON bodies read strictly: orjson, no NaN, no half characters, no bottomless nesting."""

import re
from collections.abc import Callable, Coroutine
from typing import Any, Final

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute

from modular_agent.api.errors import JsonTooDeep

__all__ = ["DEPTH_KEY", "JsonRequest", "JsonRoute", "nests_deeper"]

DEPTH_KEY: Final = "modular_agent.max_json_depth"  # in the ASGI scope
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
    """A request whose `json()` raises `json.JSONDecodeError` or `JsonTooDeep`."""

    async def json(self) -> Any:  # any JSON value
        if not hasattr(self, "_json"):
            body = await self.body()
            limit: int = self.scope.get(DEPTH_KEY, DEFAULT_DEPTH)
            if nests_deeper(body, limit):
                raise JsonTooDeep(limit=limit)
            self._json = orjson.loads(body)
        return self._json


class JsonRoute(APIRoute):
    """The route class of every router of ours: `APIRouter(route_class=JsonRoute)`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return handle_json

"""Errors on their way out: the only table from kinds and codes to HTTP statuses, and the handlers that use it."""

import math
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import HTTPExceptionHandler, Scope
from starlette.websockets import WebSocket

from modular_agent.api.language import language_of
from modular_agent.api.problem import MEDIA_TYPE, faults_json, problem_type
from modular_agent.api.responses import JsonResponse
from modular_agent.api.validation import request_faults
from modular_agent.errors import AgentError, CursorInvalid, Fault, Kind
from modular_agent.kit.pagination import InvalidCursor

__all__ = [
    "BodyTooLarge",
    "ErrorHandlers",
    "ForeignHost",
    "ForeignOrigin",
    "InvalidJson",
    "InvalidRequest",
    "JsonNumberTooLarge",
    "JsonTooDeep",
    "MethodNotAllowed",
    "NotReady",
    "RequestRefused",
    "RouteUnknown",
    "TooManyRequests",
    "WrongMediaType",
    "install_errors",
    "problem_response",
    "status_of",
    "title_of",
]

_STATUS: Final[Mapping[Kind, int]] = {
    Kind.INVALID: 400,
    Kind.MALFORMED: 422,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.TOO_LARGE: 413,
    Kind.RATE_LIMITED: 429,
    Kind.UNAVAILABLE: 503,
    Kind.INTERNAL: 500,
}
# Codes of HTTP itself, for which no kind stands.
_STATUS_OF_CODE: Final[Mapping[str, int]] = {
    "method_not_allowed": 405,
    "precondition_missing": 428,
    "wrong_media_type": 415,
}

_TITLES: Final[Mapping[int, tuple[str, str]]] = {
    400: ("Invalid request", "请求无效"),
    401: ("Not authenticated", "未认证"),
    403: ("Not allowed", "不允许"),
    404: ("Not found", "未找到"),
    405: ("Method not allowed", "不支持的请求方法"),
    409: ("Conflict", "冲突"),
    413: ("Too large", "过大"),
    415: ("Unsupported media type", "不支持的媒体类型"),
    422: ("Malformed request", "请求格式错误"),
    428: ("Precondition required", "缺少前提条件"),
    429: ("Too many requests", "请求过多"),
    500: ("Internal error", "内部错误"),
    503: ("Not available now", "暂时不可用"),
}


class RouteUnknown(AgentError):
    """No route has this path."""

    code = "not_found"
    kind = Kind.NOT_FOUND
    english = "There is nothing at {path}."
    chinese = "{path} 不存在。"


class MethodNotAllowed(AgentError):
    """The path exists, but not for this method; the header `Allow` lists those that it takes."""

    code = "method_not_allowed"
    kind = Kind.INVALID
    english = "{method} is not possible at {path}."
    chinese = "{path} 不支持 {method}。"


class RequestRefused(AgentError):
    """A refusal that the web framework made; `detail` is its text."""

    code = "request_refused"
    kind = Kind.INVALID
    english = "The request was refused: {detail}"
    chinese = "请求被拒绝：{detail}"


class InvalidRequest(AgentError):
    """A request whose path, query, headers or body do not have the declared shape."""

    code = "invalid_request"
    kind = Kind.MALFORMED
    english = "The request has {count} fault(s)."
    chinese = "请求有 {count} 处错误。"

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(count=len(faults))
        self.faults = tuple(faults)


class InvalidJson(AgentError):
    """A body that is not JSON; `line` and `column` count from 1."""

    code = "invalid_json"
    kind = Kind.MALFORMED
    english = "The body is not valid JSON: see line {line}, column {column}."
    chinese = "请求体不是有效的 JSON：见第 {line} 行第 {column} 列。"

    def __init__(self, *, line: int, column: int) -> None:
        super().__init__(line=line, column=column)
        self.faults = (Fault(code="invalid_json", text=self.text, path="/body", line=line, column=column),)


class JsonTooDeep(AgentError):
    """A JSON body that nests deeper than MAX_JSON_DEPTH."""

    code = "json_too_deep"
    kind = Kind.MALFORMED
    english = "The body nests deeper than {limit} levels."
    chinese = "请求体的嵌套超过 {limit} 层。"


class JsonNumberTooLarge(AgentError):
    """A JSON body with an integer beyond 64 bits, which could not be kept as it is. `path` is where."""

    code = "json_number_too_large"
    kind = Kind.MALFORMED
    english = "The integer at {path} does not fit into 64 bits; send it as a string."
    chinese = "{path} 处的整数超出 64 位；请以字符串形式发送。"

    def __init__(self, *, path: str) -> None:
        super().__init__(path=path)
        self.faults = (Fault(code=self.code, text=self.text, path=path),)


class BodyTooLarge(AgentError):
    """A request body beyond MAX_BODY_BYTES."""

    code = "body_too_large"
    kind = Kind.TOO_LARGE
    english = "The request body is larger than {limit} bytes."
    chinese = "请求体超过 {limit} 字节。"


class ForeignHost(AgentError):
    """A request for a name that is not this server's, as DNS rebinding makes them."""

    code = "foreign_host"
    kind = Kind.FORBIDDEN
    english = "This server is not called {host}; to allow the name, add it to ALLOWED_HOSTS."
    chinese = "本服务器不使用名称 {host}；如需允许，请将其加入 ALLOWED_HOSTS。"


class ForeignOrigin(AgentError):
    """A request that another site's page made."""

    code = "foreign_origin"
    kind = Kind.FORBIDDEN
    english = "Pages of {origin} may not use this server; to allow them, add the origin to CORS_ORIGINS."
    chinese = "不允许来自 {origin} 的页面访问本服务器；如需允许，请将该来源加入 CORS_ORIGINS。"


class NotReady(AgentError):
    """A part of the server does not work; `faults` say which."""

    code = "not_ready"
    kind = Kind.UNAVAILABLE
    english = "The server is not ready: {count} part(s) do not work."
    chinese = "服务器尚未就绪：有 {count} 个部分无法工作。"

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(retry_after=1.0, count=len(faults))
        self.faults = tuple(faults)


class TooManyRequests(AgentError):
    """More requests from one address than RATE_LIMIT_PER_MINUTE."""

    code = "too_many_requests"
    kind = Kind.RATE_LIMITED
    english = "Too many requests: at most {limit} per minute."
    chinese = "请求过多：每分钟最多 {limit} 次。"


class WrongMediaType(AgentError):
    """A body of a kind that the route does not take."""

    code = "wrong_media_type"
    kind = Kind.INVALID
    english = "A body of type {found} is not taken here; send application/yaml or application/json."
    chinese = "此处不接受 {found} 类型的请求体；请发送 application/yaml 或 application/json。"


def status_of(error: AgentError | type[AgentError]) -> int:
    """The HTTP status of an error or an error class."""
    return _STATUS_OF_CODE.get(error.code) or _STATUS[error.kind]


def title_of(status: int) -> str:
    """What the problems of this status have in common, in English."""
    return _titles(status)[0]


def _titles(status: int) -> tuple[str, str]:
    return _TITLES.get(status) or _TITLES[400 if status < 500 else 500]


def problem_response(
    scope: Scope,
    error: AgentError,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    trace: str | None = None,
) -> Response:
    """The problem document that tells `error` to the client of `scope`, in its language.

    `status` overrides the table's; `trace` (DEBUG only) is shown as the member `trace`.
    """
    language = language_of(scope)
    status = status or status_of(error)
    titles = _titles(status)
    state: dict[str, Any] = scope.setdefault("state", {})
    state["problem_code"] = error.code  # for the access log
    content: dict[str, Any] = {
        "type": problem_type(error.code),
        "title": titles[1] if language == "zh" else titles[0],
        "status": status,
        "detail": error.message(language),
        "instance": scope["path"],
        "code": error.code,
        "request_id": state.get("request_id"),
    }
    content.update(error.details())
    faults = faults_json(error, language)
    if faults:
        content["errors"] = faults
    if trace is not None:
        content["trace"] = trace
    all_headers = {
        "Content-Language": language,
        "Vary": "Accept-Language",
        "Cache-Control": "no-store",
        **(headers or {}),
    }
    if error.retry_after is not None or error.kind is Kind.RATE_LIMITED:
        all_headers.setdefault("Retry-After", str(max(1, math.ceil(error.retry_after or 1))))
    if error.kind is Kind.TOO_LARGE:
        # The rest of the body is not read: the connection cannot serve another request.
        all_headers.setdefault("Connection", "close")
    if error.kind is Kind.UNAUTHENTICATED:
        all_headers.setdefault("WWW-Authenticate", "Bearer")
    return JsonResponse(content, status, all_headers, MEDIA_TYPE)


class ErrorHandlers:
    """What the application answers to exceptions; `debug` adds stack traces to the answers to unexpected ones."""

    def __init__(self, *, debug: bool) -> None:
        self._debug = debug
        self._log = structlog.stdlib.get_logger(__name__)

    async def agent_error(self, connection: HTTPConnection, error: Exception) -> Response | None:
        """Of the product's own errors."""
        assert isinstance(error, AgentError)
        if error.kind is Kind.INTERNAL:
            self._log.error("request failed", code=error.code, exc_info=error)
        trace = _trace(error) if self._debug and error.kind is Kind.INTERNAL else None
        return await self._answer(connection, error, trace=trace)

    async def malformed(self, connection: HTTPConnection, error: Exception) -> Response | None:
        """Of the framework's validation of a request."""
        assert isinstance(error, RequestValidationError)
        errors = error.errors()
        if errors and errors[0]["type"] == "json_invalid":
            return await self._answer(connection, _invalid_json(error.body, errors[0]["loc"][-1]))
        return await self._answer(connection, InvalidRequest(request_faults(errors, error.body)))

    async def refused(self, connection: HTTPConnection, error: Exception) -> Response | None:
        """Of the framework's own refusals, 404 and 405 above all. An `AgentError` that caused one is told instead."""
        assert isinstance(error, HTTPException)
        if isinstance(error.__cause__, AgentError):
            return await self.agent_error(connection, error.__cause__)
        path = connection.scope["path"]
        if error.status_code == 404 and error.detail == "Not Found":
            answer: AgentError = RouteUnknown(path=path)
        elif error.status_code == 405:
            answer = MethodNotAllowed(path=path, method=connection.scope.get("method", "GET"))
            return await self._answer(connection, answer, status=405, headers=_allowed(connection))
        else:
            answer = RequestRefused(detail=error.detail)
        return await self._answer(connection, answer, status=error.status_code, headers=error.headers)

    async def bad_cursor(self, connection: HTTPConnection, error: Exception) -> Response | None:
        """Of a list's cursor that cannot be decoded."""
        return await self._answer(connection, CursorInvalid())

    async def unexpected(self, connection: HTTPConnection, error: Exception) -> Response | None:
        """Of everything else: logged with its trace, told without."""
        self.report(connection.scope, error)
        return await self._answer(connection, AgentError(), trace=_trace(error) if self._debug else None)

    def report(self, scope: Scope, error: Exception) -> None:
        """Logs an error that nobody meant, with its trace."""
        self._log.error("request failed unexpectedly", path=scope["path"], exc_info=error)

    async def _answer(self, connection: HTTPConnection, error: AgentError, **options: Any) -> Response | None:
        if isinstance(connection, WebSocket):
            await connection.close(1011 if error.kind is Kind.INTERNAL else 1008, error.code)
            return None
        return problem_response(connection.scope, error, **options)


def install_errors(app: FastAPI, *, debug: bool) -> ErrorHandlers:
    """Makes `app` answer every exception with a problem document."""
    handlers = ErrorHandlers(debug=debug)
    for kind, handler in (
        (AgentError, handlers.agent_error),
        (RequestValidationError, handlers.malformed),
        (HTTPException, handlers.refused),
        (InvalidCursor, handlers.bad_cursor),
        (Exception, handlers.unexpected),
    ):
        # The framework's types know handlers of requests or of WebSockets, not of both.
        app.add_exception_handler(kind, cast(HTTPExceptionHandler, handler))
    return handlers


def _allowed(connection: HTTPConnection) -> dict[str, str]:
    """The header `Allow` with the methods of every route of the path; the framework knows those of the first.

    A route with a parameter where the path has a name of its own (`/sessions/{id}`, `/sessions/statistics`) is another.
    """
    found = [
        route for route in _routes(connection.app.routes) if route.matches({**connection.scope})[0] is not Match.NONE
    ]
    methods = {method for route in found if route.path == found[0].path for method in route.methods or ()}
    return {"Allow": ", ".join(sorted(methods))}


def _routes(routes: Iterable[BaseRoute]) -> Iterator[Route]:
    """The routes with methods among `routes`, and those of the routers among them."""
    for route in routes:
        if isinstance(route, Route):
            yield route
        else:
            yield from _routes(getattr(getattr(route, "original_router", None), "routes", ()))


def _invalid_json(document: object, position: object) -> InvalidJson:
    before = str(document)[: int(str(position))]
    return InvalidJson(line=before.count("\n") + 1, column=len(before) - before.rfind("\n"))


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))

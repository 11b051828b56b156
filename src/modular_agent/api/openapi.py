"""What `/openapi.json` says of the API."""

from collections import defaultdict
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute

from modular_agent.api.errors import status_of, title_of
from modular_agent.api.examples import with_examples
from modular_agent.api.problem import MEDIA_TYPE, Problem, problem_type
from modular_agent.errors import AgentError

__all__ = ["DESCRIPTION", "TAGS", "events_content", "install_openapi", "operation_id", "problems"]

DESCRIPTION: Final = """\
Runs AI-agent workflows in durable sessions, each with one sequenced event log.

* Times are RFC 3339 in UTC, durations are in seconds, money is in USD.
* Lists answer `{<items>, total, page, page_size, has_next, cursor}`; `cursor` may be given instead of `page`.
* Errors are `application/problem+json` (RFC 9457) with a stable `code`; `detail` follows `Accept-Language` (English, \
Chinese).
* `X-Request-ID` is accepted, returned, and part of every log line of the request.
"""

TAGS: Final[list[dict[str, Any]]] = [
    {"name": "sessions", "description": "Durable conversations and jobs: make, read, control, fork."},
    {
        "name": "runs",
        "description": "Executions in a session: start, wait for, stream, pause, step, resume, stop, retry.",
    },
    {"name": "workflows", "description": "Definitions and their versions: load, validate, write, draw, run."},
    {"name": "history", "description": "The log: messages, records, search, export, bookmarks."},
    {"name": "analytics", "description": "Performance, tokens, cost, errors and trends."},
    {"name": "errors", "description": "What went wrong, in groups."},
    {"name": "configuration", "description": "Models, agents and stored values."},
    {"name": "backups", "description": "Copies of everything, verified and restored."},
    {"name": "system", "description": "Health, readiness, version, metrics."},
]

_TYPICAL: Final = {
    400: "invalid_input",
    403: "foreign_origin",
    404: "session_not_found",
    409: "run_already_active",
    413: "body_too_large",
    422: "invalid_request",
    429: "too_many_requests",
    500: "internal_error",
    503: "server_stopping",
}


def events_content() -> dict[str, Any]:
    """The `content=` of an answer that is a stream of server-sent events; the schema is that of one event."""
    envelope = (
        '{"type":"session_update","session_id":"react-251022-174800-1f73e8","seq":1,'
        '"timestamp":"2025-10-22T17:48:00.000000Z","data":{"record_type":"run","status":"running"}}'
    )
    return {
        "text/event-stream": {
            "schema": {
                "type": "object",
                "properties": {
                    "id": {"type": "string", "description": "The `seq`; deltas have none."},
                    "event": {"type": "string", "description": "The type."},
                    "data": {"type": "string", "description": "The envelope, as for WebSockets, in JSON."},
                },
                "required": ["event", "data"],
            },
            "examples": {"one event": {"value": f"id: 1\nevent: session_update\ndata: {envelope}\n\n"}},
        }
    }


def problems(*errors: "int | type[AgentError]") -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route for these statuses or error classes, with an example of each.

    422 needs no mention: every route that takes anything has it.
    """
    examples: dict[int, dict[str, Any]] = defaultdict(dict)
    for error in errors:
        status = error if isinstance(error, int) else status_of(error)
        code, detail = _sample(error, status)
        examples[status][code] = {"value": _example(status, code, detail)}
    return {
        status: {
            "description": title_of(status),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": named}},
        }
        for status, named in examples.items()
    }


def operation_id(route: APIRoute) -> str:
    """The stable id of an operation, for generated clients: the name of its function."""
    return route.name


def install_openapi(app: FastAPI) -> None:
    """Gives `app` its schema, with problems."""
    app.description = app.description or DESCRIPTION
    app.openapi_tags = app.openapi_tags or TAGS
    original = app.openapi

    def openapi() -> dict[str, Any]:
        return _with_problems(original())

    app.openapi = openapi


def _with_problems(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema`, changed: it has the shape of problems, also in place of the framework's own for malformed requests."""
    model = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas: dict[str, Any] = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(model.pop("$defs", {}))
    schemas["Problem"] = model
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    malformed = problems(422)[422]
    for path in schema.get("paths", {}).values():
        for operation in path.values():
            if _is_the_framework_s(operation.get("responses", {}).get("422")):
                operation["responses"]["422"] = malformed
            with_examples(operation, schemas)
    return schema


def _is_the_framework_s(response: dict[str, Any] | None) -> bool:
    """Whether a route that takes something has declared no 422 of its own."""
    declared: Any = (response or {}).get("content", {}).get("application/json", {})
    return str(declared.get("schema", {}).get("$ref", "")).endswith("/HTTPValidationError")


def _sample(error: "int | type[AgentError]", status: int) -> tuple[str, str]:
    if isinstance(error, int):
        return _TYPICAL.get(error, "request_refused"), title_of(status)
    return error.code, error.english


def _example(status: int, code: str, detail: str) -> dict[str, Any]:
    example: dict[str, Any] = {
        "type": problem_type(code),
        "title": title_of(status),
        "status": status,
        "detail": detail,
        "instance": "/sessions/",
        "code": code,
        "request_id": "req_1f73e8c09ab45d1e22f0",
    }
    if status == 422:
        place = {"code": "out_of_range", "message": "must be at most 100", "path": "/query/page_size"}
        example["errors"] = [place]
    return example

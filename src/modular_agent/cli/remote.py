"""A server that owns the data path, asked over its API: for commands that write while it runs."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

import orjson

from modular_agent.cli.errors import ServerRefused, ServerUnreachable
from modular_agent.errors import Language

__all__ = ["RemoteServer"]

PATIENCE: Final = 30.0  # seconds
MAX_ANSWER: Final = 1 << 20  # bytes


class RemoteServer:
    """The API at `url`. Blocks."""

    def __init__(self, url: str, *, language: Language) -> None:
        self._url = url.rstrip("/")
        self._language = language
        self._opener = build_opener(ProxyHandler({}))  # what goes to this machine goes through no proxy

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer, a JSON object. Raises `ServerUnreachable`, and `ServerRefused` with what the server says."""
        headers = {"Content-Type": "application/json", "Accept-Language": self._language}
        data = None if body is None else orjson.dumps(body)
        try:
            request = Request(f"{self._url}{path}", data=data, headers=headers, method=method)  # noqa: S310 - as told
            with self._opener.open(request, timeout=PATIENCE) as answer:
                return orjson.loads(answer.read(MAX_ANSWER))
        except HTTPError as error:
            with error:
                raise _refusal(error) from None
        except (URLError, OSError, ValueError) as error:
            raise ServerUnreachable(url=self._url, reason=getattr(error, "reason", error)) from error


def _refusal(error: HTTPError) -> ServerRefused:
    try:
        problem: dict[str, Any] = orjson.loads(error.read(MAX_ANSWER))
    except orjson.JSONDecodeError:
        return ServerRefused(status=error.code, reason=error.reason)
    faults: list[dict[str, Any]] = problem.get("errors") or []
    places = "; ".join(f"{fault.get('path')}: {fault.get('message')}" for fault in faults)
    reason = " ".join(part for part in (str(problem.get("detail", error.reason)), places) if part)
    return ServerRefused(status=error.code, reason=reason)

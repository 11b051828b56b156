"""JSON answers without detours: orjson, or bytes that are JSON already."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

__all__ = ["JsonResponse", "dump"]


def dump(content: Any) -> bytes:  # any JSON value
    """`content` as JSON in UTF-8; keys that are not texts become texts, other types raise `TypeError`."""
    return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS)


class JsonResponse(Response):
    """An answer in JSON. `content` is any JSON value, or `bytes` that hold encoded JSON and are sent as they are."""

    media_type = "application/json"

    def __init__(
        self,
        content: Any = None,  # any JSON value
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> None:
        super().__init__(content, status_code, headers, media_type)

    def render(self, content: Any) -> bytes:
        return content if isinstance(content, bytes) else dump(content)

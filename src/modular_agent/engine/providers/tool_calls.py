"""Putting together tool calls that stream in pieces, as the many servers of OpenAI's format really send them."""

from collections.abc import Sequence
from typing import Any, cast

import orjson

from modular_agent.engine.providers.messages import fresh_call_id, used_call_ids
from modular_agent.engine.providers.port import Message, ToolCall

__all__ = ["ToolCallAssembler"]


class _Parts:
    __slots__ = ("arguments", "extra", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []
        self.extra: dict[str, Any] = {}  # opaque JSON of the provider


class ToolCallAssembler:
    """Collects the pieces of parallel tool calls.

    A piece belongs to the call at its `index`; without one, to the call with its `id`, else to the last. A new `id`
    together with a name at an index already taken starts a new call (servers that number every call 0), but a new `id`
    alone does not (servers that make up an id for every piece).
    """

    __slots__ = ("_at", "_calls")

    def __init__(self) -> None:
        self._calls: list[_Parts] = []
        self._at: dict[int, _Parts] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, pieces: Sequence[Any]) -> None:
        """Takes the `tool_calls` of one chunk, or of a whole message."""
        for piece in pieces:
            if isinstance(piece, dict):
                self._add(cast("dict[str, Any]", piece))

    def finish(self, messages: Sequence[Message]) -> list[ToolCall]:
        """The calls in the order in which they began; ids that are missing or taken in `messages` are made anew."""
        used = used_call_ids(messages)
        calls: list[ToolCall] = []
        for parts in self._calls:
            arguments = "".join(parts.arguments).strip() or "{}"
            call: ToolCall = {
                "id": fresh_call_id(parts.id, used),
                "type": "function",
                "function": {"name": parts.name, "arguments": arguments},
            }
            if parts.extra:
                call["extra_content"] = parts.extra
            calls.append(call)
        return calls

    def _add(self, piece: dict[str, Any]) -> None:
        function = cast("dict[str, Any]", piece.get("function") or {})
        call_id, name = str(piece.get("id") or ""), str(function.get("name") or "")
        parts = self._find(piece.get("index"), call_id, name)
        if not parts.id:
            parts.id = call_id
        if not parts.name:
            parts.name = name
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            parts.arguments.append(arguments)
        elif arguments is not None:  # an object, where the format wants text
            parts.arguments.append(orjson.dumps(arguments).decode())
        extra = piece.get("extra_content")
        if isinstance(extra, dict):
            parts.extra.update(cast("dict[str, Any]", extra))

    def _find(self, index: object, call_id: str, name: str) -> _Parts:
        found: _Parts | None = None
        if isinstance(index, int):
            found = self._at.get(index)
        elif call_id:
            found = next((parts for parts in self._calls if parts.id == call_id), None)
            if found is None and not name and self._calls:
                found = self._calls[-1]
        elif not name and self._calls:
            found = self._calls[-1]
        starts_anew = found is not None and name and call_id and found.id and call_id != found.id
        if found is None or starts_anew:
            found = _Parts()
            self._calls.append(found)
            if isinstance(index, int):
                self._at[index] = found
        return found

"""Questions to a person from inside a node. Code before a question runs again when the answer comes."""

from collections.abc import Mapping
from typing import Any

from langgraph.types import interrupt

from modular_agent.engine.nodes.visit import Visit
from modular_agent.engine.questions import OURS

__all__ = ["ask", "object_form"]


def ask(
    visit: Visit, kind: str, *, form: Mapping[str, Any] | None = None, due_at: int | None = None, **question: Any
) -> Any:
    """Pauses the run with a question until it is answered; answers what the person said (JSON).

    `form` is a JSON Schema of the answer; `due_at` in µs is when it is answered by itself.
    """
    value: dict[str, Any] = {OURS: True, "kind": kind, "node": visit.node, **question}
    if form is not None:
        value["form"] = dict(form)
    if due_at is not None:
        value["due_at"] = due_at
    return interrupt(value)


def object_form(properties: Mapping[str, Any], *, required: tuple[str, ...] | None = None) -> dict[str, Any]:
    """A JSON Schema of an object with these fields and no others; all are required unless `required` says which."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties if required is None else required),
        "additionalProperties": False,
    }

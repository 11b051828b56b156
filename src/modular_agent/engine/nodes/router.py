"""`router`: decides for one of several named choices, by rules, then by asking a model."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from modular_agent.engine.errors import OutputInvalid
from modular_agent.engine.expressions import Condition
from modular_agent.engine.nodes.conversation import message_record, text_of
from modular_agent.engine.nodes.llm import Llm
from modular_agent.engine.nodes.reading import evaluate
from modular_agent.engine.nodes.visit import Updates, Visit
from modular_agent.kit.dataclass import dataclass

__all__ = ["DEFAULT_KEY", "Router", "choice_schema"]

DEFAULT_KEY: Final = "route"


def choice_schema(choices: Mapping[str, str]) -> dict[str, Any]:
    """The JSON Schema of a model's decision."""
    listed = "; ".join(f"{name}: {text}" if text else name for name, text in choices.items())
    choice = {"type": "string", "enum": list(choices), "description": listed}
    return {"type": "object", "properties": {"choice": choice}, "required": ["choice"], "additionalProperties": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """The body of a `router` node; `llm` is None where rules and the default decide alone."""

    rules: Sequence[tuple[Condition, str]]
    choices: frozenset[str]
    default: str | None
    llm: Llm | None
    writes: str

    async def __call__(self, visit: Visit) -> Updates:
        for condition, choice in self.rules:
            if evaluate(visit, condition):
                return {self.writes: choice}
        if self.llm is None:
            return {self.writes: self._known(visit, None)}
        updates, message = await self.llm.ask(visit)
        visit.facts.records.append(message_record(message, visit.context.key.run_id, visit.node, in_conversation=False))
        return {**updates, self.writes: self._known(visit, _choice(text_of(message)))}

    def _known(self, visit: Visit, choice: str | None) -> str:
        if choice in self.choices:
            return str(choice)
        if self.default is not None:
            return self.default
        raise OutputInvalid(node=visit.node, reason=f"{choice!r} is none of the choices, and there is no default")


def _choice(text: str) -> str:
    """The choice in an answer: the JSON that was asked for, or the bare name."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text.strip().strip("\"'`.")
    return str(value.get("choice")) if isinstance(value, dict) else str(value)  # pyright: ignore[reportUnknownMemberType,reportUnknownArgumentType]

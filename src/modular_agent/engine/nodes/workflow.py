"""`workflow`: runs another workflow to its end, in a namespace of its own, with an input of its own."""

from collections.abc import Mapping
from typing import Any

import orjson

from modular_agent.engine.expressions import Expression
from modular_agent.engine.nodes.conversation import last_user_text, text_of, user_message
from modular_agent.engine.nodes.reading import evaluate, render
from modular_agent.engine.nodes.visit import PREFIX, Updates, Visit
from modular_agent.engine.prompts import Prompt
from modular_agent.engine.state import EXTRA
from modular_agent.kit.dataclass import dataclass

__all__ = ["Graph", "SubWorkflow", "as_text"]

Graph = Any  # a compiled LangGraph graph: its overloads are only partly typed


def as_text(value: Any) -> str:
    """A value as a message's text: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class SubWorkflow:
    """The body of a `workflow` node.

    `inputs` makes the sub-workflow's state; without, it gets the last user message, or the item of a map as one.
    `outputs` makes changes of this workflow's state; without, the last answer goes to `writes` or the conversation.
    """

    graph: Graph
    inputs: Mapping[str, Expression] | None
    outputs: Mapping[str, Expression] | None
    writes: str | None
    item: str | None = None
    question: Prompt | None = None

    async def __call__(self, visit: Visit) -> Updates:
        extra: dict[str, Any] = visit.sent or {}
        if self.inputs is not None:
            given: dict[str, Any] = {key: evaluate(visit, each) for key, each in self.inputs.items()}
            if isinstance(given.get("messages"), str):
                given["messages"] = [user_message(given["messages"])]
        else:
            given = {"messages": [user_message(self._question(visit, extra))]}
        if extra:
            given[EXTRA] = extra
        config = {**visit.config, "configurable": {**visit.config.get("configurable", {}), PREFIX: f"{visit.node}/"}}
        state: dict[str, Any] = await self.graph.ainvoke(
            given, config, context=visit.context, durability="sync", stream_mode="values"
        )
        return self._result(state)

    def _question(self, visit: Visit, extra: Mapping[str, Any]) -> str:
        """What the sub-workflow is asked when the file does not say what its state is."""
        if self.question is not None:
            return render(visit, self.question)
        return (
            as_text(extra[self.item]) if self.item is not None and self.item in extra else last_user_text(visit.state)
        )

    def _result(self, state: Mapping[str, Any]) -> Updates:
        if self.outputs is not None:
            return {key: each.evaluate(state) for key, each in self.outputs.items()}
        messages: list[Any] = state.get("messages") or []
        answer = text_of(messages[-1] if messages else None)
        if self.writes and self.writes != "messages":
            return {self.writes: answer}
        return {"messages": [{"role": "assistant", "content": answer}]}

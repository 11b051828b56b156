"""`agent`: a model and its tools in a loop. It is compiled to two nodes, `name` (this) and `name.tools`."""

from typing import Any

from modular_agent.engine.errors import IterationLimitReached
from modular_agent.engine.nodes.conversation import text_of, user_message
from modular_agent.engine.nodes.llm import Llm
from modular_agent.engine.nodes.reading import render
from modular_agent.engine.nodes.visit import Updates, Visit
from modular_agent.engine.prompts import Prompt
from modular_agent.kit.dataclass import dataclass

__all__ = ["AgentTurn", "count_key"]


def count_key(name: str) -> str:
    """The hidden state key that counts an agent's model calls in one visit: [run id, count]."""
    return f"__count.{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTurn:
    """One model call of an agent's loop. `question` opens the loop; `writes` takes the text of the last answer."""

    name: str
    llm: Llm
    question: Prompt | None
    max_iterations: int
    writes: str | None

    async def __call__(self, visit: Visit) -> Updates:
        key = count_key(self.name)
        run_id = visit.context.key.run_id
        counted: list[Any] = visit.state.get(key) or ["", 0]
        count = int(counted[1]) + 1 if counted[0] == run_id else 1  # a run that failed or was stopped left its count
        if count > self.max_iterations:
            raise IterationLimitReached(limit="max_iterations", maximum=self.max_iterations, used=count - 1)
        asked = [user_message(render(visit, self.question))] if self.question and count == 1 else []
        updates, message = await self.llm.ask(visit, asked=asked)
        updates.setdefault("messages", []).append(message)
        goes_on = bool(message.get("tool_calls"))
        updates[key] = [run_id, count if goes_on else 0]
        if not goes_on and self.writes and self.writes != "messages":
            updates[self.writes] = text_of(message)
        return updates

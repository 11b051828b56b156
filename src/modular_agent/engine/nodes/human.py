"""`human`: waits for a person's answer."""

from modular_agent.engine.nodes.asking import ask, object_form
from modular_agent.engine.nodes.conversation import user_message
from modular_agent.engine.nodes.reading import render
from modular_agent.engine.nodes.visit import Body, Updates, Visit
from modular_agent.engine.prompts import Prompt
from modular_agent.engine.spec.model import HumanNode
from modular_agent.kit.clock import MICROSECONDS

__all__ = ["human"]


def human(spec: HumanNode, question: Prompt, *, writes: str | None) -> Body:
    """The body of a `human` node; the answer goes to `writes`, or, as text, to the conversation."""
    form = object_form(spec.form, required=spec.required) if spec.form else {"type": "string", "minLength": 1}

    async def body(visit: Visit) -> Updates:
        context = visit.context
        now = context.clock.now_us()
        due = now + int(spec.answer_within * MICROSECONDS) if spec.answer_within else None
        more = {"default_answer": spec.default_answer} if due is not None else {}
        text = render(visit, question)
        answer = ask(visit, "question", form=form, due_at=due, text=text, **more)
        if writes:
            return {writes: answer}
        if isinstance(answer, str):
            return {"messages": [user_message(answer)]}
        return dict(answer)  # the form's fields are keys of the state

    return body

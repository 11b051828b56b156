"""Questions to people: what an interrupt of the graph becomes in the log and in the table of open questions."""

import hashlib
from typing import Any, Final, cast

import orjson
from langgraph.types import Interrupt

from modular_agent.engine.store import Question
from modular_agent.events import Record, RecordType

__all__ = ["OURS", "interrupt_id", "question_of", "question_record"]

OURS: Final = "__modular_agent"  # in the value of an interrupt: it is a question of one of our own nodes
_NOT_TEXT: Final = frozenset({OURS, "node", "kind", "form", "due_at"})


def interrupt_id(run_id: str, graph_id: str) -> str:
    """The id of a question: the same for the same question of a run."""
    return f"int_{hashlib.sha256(f'{run_id}/{graph_id}'.encode()).hexdigest()[:20]}"


def question_of(interrupt: Interrupt, run_id: str, *, node: str) -> Question:
    """The question of an interrupt; `node` is the one that asks where the interrupt is not ours and does not say so.

    A user's graph may interrupt with anything: it is asked as it is, with the schema it wants the answer to fit.
    """
    raised: Any = interrupt.value
    value: dict[str, Any]
    if isinstance(raised, dict) and OURS in raised:
        value = cast("dict[str, Any]", raised)
    else:
        value = {"node": node, "value": _as_json(raised), "form": cast("Any", interrupt).response_schema}
    return Question(
        interrupt_id=interrupt_id(run_id, interrupt.id),
        graph_id=interrupt.id,
        node=str(value.get("node", "")),
        kind=str(value.get("kind", "question")),
        question={key: item for key, item in value.items() if key not in _NOT_TEXT},
        form=value.get("form"),
        due_at=value.get("due_at"),
    )


def question_record(question: Question, run_id: str) -> Record:
    """The `interrupt` record of a question that is asked."""
    return Record(
        record_type=RecordType.INTERRUPT,
        run_id=run_id,
        node=question.node,
        fields={
            "interrupt_id": question.interrupt_id,
            "kind": question.kind,
            "phase": "asked",
            "question": question.question,
            "form": question.form,
            "due_at": question.due_at,
        },
    )


def _as_json(value: Any) -> Any:
    """What a user's graph asks with, as JSON: models as objects, anything unknown as text."""
    dump: Any = getattr(value, "model_dump", None)
    encoded = orjson.dumps(dump() if dump is not None else value, default=str, option=orjson.OPT_NON_STR_KEYS)
    return orjson.loads(encoded)

"""`llm`, and the model's part of `agent` and `router`: one call of a language model over the conversation."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import lru_cache
from typing import Any, cast

import orjson
from jsonschema.exceptions import ValidationError
from jsonschema.validators import Draft202012Validator

from modular_agent.engine.errors import OutputInvalid
from modular_agent.engine.models import ModelDirectory, request_parameters
from modular_agent.engine.nodes.conversation import message_record, text_of, user_message
from modular_agent.engine.nodes.model_call import Conversation, call_model
from modular_agent.engine.nodes.reading import render
from modular_agent.engine.nodes.visit import Updates, Visit
from modular_agent.engine.pairing import WHOLE, paired
from modular_agent.engine.prompts import Prompt
from modular_agent.engine.providers.port import Message, ToolSchema
from modular_agent.engine.providers.tokens import estimate_messages
from modular_agent.engine.state import PROMPTS
from modular_agent.engine.store import InboxMessage
from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.ids import new_id

__all__ = ["Llm", "parse_output"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Llm:
    """The body of an `llm` node.

    `question` takes the place of the conversation. `output` is the JSON Schema of the answer. `writes` is the state
    key of the result; the conversation if None. `schemas` are the tools the model is told of.
    """

    models: ModelDirectory
    model: str | None
    prompt: Prompt | None
    question: Prompt | None
    schemas: Sequence[ToolSchema] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    output: Mapping[str, Any] | None = None
    writes: str | None = None

    async def __call__(self, visit: Visit) -> Updates:
        updates, message = await self.ask(visit)
        in_conversation = self.writes in {None, "messages"}
        if in_conversation or message.get("tool_calls"):
            updates.setdefault("messages", []).append(message)
        else:
            visit.facts.records.append(
                message_record(message, visit.context.key.run_id, visit.node, in_conversation=False)
            )
        if self.output is not None and not message.get("tool_calls"):
            value: Any = parse_output(text_of(message), self.output, node=visit.node)
        else:
            value = text_of(message)
        if not in_conversation and not message.get("tool_calls"):
            updates[str(self.writes)] = value
        return updates

    async def ask(self, visit: Visit, *, asked: Sequence[Message] = ()) -> tuple[Updates, Message]:
        """Calls the model; answers what to write besides its message, and the message.

        `asked` are messages that become part of the conversation with this call.
        """
        context = visit.context
        overrides = context.overrides
        updates: Updates = {}
        system = self._system(visit, updates)
        taken = await self._taken(visit)
        messages = self._messages(visit, updates, [*map(_said, taken), *asked])
        parameters = request_parameters(self.parameters, overrides)
        if self.output is not None:
            parameters["response_schema"] = self.output
        references = _references(system, messages)
        reading = context.conversations.readings.of(messages)
        if reading.pairing != WHOLE:
            messages, references = paired(messages), {**references, "mended": True}
            reading = context.conversations.readings.of(messages)
        conversation = Conversation(
            messages=[system, *messages] if system else messages,
            references=references,
            tokens=reading.tokens + estimate_messages([system] if system else ()),
        )
        inbox_ids = [each.inbox_id for each in taken]
        try:
            message = await call_model(
                visit,
                self.models.chain(self.model, overrides),
                conversation,
                tools=self.schemas,
                parameters=parameters,
            )
        except BaseException:  # also the question whether the call may be made
            context.inbox.put_back(inbox_ids)
            raise
        if inbox_ids:
            visit.facts.inbox_taken += inbox_ids
        return updates, message

    async def _taken(self, visit: Visit) -> Sequence[InboxMessage]:
        """What a person injected: it becomes part of the conversation with this call, unless the call has none."""
        return () if self.question is not None else await visit.context.inbox.take()

    def _messages(self, visit: Visit, updates: Updates, asked: Sequence[Message]) -> Sequence[Message]:
        """What is sent after the system prompt."""
        context = visit.context
        if self.question is not None:
            question = user_message(render(visit, self.question))
            context.emit(message_record(question, context.key.run_id, visit.node, in_conversation=False))
            return [question]
        messages: list[Message] = visit.state.get("messages") or []
        if asked:
            updates["messages"] = list(asked)
            return [*messages, *asked]
        return messages

    def _system(self, visit: Visit, updates: Updates) -> Message | None:
        """The system prompt; logged only where it differs from the one this node sent last."""
        context = visit.context
        override: str | None = context.overrides.get("prompt")
        if override is not None:
            text = override
        elif self.prompt is not None:
            text = render(visit, self.prompt)
        else:
            return None
        digest = _digest(text)
        logged: dict[str, tuple[str, str]] = {**(visit.state.get(PROMPTS) or {}), **context.prompts}
        if visit.node in logged and logged[visit.node][0] == digest:
            return {"role": "system", "content": text, "id": logged[visit.node][1]}
        message: Message = {"role": "system", "content": text, "id": new_id("rec")}
        context.prompts[visit.node] = (digest, message["id"])
        updates[PROMPTS] = {visit.node: [digest, message["id"]]}
        context.emit(message_record(message, context.key.run_id, visit.node, in_conversation=False))
        return message


@lru_cache(maxsize=64)
def _digest(text: str) -> str:
    """Cached because the prompt of a node is mostly the same text at each of its calls."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _said(injected: InboxMessage) -> Message:
    return {**injected.message, "id": new_id("rec")}  # type: ignore[typeddict-item]


def _references(system: Message | None, messages: Sequence[Message]) -> dict[str, Any]:
    """Which records make up a request: the ends of a run of messages, so that it does not grow with their number."""
    return {
        "system_record_id": system.get("id") if system else None,
        "first_record_id": messages[0].get("id") if messages else None,
        "last_record_id": messages[-1].get("id") if messages else None,
        "count": len(messages),
    }


def parse_output(text: str, schema: Mapping[str, Any], *, node: str) -> Any:
    """The JSON value in a model's answer (a fence around it is allowed). Raises `OutputInvalid`."""
    stripped = text.strip()
    if stripped.startswith("```"):
        stripped = stripped.split("\n", 1)[-1].rsplit("```", 1)[0]
    try:
        value = orjson.loads(stripped)
        cast("Any", Draft202012Validator(dict(schema))).validate(value)  # its methods are only partly typed
    except orjson.JSONDecodeError as error:
        raise OutputInvalid(node=node, reason=f"the answer is not JSON: {error}") from error
    except ValidationError as error:
        place = ".".join(str(part) for part in error.absolute_path) or "the answer"
        raise OutputInvalid(node=node, reason=f"{place}: {error.message[:300]}") from error
    return value

"""`tools`: runs one call of a model. Every call of a message is a task of its own, so a finished one is never repeated.

The order inside one call: approval, then the intent in the ledger, then the effect, then its result with the task's
writes. After a crash the call starts at its top, and the ledger decides whether it may run again.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, Literal

import orjson

from modular_agent.engine.expressions import Condition
from modular_agent.engine.nodes.asking import ask, object_form
from modular_agent.engine.nodes.reading import evaluate
from modular_agent.engine.nodes.visit import Updates, Visit
from modular_agent.engine.providers.port import Message, ToolCall
from modular_agent.engine.spec.model import RetrySpec
from modular_agent.engine.store import EffectIntent, EffectResult, EffectState
from modular_agent.engine.tools.arguments import parse_arguments
from modular_agent.engine.tools.port import Effect, Tool, ToolContext, ToolOutcome
from modular_agent.events import Record, RecordType
from modular_agent.kit.clock import MICROSECONDS
from modular_agent.kit.dataclass import dataclass

__all__ = ["Approval", "ToolCalls"]

Approval = Literal["always", "never"] | Condition

APPROVAL_FORM: Final = object_form(
    {"approve": {"type": "boolean"}, "reason": {"type": "string"}, "arguments": {"type": "object"}},
    required=("approve",),
)
EFFECT_FORM: Final = object_form(
    {"outcome": {"enum": ["done", "not_done", "run_again"]}, "result": {"type": "string"}}, required=("outcome",)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCalls:
    """The body of a `tools` node: `tools` by the name the model knows, with the approval each needs."""

    tools: Mapping[str, Tool]
    approvals: Mapping[str, Approval]
    retry: RetrySpec

    async def __call__(self, visit: Visit) -> Updates:
        if not visit.sent:  # the node was entered without a call to run
            return {}
        call: ToolCall = visit.sent["call"]
        outcome = await self._outcome(visit, call)
        message: Message = {
            "role": "tool",
            "content": outcome.content,
            "tool_call_id": call["id"],
            "name": call["function"]["name"],
        }
        return {"messages": [message]}

    async def _outcome(self, visit: Visit, call: ToolCall) -> ToolOutcome:
        name = call["function"]["name"]
        tool = self.tools.get(name)
        if tool is None:
            known = ", ".join(sorted(self.tools)) or "none"
            return self._refused(visit, call, f"There is no tool {name!r}. Tools: {known}.", "UnknownTool")
        arguments = parse_arguments(call["function"]["arguments"])
        if isinstance(arguments, ToolOutcome):
            return self._refused(visit, call, arguments.content, arguments.error_type)
        if self._needs_approval(name, visit, arguments):
            answer = ask(
                visit, "approval", form=APPROVAL_FORM, tool_name=name, tool_input=arguments, tool_call_id=call["id"]
            )
            if not answer.get("approve"):
                reason = answer.get("reason") or "no reason given"
                return self._refused(visit, call, f"A person did not approve this call: {reason}", "NotApproved")
            arguments = answer.get("arguments", arguments)
        return await self._within_ledger(visit, call, tool, arguments)

    def _needs_approval(self, name: str, visit: Visit, arguments: Mapping[str, Any]) -> bool:
        approval = self.approvals.get(name, "never")
        if isinstance(approval, str):
            return approval == "always"
        return bool(evaluate(visit, approval, input=arguments))

    def _refused(self, visit: Visit, call: ToolCall, text: str, error_type: str | None) -> ToolOutcome:
        """A call that never ran: the model is told why, and the log too."""
        outcome = ToolOutcome(content=text, success=False, error_type=error_type)
        visit.facts.records.append(_result_record(visit, call, None, call["function"]["arguments"], outcome, 0.0))
        return outcome

    async def _within_ledger(
        self, visit: Visit, call: ToolCall, tool: Tool, arguments: Mapping[str, Any]
    ) -> ToolOutcome:
        context, effect = visit.context, tool.effect
        intent = EffectIntent(
            tool_call_id=call["id"],
            node=visit.node,
            tool_name=call["function"]["name"],
            effect=effect,
            idempotency_key=_idempotency_key(context.key.session.session_id, call["id"]),
        )
        record = _intent_record(visit, call, tool, arguments)
        if effect is not Effect.IRREVERSIBLE:
            context.emit(record, intents=[intent])
            if effect is Effect.IDEMPOTENT:  # called again after a crash it must get the same key: the call is kept
                await context.binding.durable()
            return await self._run(visit, call, tool, arguments, intent)
        context.binding.flush()
        known = await context.store.intend(context.key, intent, record)
        if known is None:
            return await self._run(visit, call, tool, arguments, intent)
        return await self._recovered(visit, call, tool, arguments, intent, known)

    async def _recovered(
        self,
        visit: Visit,
        call: ToolCall,
        tool: Tool,
        arguments: Mapping[str, Any],
        intent: EffectIntent,
        known: EffectState,
    ) -> ToolOutcome:
        """Decides about an irreversible call whose intent is in the ledger from before a crash or a stop.

        Every attempt whose end nobody knows is a question of its own: an answer counts for one attempt.
        """
        if known.result is not None:
            return ToolOutcome(**orjson.loads(known.result))
        for _ in range(known.attempts):
            answer = ask(
                visit,
                "effect",
                form=EFFECT_FORM,
                tool_name=intent.tool_name,
                tool_input=dict(arguments),
                tool_call_id=call["id"],
                text=f"It is not known whether {intent.tool_name} has run. Was it done?",
            )
            if answer["outcome"] != "run_again":
                return self._decided(visit, call, tool, arguments, intent, answer)
        visit.context.binding.flush()
        await visit.context.store.repeat(visit.context.key, intent, _intent_record(visit, call, tool, arguments))
        return await self._run(visit, call, tool, arguments, intent)

    def _decided(
        self,
        visit: Visit,
        call: ToolCall,
        tool: Tool,
        arguments: Mapping[str, Any],
        intent: EffectIntent,
        answer: Mapping[str, Any],
    ) -> ToolOutcome:
        """What a person says of a call takes the place of its result."""
        done = answer["outcome"] == "done"
        text = answer.get("result") or ("The call was done; its result was lost." if done else "The call was not done.")
        outcome = ToolOutcome(content=text, success=done, error_type=None if done else "NotDone")
        self._settle(visit, call, tool, arguments, outcome, intent, 0.0, "done" if done else "not_done")
        return outcome

    async def _run(
        self, visit: Visit, call: ToolCall, tool: Tool, arguments: Mapping[str, Any], intent: EffectIntent
    ) -> ToolOutcome:
        context = visit.context
        handed = ToolContext(
            session_id=context.key.session.session_id,
            run_id=context.key.run_id,
            tool_call_id=call["id"],
            idempotency_key=intent.idempotency_key,
            files=context.files,
            log=lambda level, message: context.emit(_log_record(visit, intent.tool_name, level, message)),
        )
        started = context.clock.monotonic()
        outcome, attempt = await tool.call(arguments, handed), 1
        while not outcome.success and _may_repeat(tool, outcome) and attempt < self.retry.max_attempts:
            await asyncio.sleep(min(self.retry.backoff * 2 ** (attempt - 1), self.retry.max_backoff))
            outcome, attempt = await tool.call(arguments, handed), attempt + 1
        duration = context.clock.monotonic() - started
        status = "done" if outcome.success else "failed"
        self._settle(visit, call, tool, arguments, outcome, intent, duration, status)
        return outcome

    def _settle(
        self,
        visit: Visit,
        call: ToolCall,
        tool: Tool,
        arguments: Mapping[str, Any],
        outcome: ToolOutcome,
        intent: EffectIntent,
        duration: float,
        status: Literal["done", "failed", "not_done"],
    ) -> None:
        """Puts the result into the facts that are committed with the task."""
        result = {"content": outcome.content, "success": outcome.success, "error_type": outcome.error_type}
        began_at = visit.context.clock.now_us() - int(duration * MICROSECONDS)
        text = orjson.dumps(result).decode()
        facts = visit.facts
        facts.effects.append(EffectResult(intent=intent, began_at=began_at, status=status, result=text))
        facts.records.append(_result_record(visit, call, tool, arguments, outcome, duration))


def _may_repeat(tool: Tool, outcome: ToolOutcome) -> bool:
    return tool.effect is not Effect.IRREVERSIBLE and outcome.error_type not in {None, "InvalidArguments"}


def _idempotency_key(session_id: str, tool_call_id: str) -> str:
    return hashlib.sha256(f"{session_id}\n{tool_call_id}".encode()).hexdigest()[:32]


def _intent_record(visit: Visit, call: ToolCall, tool: Tool, arguments: Mapping[str, Any]) -> Record:
    return visit.context.record(
        RecordType.TOOL_CALL,
        visit.node,
        tool_call_id=call["id"],
        tool_name=call["function"]["name"],
        tool_input=_json(arguments),
        tool_output=None,
        success=None,
        execution_time=None,
        effect=tool.effect,
        phase="intent",
    )


def _result_record(
    visit: Visit, call: ToolCall, tool: Tool | None, arguments: object, outcome: ToolOutcome, duration: float
) -> Record:
    return visit.context.record(
        RecordType.TOOL_CALL,
        visit.node,
        tool_call_id=call["id"],
        tool_name=call["function"]["name"],
        tool_input=_json(arguments),
        tool_output=outcome.content,
        success=outcome.success,
        execution_time=round(duration, 6),
        effect=tool.effect if tool else None,
        phase="result",
        **({"error_type": outcome.error_type, "stack_trace": outcome.stack_trace} if outcome.error_type else {}),
    )


def _log_record(visit: Visit, tool_name: str, level: str, message: str) -> Record:
    return visit.context.record(RecordType.LOG, visit.node, level=level, message=message, logger=tool_name)


def _json(arguments: object) -> Any:
    """Arguments as JSON that the log can hold: integers beyond 64 bits become text."""
    try:
        orjson.dumps(arguments)
    except (TypeError, ValueError):
        return json.loads(
            json.dumps(arguments, default=str), parse_int=lambda text: int(text) if len(text) < 16 else text
        )
    return arguments

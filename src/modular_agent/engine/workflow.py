"""A workflow version ready to run: its file, its graph, and what its state looks like from outside."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from jsonschema.validators import Draft202012Validator
from langgraph.types import Overwrite

from modular_agent.engine.channels import LogRef
from modular_agent.engine.checkpoints import Saver
from modular_agent.engine.errors import StateInvalid
from modular_agent.engine.graph_plan import GraphPlan
from modular_agent.engine.nodes.conversation import normalised, open_tool_calls, public, text_of
from modular_agent.engine.nodes.workflow import Graph
from modular_agent.engine.pairing import NO_RESULT
from modular_agent.engine.schema_faults import schema_faults
from modular_agent.engine.spec.loader import LoadedWorkflow
from modular_agent.engine.spec.model import WorkflowSpec
from modular_agent.engine.state import EXTRA, StateShape, opened
from modular_agent.errors import Fault, Text
from modular_agent.events import SessionRef
from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.ids import new_id

__all__ = ["LOGGED", "Workflow"]

LOGGED: Final = "__logged"  # in a message of a run's stored input: its record is in the log already
_REPLACES: Final = "__replaces"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A compiled workflow version. Safe to run many times at once."""

    loaded: LoadedWorkflow
    plan: GraphPlan
    shape: StateShape

    @property
    def graph(self) -> Graph:
        return self.plan.graph

    @property
    def name(self) -> str:
        return self.loaded.spec.name

    @property
    def spec(self) -> WorkflowSpec:
        return self.loaded.spec

    def check_state(self, state: Mapping[str, Any], *, path: str = "initial_state") -> None:
        """Raises `StateInvalid` with every fault, unless `state` (a part of one) fits the workflow."""
        faults = [
            _unknown_key(
                f"{path}.{key}", Text(f"the workflow's state has no key {key!r}", f"工作流的状态没有键 {key!r}")
            )
            for key in state
            if (key.startswith("__") or (not self.shape.open and key not in self.shape.keys))
        ]
        schema = {key: value for key, value in self.spec.state.schema_.items() if key != "required"}
        undeclared = {"messages"} - set(schema.get("properties", ()))  # every workflow has them all the same
        written = {key: value for key, value in state.items() if key not in undeclared}
        faults += schema_faults(_validator(schema), written, code="state_value", path=path)
        if faults:
            raise StateInvalid(faults)

    def writes(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """A state from outside as writes that replace what the keys hold."""
        written = self.shape.writable(state)
        if isinstance(written, str):
            raise StateInvalid([_unknown_key(written, Text(f"no key {written!r}", f"没有键 {written!r}"))])
        if "messages" in written:
            written["messages"] = normalised(written["messages"], node="input")
        return {key: Overwrite(value) if not key.startswith("__") else value for key, value in written.items()}

    async def state(self, saver: Saver, session: SessionRef, *, checkpoint_id: str | None = None) -> dict[str, Any]:
        """The session's state as it stands: its newest (or the given) checkpoint with what finished tasks wrote."""
        values, unapplied = await saver.standing(session, checkpoint_id)
        state = dict(values)
        for key, value in unapplied:
            if key in self.shape.keys:
                state[key] = self._applied(key, state, value)
        return public(opened(state))

    def _applied(self, key: str, state: Mapping[str, Any], value: Any) -> Any:
        channel = self.shape.channel(key)
        if key in state:
            held = state[key]
            channel = channel.from_checkpoint(LogRef((), held) if self.shape.is_log(key) else held)
        channel.update([value])
        return channel.get()

    def graph_input(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What the graph starts with, from its JSON form."""
        written = self.shape.writable({key: _from_json(value) for key, value in given.items()})
        assert not isinstance(written, str)  # checked when it was stored
        if "messages" in written:
            written["messages"] = [{k: v for k, v in m.items() if k != LOGGED} for m in written["messages"]]
        return written or {EXTRA: {}}

    async def unfinished(self, saver: Saver, session: SessionRef) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """What a new run has to carry over from one that was stopped or failed.

        The messages (with those that answer tool calls nobody will answer any more) and the other keys that finished
        tasks wrote, but that no step has taken up; all as JSON. Messages that are in the log already are marked.
        """
        values, unapplied = await saver.standing(session, None)
        written = [(key, value) for key, value in unapplied if key in self.shape.keys]
        messages: list[dict[str, Any]] = []
        for key, value in written:
            if key == "messages" and isinstance(value, list):  # an edit that was not taken up is dropped
                messages += [{**message, LOGGED: True} for message in cast("list[dict[str, Any]]", value)]
        others = {key: _to_json(value) for key, value in written if key != "messages"}
        calls = open_tool_calls({"messages": [*(values.get("messages") or []), *messages]})
        return [*messages, *(_interrupted(call["id"], call["function"]["name"]) for call in calls)], others

    async def result(self, saver: Saver, session: SessionRef) -> dict[str, Any]:
        """The text of the last answer, and the state without the conversation."""
        return self.result_of(await self.state(saver, session))

    def result_of(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The same, from the channels' values or the state."""
        state = public(opened(state))
        messages: Sequence[Mapping[str, Any]] = state.pop("messages", None) or []
        answer = next((text_of(m) for m in reversed(messages) if m["role"] == "assistant"), None)
        return {"output": answer, "state": state}


def _to_json(value: Any) -> Any:
    return {_REPLACES: value.value} if isinstance(value, Overwrite) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict) and _REPLACES in value:
        return Overwrite(cast("dict[str, Any]", value)[_REPLACES])
    return cast("Any", value)


def _interrupted(tool_call_id: str, name: str) -> dict[str, Any]:
    """What a model is told of a call that a stop or failure ended."""
    return {
        "role": "tool",
        "content": NO_RESULT,
        "tool_call_id": tool_call_id,
        "name": name,
        "id": new_id("rec"),
    }


def _unknown_key(path: str, text: Text) -> Fault:
    return Fault(code="unknown_state_key", text=text, path=path)


def _validator(schema: Mapping[str, Any]) -> Any:  # its methods are only partly typed
    return Draft202012Validator(dict(schema))

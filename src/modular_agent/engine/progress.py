"""How far a run has come: derived from its `step` records alone, live and after a restart alike."""

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any, Final

from modular_agent.kit.dataclass import dataclass

__all__ = ["PATH_TAIL", "Progress"]

PATH_TAIL: Final = 20  # nodes of the path that a step record repeats


@dataclass(slots=True)
class Progress:
    """The path, the node states and the current node of a run.

    A step is one execution of a node between two checkpoints; several tasks of one node in the same step (one per tool
    call, one per item) are one entry of the path, and a step that runs again after a crash is not a second one.
    """

    path: list[str] = field(default_factory=list[str])
    node_states: dict[str, str] = field(default_factory=dict[str, str])
    current_node: str | None = None
    steps: int = 0
    _step_id: str | None = None
    _entered: set[str] = field(default_factory=set[str])

    def start(self, node: str, *, step_id: str, visible: bool) -> dict[str, Any]:
        """Notes that a task of `node` starts after checkpoint `step_id`; answers the fields of its record."""
        if step_id != self._step_id:
            self._step_id = step_id
            self._entered.clear()
            self.steps += 1
        if visible and node not in self._entered:
            self.path.append(node)
        self._entered.add(node)
        self.current_node = node
        self.node_states[node] = "running"
        return {"phase": "start", "step_id": step_id, "visible": visible, **self.view()}

    def end(self, node: str, *, status: str) -> dict[str, Any]:
        """Notes how a task of `node` ended; answers the fields of its record."""
        self.node_states[node] = status
        return {"phase": "end", "status": status, **self.view()}

    def view(self) -> dict[str, Any]:
        """The bounded part of the progress that a record carries."""
        return {
            "step": self.steps,
            "current_node": self.current_node,
            "node_states": dict(self.node_states),
            "execution_path": self.path[-PATH_TAIL:],
            "path_length": len(self.path),
        }

    @classmethod
    def replay(cls, records: Iterable[Mapping[str, Any]]) -> "Progress":
        """The progress after these `step` records, oldest first."""
        progress = cls()
        for record in records:
            node = str(record["node"])
            if record["phase"] == "start":
                progress.start(node, step_id=record["step_id"], visible=record["visible"])
            else:
                progress.end(node, status=record["status"])
        return progress

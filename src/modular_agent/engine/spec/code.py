"""The expressions of a workflow file, compiled, with the places of what is wrong inside them."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from modular_agent.engine.expressions import Expression, ExpressionInvalid, Expressions
from modular_agent.engine.place import KeyPath, closest, path_text
from modular_agent.engine.spec.files import nodes_and_bodies
from modular_agent.engine.spec.model import (
    FunctionNode,
    GraphNode,
    MapNode,
    NodeSpec,
    RouterNode,
    WaitNode,
    WorkflowNode,
    WorkflowSpec,
)
from modular_agent.engine.spec.report import Report
from modular_agent.engine.spec.state_keys import StateKeys
from modular_agent.errors import Text
from modular_agent.kit.dataclass import dataclass

__all__ = ["Code", "is_time"]

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d")
_NO_TIME: Final = Text(
    "must be an RFC 3339 time such as 2030-01-31T09:00:00Z", "须为 RFC 3339 时间，如 2030-01-31T09:00:00Z"
)
_FILLED: Final = Text(
    "with the environment filled in, this is no expression that can be used", "代入环境变量后，这不是可用的表达式"
)


def is_time(text: str) -> bool:
    """Whether `until` is written as a time (it starts with a date) and not as an expression."""
    return _TIME.match(text) is not None


@dataclass(frozen=True, slots=True)
class _Task:
    """One expression to compile: `keys` are those of the state it is about, None when they are not known."""

    path: KeyPath
    text: str
    keys: StateKeys | None
    condition: bool = False
    wants_list: bool = False
    variables: tuple[str, ...] = ()


class Code:
    """Compiles every expression of a file into `compiled`, by key path."""

    def __init__(
        self, report: Report, compiler: Expressions, *, keys: StateKeys, children: Mapping[str, StateKeys]
    ) -> None:
        self.compiled: dict[str, Expression] = {}
        self._report = report
        self._compiler = compiler
        self._keys = keys
        self._children = children

    def check(self, spec: WorkflowSpec) -> None:
        """Adds a fault for each expression that cannot be used."""
        for task in self._tasks(spec):
            self._compile(task)

    def _tasks(self, spec: WorkflowSpec) -> Iterator[_Task]:
        for name, tool in spec.tools.items():
            if tool.approval not in ("always", "never"):
                yield _Task(
                    ("tools", name, "approval"), tool.approval, self._keys, condition=True, variables=("input",)
                )
        for path, node, item in nodes_and_bodies(spec):
            yield from self._of_node(path, node, () if item is None else (item,))
        for index, edge in enumerate(spec.edges):
            if edge.when is not None:
                yield _Task(("edges", index, "when"), edge.when, self._keys, condition=True)

    def _of_node(self, path: KeyPath, node: NodeSpec, variables: tuple[str, ...]) -> Iterator[_Task]:
        if isinstance(node, RouterNode):
            for index, rule in enumerate(node.rules):
                where = (*path, "rules", index, "when")
                yield _Task(where, rule.when, self._keys, condition=True, variables=variables)
        if isinstance(node, (FunctionNode, WorkflowNode, GraphNode)):
            for key, text in (node.input or {}).items():
                yield _Task((*path, "input", key), text, self._keys, variables=variables)
        if isinstance(node, (WorkflowNode, GraphNode)):
            inner = self._children.get(node.workflow) if isinstance(node, WorkflowNode) else None
            for key, text in (node.output or {}).items():
                yield _Task((*path, "output", key), text, inner)
        if isinstance(node, MapNode):
            yield _Task((*path, "over"), node.over, self._keys, wants_list=True)
        if isinstance(node, WaitNode) and node.until is not None:
            yield from self._until((*path, "until"), node.until)

    def _until(self, path: KeyPath, text: str) -> Iterator[_Task]:
        if not is_time(text):
            yield _Task(path, text, self._keys)
            return
        try:
            datetime.fromisoformat(text)
        except ValueError:
            self._report.add(path, "invalid_time", _NO_TIME)

    def _compile(self, task: _Task) -> None:
        compile_one = self._compiler.condition if task.condition else self._compiler.expression
        place = self._report.place(task.path, offset=0)
        try:
            expression = compile_one(task.text, variables=task.variables, place=place)
        except ExpressionInvalid as error:
            if self._report.shown(task.path, task.text) != task.text:
                self._report.add(task.path, error.code, _FILLED)
                return
            for problem in error.problems:
                offset = _offset(task.text, problem.line, problem.column)
                suggestion = problem.suggestion or self._state_key(problem.text.english)
                self._report.add(task.path, error.code, problem.text, offset=offset, suggestion=suggestion)
            return
        if task.wants_list and not expression.result.startswith(("list", "dyn")):
            given = expression.result
            text = Text(f"this must give a list, and gives {given}", f"此处须得出列表，却得出 {given}")
            self._report.add(task.path, "expression_invalid", text, offset=0)
        self._check_keys(task, expression)
        self.compiled[path_text(task.path)] = expression

    def _check_keys(self, task: _Task, expression: Expression) -> None:
        if task.keys is None or task.keys.open:
            return
        for key in sorted(expression.state_keys - task.keys.readable):
            match = re.search(rf"(?:\.\s*\??|[\"']){re.escape(key)}\b", task.text)
            offset = match.end() - len(key) if match else 0
            suggestion = closest(key, task.keys.readable)
            text = Text(
                f"the state has no key {key!r}; add it to the state's schema",
                f"状态没有键 {key!r}；请把它加入状态的 schema",
            )
            self._report.add(task.path, "unknown_state_key", text, offset=offset, suggestion=suggestion)

    def _state_key(self, message: str) -> str | None:
        """For a bare name that is a key of the state: `state.NAME`."""
        name = message.split("'")[1] if message.startswith("there is no variable") else ""
        key = name if name in self._keys.readable else closest(name, self._keys.declared)
        return f"state.{key}" if name and key else None


def _offset(text: str, line: int, column: int) -> int:
    lines = text.split("\n")
    return sum(len(each) + 1 for each in lines[: line - 1]) + column - 1

"""The files that a workflow refers to: prompts, scripts, sub-workflows. What was read makes its bundle."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from modular_agent.engine.place import KeyPath, Place, fault_at
from modular_agent.engine.spec.document import read_document
from modular_agent.engine.spec.errors import SourceError, WorkflowInvalid
from modular_agent.engine.spec.model import (
    AgentNode,
    HumanNode,
    LlmNode,
    MapNode,
    NodeSpec,
    RouterNode,
    WorkflowNode,
    WorkflowSpec,
)
from modular_agent.engine.spec.report import Report
from modular_agent.engine.spec.source import Source
from modular_agent.engine.spec.typed import read_typed
from modular_agent.errors import Text

if TYPE_CHECKING:  # Jinja2 is imported when there is a prompt
    from modular_agent.engine.prompts import Prompt, PromptInvalid, PromptSet

__all__ = ["Files", "body_path", "is_prompt_file", "nodes_and_bodies", "workflow_files"]

_PROMPT_FILE: Final = re.compile(r"[^\s{}]+\.(?:md|txt|j2|jinja2?|prompt)")
_PROMPT_KEYS: Final = ("prompt", "input", "question")


def is_prompt_file(text: str) -> bool:
    """Whether a prompt is the name of a file: one word that ends in .md, .txt, .j2, .jinja, .jinja2 or .prompt."""
    return _PROMPT_FILE.fullmatch(text) is not None


def nodes_and_bodies(spec: WorkflowSpec) -> Iterator[tuple[KeyPath, NodeSpec, str | None]]:
    """Every node and every body of a `map`, with its path and, for a body, the name of the item."""
    for name, node in spec.nodes.items():
        yield ("nodes", name), node, None
        if isinstance(node, MapNode) and node.node is not None:
            yield body_path(name), node.node, node.as_


def body_path(name: str) -> KeyPath:
    """Where the body of the `map` node `name` stands."""
    return ("nodes", name, "node")


def workflow_files(spec: WorkflowSpec) -> Iterator[tuple[KeyPath, str]]:
    """The sub-workflows, as written."""
    for path, node, _ in nodes_and_bodies(spec):
        if isinstance(node, (MapNode, WorkflowNode)) and node.workflow is not None:
            yield (*path, "workflow"), node.workflow


class Files:
    """Reads a workflow's files from `source` and keeps their texts in `bundle`, by the one name of each."""

    def __init__(self, source: Source, report: Report) -> None:
        self.bundle: dict[str, str] = {}
        self._source = source
        self._report = report
        self._prompt_set: PromptSet | None = None

    def prompts(self, spec: WorkflowSpec) -> tuple[dict[str, str], dict[str, "Prompt"]]:
        """Text and compiled form of each prompt, by what the file says."""
        texts: dict[str, str] = {}
        compiled: dict[str, Prompt] = {}
        for path, node, _ in nodes_and_bodies(spec):
            if not isinstance(node, (LlmNode, AgentNode, RouterNode, HumanNode)):
                continue
            for key in _PROMPT_KEYS:
                written: Any = getattr(node, key, None)
                if isinstance(written, str) and written not in compiled:
                    self._prompt((*path, key), written, texts, compiled)
        return texts, compiled

    def scripts(self, spec: WorkflowSpec) -> dict[str, Any]:
        """The data of the scripted models' files, by the path as written."""
        found: dict[str, Any] = {}
        for name, model in spec.models.items():
            if model.script is not None and model.script not in found:
                self.script(("models", name, "script"), model.script, found)
        return found

    def script(self, path: KeyPath, written: str, found: dict[str, Any]) -> None:
        """Adds the data of the script that stands at `path` to `found`."""
        text = self.read(path, written)
        if text is None:
            return
        try:
            from modular_agent.engine.providers.script import Script

            document = read_document(text, file=self._source.locate(written))
            self._report.extend(read_typed(document, Script)[1])
            found[written] = document.data()
        except WorkflowInvalid as error:
            self._report.extend(error.faults)

    def read(self, path: KeyPath, name: str) -> str | None:
        """The text of a file that the workflow names at `path`; a fault and None if it cannot be read."""
        try:
            located = self._source.locate(name)
            if located not in self.bundle:
                self.bundle[located] = self._source.read(located)
            return self.bundle[located]
        except SourceError as error:
            text = error.text
            if name != self._report.shown(path, name):
                shown = self._report.shown(path, name)
                text = Text(
                    f"the file that {shown} names cannot be read ({error.code})",
                    f"无法读取 {shown} 所指的文件（{error.code}）",
                )
            self._report.add(path, error.code, text, suggestion=error.suggestion)
            return None

    def _prompt(self, path: KeyPath, written: str, texts: dict[str, str], compiled: dict[str, "Prompt"]) -> None:
        file, text = None, written
        place = self._report.place(path, offset=0)
        if is_prompt_file(written):
            content = self.read(path, written)
            if content is None:
                return
            file, text = self._source.locate(written), content
            place = Place(file)
        from modular_agent.engine.prompts import PromptInvalid, PromptSet

        if self._prompt_set is None:
            self._prompt_set = PromptSet(self._included)
        try:
            compiled[written] = self._prompt_set.prompt(text, file=file, place=place)
            texts[written] = text
        except PromptInvalid as error:
            self._bad_prompt(path, text, error)

    def _bad_prompt(self, path: KeyPath, text: str, error: "PromptInvalid") -> None:
        if error.file is None:
            lines = text.split("\n")
            offset = sum(len(line) + 1 for line in lines[: error.line - 1])
            self._report.add(path, error.code, error.reason, offset=offset, suggestion=error.suggestion)
        else:
            place = Place(error.file, error.line, 1)
            self._report.extend([fault_at(place, error.code, error.reason, suggestion=error.suggestion)])

    def _included(self, name: str) -> str | None:
        try:
            located = self._source.locate(name)
            if located not in self.bundle:
                self.bundle[located] = self._source.read(located)
            return self.bundle[located]
        except SourceError:
            return None

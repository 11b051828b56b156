"""What workflow files are checked against."""

from collections.abc import Collection, Mapping
from pathlib import Path

from modular_agent.engine.spec.known import References
from modular_agent.engine.spec.loader import LoadedWorkflow, load_workflow
from modular_agent.engine.spec.source import Source
from modular_agent.kit.dataclass import dataclass

__all__ = ["Authoring"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Authoring:
    """The configs root; variables, code and built-in tools that workflow files may use."""

    root: Path
    environment: Mapping[str, str]
    references: References
    builtin_tools: Collection[str]

    def read(self, source: Source, path: str) -> LoadedWorkflow:
        """Loads and checks a workflow. Blocks. Raises `SourceError` or `WorkflowInvalid`."""
        return load_workflow(
            source,
            path,
            environment=self.environment,
            references=self.references,
            builtin_tools=self.builtin_tools,
        )

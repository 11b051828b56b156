"""What `validate` and `draw` check workflow files against: the same as a running process does, without opening one."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from modular_agent.engine.authoring import Authoring
    from modular_agent.engine.spec.loader import LoadedWorkflow
    from modular_agent.settings import Settings

__all__ = ["Desk"]

OWN_SECRETS: Final = frozenset({"SECRET_KEY", "DATABASE_URL"})  # which workflow files may not read


class Desk:
    """Reads workflow files of any configs root."""

    def __init__(self, settings: "Settings", environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._environment = {name: value for name, value in environment.items() if name not in OWN_SECRETS}
        self._authoring: dict[Path, Authoring] = {}

    def read(self, root: Path, path: str) -> "LoadedWorkflow":
        """Raises `SourceError` or `WorkflowInvalid`."""
        from modular_agent.engine.spec.source import DirectorySource

        return self._of(root).read(DirectorySource(root), path)

    def _of(self, root: Path) -> "Authoring":
        from modular_agent.engine.authoring import Authoring
        from modular_agent.engine.tools.builtin.registry import BUILTINS
        from modular_agent.engine.tools.references import References

        if root not in self._authoring:
            self._authoring[root] = Authoring(
                root=root,
                environment=self._environment,
                references=References(root, allowed_modules=self._settings.storage.allowed_modules),
                builtin_tools=[f"builtin.{name}" for name in BUILTINS],
            )
        return self._authoring[root]

"""What is known outside a workflow file: providers, built-in tools, configured models, Python code."""

from typing import Protocol

from modular_agent.kit.dataclass import dataclass

__all__ = ["Known", "References"]


class References(Protocol):
    """Knows Python code by `module:attribute`."""

    def check(self, reference: str) -> object:
        """Raises an `AgentError` (which may have a `suggestion`) when the reference cannot be used."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Names that a file may use without defining them. What is None is not checked.

    `offered` are names of models that may have been meant.
    """

    providers: tuple[str, ...]
    builtin_tools: tuple[str, ...] | None
    models: tuple[str, ...]
    references: References | None
    offered: tuple[str, ...] = ()

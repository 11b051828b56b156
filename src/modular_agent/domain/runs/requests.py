"""What starts a run, checked and turned into what the graph starts with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from modular_agent.domain.runs.errors import LimitsInvalid
from modular_agent.engine.models import check_overrides
from modular_agent.engine.spec.model import LimitsSpec
from modular_agent.errors import Fault

__all__ = ["StartRequest", "check_agent_config", "check_limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """A new run: a person's `message` (text or content parts), changes of the `state`, `limits` of its own.

    `idempotency_key` with the request's `fingerprint` makes a repeated request answer as the first did.
    """

    message: Any = None  # text or content parts
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
    requested_by: str = "local"
    idempotency_key: str | None = None
    fingerprint: str = ""


def check_limits(limits: Mapping[str, Any], *, path: str = "limits") -> None:
    """Raises `LimitsInvalid` with every fault."""
    try:
        LimitsSpec.model_validate(dict(limits))
    except ValidationError as error:
        faults = [
            Fault(
                code="limit_value",
                message=str(detail["msg"]),
                path=".".join([path, *(str(part) for part in detail["loc"])]),
            )
            for detail in error.errors()
        ]
        raise LimitsInvalid(faults) from error


def check_agent_config(config: Mapping[str, Any]) -> None:
    """Raises `AgentConfigInvalid` or `LimitsInvalid` for what a session may not override."""
    check_overrides(config)
    check_limits(config.get("limits") or {}, path="agent_config.limits")

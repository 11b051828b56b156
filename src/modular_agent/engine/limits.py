"""Limits as somebody gives them: checked, and in the units of the engine."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from modular_agent.engine.errors import LimitsInvalid
from modular_agent.engine.spec.model import AmountsSpec, SharedLimitsSpec
from modular_agent.errors import Fault
from modular_agent.validation import own_words

__all__ = ["KeyLimits", "SessionLimits", "checked_limits"]


class SessionLimits(AmountsSpec):
    """What a session's `agent_config` may bound: each of its runs, and all of them together."""

    session: SharedLimitsSpec | None = Field(default=None, description="Bounds of all runs of the session together.")


class KeyLimits(SharedLimitsSpec):
    """Bounds of an API key: of all runs charged to it together, on one UTC day, and of each run."""

    per_run: AmountsSpec | None = Field(default=None, description="Bounds of each run charged to the key.")


def checked_limits(
    limits: Mapping[str, Any], model: type[AmountsSpec] = AmountsSpec, *, path: str = "limits"
) -> dict[str, Any]:
    """What was given, with durations in seconds. Raises `LimitsInvalid` with every fault."""
    try:
        return model.model_validate(dict(limits)).model_dump(exclude_unset=True)
    except ValidationError as error:
        faults = [
            Fault(
                code="limit_value",
                text=own_words(detail),
                path=".".join([path, *(str(part) for part in detail["loc"])]),
            )
            for detail in error.errors()
        ]
        raise LimitsInvalid(faults) from error

"""Workflows: definitions, their versions, and what is known of them."""

from modular_agent.domain.workflows.errors import (
    SessionOfOtherWorkflow,
    WorkflowNameDiffers,
    WorkflowUnknown,
    WorkflowVersionUnknown,
)
from modular_agent.engine.spec.errors import FileNotFound, PathOutsideRoot, WorkflowInvalid

__all__ = [
    "FileNotFound",
    "PathOutsideRoot",
    "SessionOfOtherWorkflow",
    "WorkflowInvalid",
    "WorkflowNameDiffers",
    "WorkflowUnknown",
    "WorkflowVersionUnknown",
]

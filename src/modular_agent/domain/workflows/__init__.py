"""Workflows: definitions, their versions, and what is known of them."""

from modular_agent.domain.workflows.errors import (
    SessionOfOtherWorkflow,
    WorkflowNameDiffers,
    WorkflowNameTaken,
    WorkflowUnknown,
    WorkflowVersionUnknown,
)
from modular_agent.domain.workflows.folder import BrokenFile
from modular_agent.domain.workflows.service import Checked, LoadResult, WorkflowsService
from modular_agent.engine.spec.errors import FileNotFound, PathOutsideRoot, WorkflowInvalid
from modular_agent.storage.errors import SessionUnknown

__all__ = [
    "BrokenFile",
    "Checked",
    "FileNotFound",
    "LoadResult",
    "PathOutsideRoot",
    "SessionOfOtherWorkflow",
    "SessionUnknown",
    "WorkflowInvalid",
    "WorkflowNameDiffers",
    "WorkflowNameTaken",
    "WorkflowUnknown",
    "WorkflowVersionUnknown",
    "WorkflowsService",
]

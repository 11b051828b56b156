"""Workflows: definitions, their versions, and what is known of them."""

from modular_agent.domain.workflows.errors import (
    PreconditionMissing,
    SessionOfOtherWorkflow,
    WorkflowChanged,
    WorkflowExists,
    WorkflowNameDiffers,
    WorkflowNameTaken,
    WorkflowUnknown,
    WorkflowVersionUnknown,
)
from modular_agent.domain.workflows.folder import BrokenFile
from modular_agent.domain.workflows.service import Checked, LoadResult, WorkflowsService
from modular_agent.domain.workflows.writing import WorkflowSource, WorkflowWriting, workflow_text
from modular_agent.engine.spec.errors import FileNotFound, PathOutsideRoot, WorkflowInvalid
from modular_agent.storage.errors import SessionUnknown

__all__ = [
    "BrokenFile",
    "Checked",
    "FileNotFound",
    "LoadResult",
    "PathOutsideRoot",
    "PreconditionMissing",
    "SessionOfOtherWorkflow",
    "SessionUnknown",
    "WorkflowChanged",
    "WorkflowExists",
    "WorkflowInvalid",
    "WorkflowNameDiffers",
    "WorkflowNameTaken",
    "WorkflowSource",
    "WorkflowUnknown",
    "WorkflowVersionUnknown",
    "WorkflowWriting",
    "WorkflowsService",
    "workflow_text",
]

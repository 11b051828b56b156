"""Sessions: durable conversations and jobs."""

from modular_agent.domain.runs.errors import CheckpointUnknown
from modular_agent.domain.sessions.bulk_deletion import BulkDeletion, Chosen, Deletion
from modular_agent.domain.sessions.checkpoints import ForkRequest, SessionCheckpoints
from modular_agent.domain.sessions.errors import (
    AgentUnknown,
    DeletionUnclear,
    ForkNodeMissing,
    StatusNotSettable,
    WorkflowMissing,
)
from modular_agent.domain.sessions.service import CreateRequest, SessionsService, session_view
from modular_agent.engine.spec.configured import agent_workflow_name
from modular_agent.storage.errors import IdempotencyKeyReused, SessionBusy, SessionMoved, SessionUnknown
from modular_agent.storage.repositories.session_lists import SessionFilter, SortKey
from modular_agent.storage.repositories.sessions import SessionChange
from modular_agent.storage.repositories.sessions import SessionRow as Session

__all__ = [
    "AgentUnknown",
    "BulkDeletion",
    "CheckpointUnknown",
    "Chosen",
    "CreateRequest",
    "Deletion",
    "DeletionUnclear",
    "ForkNodeMissing",
    "ForkRequest",
    "IdempotencyKeyReused",
    "Session",
    "SessionBusy",
    "SessionChange",
    "SessionCheckpoints",
    "SessionFilter",
    "SessionMoved",
    "SessionUnknown",
    "SessionsService",
    "SortKey",
    "StatusNotSettable",
    "WorkflowMissing",
    "agent_workflow_name",
    "session_view",
]

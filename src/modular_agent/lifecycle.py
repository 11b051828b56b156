"""Statuses of sessions and runs, and the one table of legal changes."""

from enum import StrEnum
from typing import Final

from modular_agent.errors import IllegalTransition

__all__ = [
    "ACTIVE_RUN_STATUSES",
    "ENDED_RUN_STATUSES",
    "RUN_TRANSITIONS",
    "SESSION_STATUS_OF_RUN",
    "RunHold",
    "RunStatus",
    "SessionStatus",
    "check_run_transition",
]


class SessionStatus(StrEnum):
    """How a session stands; it follows from its last run."""

    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    ERROR = "error"
    STOPPED = "stopped"


class RunStatus(StrEnum):
    """How a run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"


class RunHold(StrEnum):
    """How a person holds a run, until one says `resume` or `retry`."""

    PAUSE = "pause"  # nothing but a person's word has it go on, also when its questions are answered
    STEP = "step"  # it goes on to the end of the step, answers included; then it is a pause


ENDED_RUN_STATUSES: Final = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.STOPPED})
ACTIVE_RUN_STATUSES: Final = frozenset(RunStatus) - ENDED_RUN_STATUSES

RUN_TRANSITIONS: Final[dict[RunStatus, frozenset[RunStatus]]] = {
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.STOPPED, RunStatus.FAILED}),
    RunStatus.RUNNING: frozenset(
        {RunStatus.PAUSING, RunStatus.PAUSED, RunStatus.STOPPING, RunStatus.COMPLETED, RunStatus.FAILED}
    ),
    # The step in progress may turn out to be the last, or fail.
    RunStatus.PAUSING: frozenset({RunStatus.PAUSED, RunStatus.STOPPING, RunStatus.COMPLETED, RunStatus.FAILED}),
    RunStatus.PAUSED: frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.STOPPED}),
    RunStatus.STOPPING: frozenset({RunStatus.STOPPED}),
    RunStatus.COMPLETED: frozenset(),
    # A retry keeps the run and starts again at the step that failed or was stopped.
    RunStatus.FAILED: frozenset({RunStatus.QUEUED, RunStatus.RUNNING}),
    RunStatus.STOPPED: frozenset({RunStatus.QUEUED, RunStatus.RUNNING}),
}

SESSION_STATUS_OF_RUN: Final[dict[RunStatus, SessionStatus]] = {
    RunStatus.QUEUED: SessionStatus.ACTIVE,
    RunStatus.RUNNING: SessionStatus.ACTIVE,
    RunStatus.PAUSING: SessionStatus.ACTIVE,
    RunStatus.PAUSED: SessionStatus.PAUSED,
    RunStatus.STOPPING: SessionStatus.ACTIVE,
    RunStatus.COMPLETED: SessionStatus.COMPLETED,
    RunStatus.FAILED: SessionStatus.ERROR,
    RunStatus.STOPPED: SessionStatus.STOPPED,
}


def check_run_transition(status: RunStatus, target: RunStatus) -> None:
    """Raises `IllegalTransition` unless a run that is `status` may become `target`."""
    if target not in RUN_TRANSITIONS[status]:
        raise IllegalTransition(noun="run", status=status, target=target)

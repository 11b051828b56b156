"""Runs: executions in a session, and their control."""

from modular_agent.domain.runs.control import RunControl
from modular_agent.domain.runs.errors import (
    AnswerInvalid,
    NoActiveRun,
    NotPaused,
    QuestionsOpen,
    RunNotRunning,
    RunQueueFull,
    RunRolledBack,
    RunSuperseded,
)
from modular_agent.domain.runs.interventions import Injected, Interventions
from modular_agent.domain.runs.multitask import Multitask, MultitaskMode
from modular_agent.domain.runs.recovery import Recovery
from modular_agent.domain.runs.requests import StartRequest
from modular_agent.domain.runs.service import RunsService
from modular_agent.domain.runs.views import RunViews, interrupt_view, waiting_view
from modular_agent.engine.errors import AgentConfigInvalid, LimitsInvalid, QueueFull, StateInvalid
from modular_agent.storage.errors import InterruptClosed, InterruptUnknown, RunAlreadyActive, RunUnknown
from modular_agent.storage.repositories.interrupts import WaitingFilter

__all__ = [
    "AgentConfigInvalid",
    "AnswerInvalid",
    "Injected",
    "InterruptClosed",
    "InterruptUnknown",
    "Interventions",
    "LimitsInvalid",
    "Multitask",
    "MultitaskMode",
    "NoActiveRun",
    "NotPaused",
    "QuestionsOpen",
    "QueueFull",
    "Recovery",
    "RunAlreadyActive",
    "RunControl",
    "RunNotRunning",
    "RunQueueFull",
    "RunRolledBack",
    "RunSuperseded",
    "RunUnknown",
    "RunViews",
    "RunsService",
    "StartRequest",
    "StateInvalid",
    "WaitingFilter",
    "interrupt_view",
    "waiting_view",
]

"""The routes, one module per noun."""

from collections.abc import Sequence
from typing import Final

from fastapi import APIRouter

from modular_agent.api.routers import (
    analytics,
    bookmarks,
    bulk_deletion,
    checkpoints,
    configuration,
    errors,
    exports,
    history,
    interrupts,
    metrics,
    runs,
    search,
    sessions,
    system,
    websocket,
    workflow_files,
    workflow_runs,
    workflows,
)

__all__ = ["ROUTERS"]

ROUTERS: Final[Sequence[APIRouter]] = (
    runs.starting,  # what is asked most often is found first
    analytics.statistics,  # before the session in the path
    bulk_deletion.router,
    sessions.router,
    runs.router,
    interrupts.router,
    checkpoints.router,
    workflows.router,
    workflow_files.router,
    workflow_runs.router,
    history.router,
    search.router,
    exports.router,
    bookmarks.router,
    analytics.router,
    errors.router,
    configuration.router,
    system.router,
    metrics.router,
    websocket.router,
)

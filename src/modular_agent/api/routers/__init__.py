"""The routes, one module per noun."""

from collections.abc import Sequence
from typing import Final

from fastapi import APIRouter

from modular_agent.api.routers import runs, sessions, websocket, workflow_runs

__all__ = ["ROUTERS"]

ROUTERS: Final[Sequence[APIRouter]] = (sessions.router, runs.router, workflow_runs.router, websocket.router)

"""What routes get: the parts of the running process, by `Annotated` aliases."""

from typing import Annotated, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from modular_agent.domain.history.service import HistoryService
from modular_agent.domain.workflows.service import WorkflowsService
from modular_agent.runtime import Runtime

__all__ = ["HistoryDep", "RuntimeDep", "WorkflowsDep"]


async def _runtime(connection: HTTPConnection) -> Runtime:
    return cast(Runtime, connection.app.state.runtime)


RuntimeDep = Annotated[Runtime, Depends(_runtime)]


async def _workflows(runtime: RuntimeDep) -> WorkflowsService:
    return runtime.workflows


async def _history(runtime: RuntimeDep) -> HistoryService:
    return runtime.history


WorkflowsDep = Annotated[WorkflowsService, Depends(_workflows)]
HistoryDep = Annotated[HistoryService, Depends(_history)]

"""The composition root: builds every part from the settings, for the server and for the command line alike."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modular_agent.kit.clock import Clock, SystemClock
from modular_agent.settings import Settings
from modular_agent.storage.database import Database

if TYPE_CHECKING:
    from modular_agent.domain.runs.service import RunsService
    from modular_agent.domain.workflows.catalog import WorkflowCatalog
    from modular_agent.engine.supervisor import Supervisor
    from modular_agent.realtime.hub import Hub

__all__ = ["Runtime", "open_runtime"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The parts of a running process."""

    settings: Settings
    database: Database
    hub: "Hub"
    catalog: "WorkflowCatalog"
    runs: "RunsService"
    supervisor: "Supervisor"


@asynccontextmanager
async def open_runtime(
    settings: Settings, *, clock: Clock | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Runtime]:
    """Opens everything; at the end drains the runs, then closes in reverse order."""
    from modular_agent.domain.runs.service import RunsService
    from modular_agent.domain.runs.store import DatabaseRunStore
    from modular_agent.domain.workflows.catalog import Authoring, WorkflowCatalog
    from modular_agent.engine.checkpoints import Saver
    from modular_agent.engine.providers.pricing import PriceBook
    from modular_agent.engine.providers.registry import ModelFactory
    from modular_agent.engine.registry import WorkflowRegistry
    from modular_agent.engine.run import RunServices
    from modular_agent.engine.supervisor import Supervisor
    from modular_agent.engine.tools.builtin.registry import BUILTINS
    from modular_agent.engine.tools.registry import ToolBox, ToolLimits
    from modular_agent.realtime.hub import Hub
    from modular_agent.domain.history.tail import LogTail

    clock = clock or SystemClock()
    environ = dict(os.environ if environment is None else environment)
    data_path = settings.storage.data_path
    root = settings.storage.config_path
    async with Database.open(data_path, url=settings.storage.url, clock=clock) as database:
        log = LogTail(database)
        async with (
            Hub(log, tenants=log, clock=clock) as hub,
            ModelFactory(environ, clock=clock) as factory,
            ToolBox(
                root,
                clock=clock,
                environ=environ,
                allowed_modules=settings.storage.allowed_modules,
                limits=ToolLimits(output_bytes=settings.runs.max_tool_output_bytes, workers=settings.runs.tool_processes),
            ) as toolbox,
        ):
            database.log.listen(hub.publish)
            store = DatabaseRunStore(database, clock)
            saver = Saver(store, max_state_bytes=settings.runs.max_state_bytes)
            services = RunServices(
                store=store,
                saver=saver,
                clock=clock,
                prices=PriceBook(),
                publish_delta=hub.delta,
                files=data_path / "files",
            )
            async with Supervisor(services, max_parallel=settings.runs.max_parallel) as supervisor:
                authoring = Authoring(
                    root=root, environment=environ, references=toolbox.references, builtin_tools=[f"builtin.{name}" for name in BUILTINS]
                )
                registry = WorkflowRegistry(saver=saver, factory=factory, toolbox=toolbox)
                catalog = WorkflowCatalog(database, registry=registry, authoring=authoring, clock=clock)
                runs = RunsService(
                    database, catalog=catalog, supervisor=supervisor, store=store, saver=saver, clock=clock
                )
                yield Runtime(
                    settings=settings, database=database, hub=hub, catalog=catalog, runs=runs, supervisor=supervisor
                )

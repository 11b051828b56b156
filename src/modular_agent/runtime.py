"""The composition root: builds every part from the settings, for the server and for the command line alike."""

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypedDict

from modular_agent.kit.clock import Clock, SystemClock
from modular_agent.settings import Settings

if TYPE_CHECKING:
    from modular_agent.domain.analytics.reports import ReportsService
    from modular_agent.domain.analytics.service import AnalyticsService
    from modular_agent.domain.history import Bookmarks, HistorySearch, HistoryService, LogExport
    from modular_agent.domain.runs.control import RunControl
    from modular_agent.domain.runs.interventions import Interventions
    from modular_agent.domain.runs.multitask import Multitask
    from modular_agent.domain.runs.service import RunsService
    from modular_agent.domain.runs.store import DatabaseRunStore
    from modular_agent.domain.runs.views import RunViews
    from modular_agent.domain.sessions.checkpoints import SessionCheckpoints
    from modular_agent.domain.sessions.service import SessionsService
    from modular_agent.domain.workflows.catalog import WorkflowCatalog
    from modular_agent.domain.workflows.service import WorkflowsService
    from modular_agent.engine.checkpoints import Saver
    from modular_agent.engine.supervisor import Supervisor
    from modular_agent.realtime.hub import Hub
    from modular_agent.storage.database import Database

__all__ = ["Runtime", "open_runtime"]

# What workflow files may not read with ${env...}: the server's own secrets.
_OWN_SECRETS: Final = frozenset({"SECRET_KEY", "DATABASE_URL"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The parts of a running process."""

    settings: Settings
    clock: Clock
    database: "Database"
    hub: "Hub"
    catalog: "WorkflowCatalog"
    workflows: "WorkflowsService"
    sessions: "SessionsService"
    history: "HistoryService"
    search: "HistorySearch"
    exports: "LogExport"
    bookmarks: "Bookmarks"
    runs: "RunsService"
    control: "RunControl"
    interventions: "Interventions"
    multitask: "Multitask"
    checkpoints: "SessionCheckpoints"
    views: "RunViews"
    supervisor: "Supervisor"
    analytics: "AnalyticsService"
    reports: "ReportsService"


class _Projections(TypedDict):
    """The parts that read what the log and its sums hold."""

    history: "HistoryService"
    search: "HistorySearch"
    exports: "LogExport"
    bookmarks: "Bookmarks"
    analytics: "AnalyticsService"
    reports: "ReportsService"


@asynccontextmanager
async def open_runtime(
    settings: Settings, *, clock: Clock | None = None, environment: Mapping[str, str] | None = None
) -> AsyncGenerator[Runtime]:
    """Opens everything; at the end drains the runs, then closes in reverse order.

    `environment` is where provider keys and the variables of workflow files come from. Nothing is recovered yet (see
    `RunsService.recover`), and `workflows` is not entered: a server does both, a single command neither.
    """
    async with AsyncExitStack() as stack:
        yield await _open(
            settings, clock or SystemClock(), dict(os.environ if environment is None else environment), stack
        )


async def _open(settings: Settings, clock: Clock, environ: Mapping[str, str], stack: AsyncExitStack) -> Runtime:
    from modular_agent.domain.runs.control import RunControl
    from modular_agent.domain.runs.interventions import Interventions
    from modular_agent.domain.runs.multitask import Multitask
    from modular_agent.domain.runs.retention import Retention
    from modular_agent.domain.runs.service import RunsService
    from modular_agent.domain.runs.store import DatabaseRunStore
    from modular_agent.domain.runs.timers import Timers
    from modular_agent.domain.runs.views import RunViews
    from modular_agent.domain.sessions.checkpoints import SessionCheckpoints
    from modular_agent.domain.sessions.service import SessionsService
    from modular_agent.domain.workflows.service import WorkflowsService
    from modular_agent.engine.checkpoints import Saver
    from modular_agent.storage.database import Database

    storage = settings.storage
    database = await stack.enter_async_context(
        Database.open(storage.data_path, url=storage.url, clock=clock, reader_threads=storage.readers)
    )
    hub = await _hub(clock, stack, database)
    store = DatabaseRunStore(database, clock)
    saver = Saver(store, max_state_bytes=settings.runs.max_state_bytes)
    catalog = await _catalog(settings, clock, environ, stack, database, saver)
    supervisor = await _supervisor(settings, clock, stack, store, saver, hub)
    runs = RunsService(database, catalog=catalog, supervisor=supervisor, store=store, saver=saver, clock=clock)
    control = RunControl(database, runs=runs, supervisor=supervisor, store=store, clock=clock)
    await stack.enter_async_context(Timers(database, runs=runs, control=control, clock=clock))
    await stack.enter_async_context(Retention(database, runs=runs, keep=storage.keep_checkpoints))
    return Runtime(
        settings=settings,
        clock=clock,
        database=database,
        hub=hub,
        catalog=catalog,
        workflows=WorkflowsService(
            database, catalog=catalog, clock=clock, watch=settings.app.environment == "development"
        ),
        **_projections(database, clock),
        sessions=SessionsService(
            database,
            catalog=catalog,
            runs=runs,
            control=control,
            saver=saver,
            hub=hub,
            clock=clock,
            files=storage.files,
        ),
        runs=runs,
        control=control,
        interventions=Interventions(
            database, runs=runs, supervisor=supervisor, store=store, catalog=catalog, clock=clock
        ),
        multitask=Multitask(
            database, runs=runs, control=control, store=store, saver=saver, catalog=catalog, clock=clock
        ),
        checkpoints=SessionCheckpoints(database, catalog=catalog, store=store, saver=saver, clock=clock),
        views=RunViews(database, store=store, supervisor=supervisor),
        supervisor=supervisor,
    )


def _projections(database: "Database", clock: Clock) -> "_Projections":
    from modular_agent.domain.analytics.reports import ReportsService
    from modular_agent.domain.analytics.service import AnalyticsService
    from modular_agent.domain.history import Bookmarks, HistorySearch, HistoryService, LogExport

    analytics = AnalyticsService(database, clock=clock)
    return {
        "history": HistoryService(database),
        "search": HistorySearch(database.readers, database.search),
        "exports": LogExport(database.readers, clock=clock),
        "bookmarks": Bookmarks(database, clock=clock),
        "analytics": analytics,
        "reports": ReportsService(database, analytics=analytics, clock=clock),
    }


async def _hub(clock: Clock, stack: AsyncExitStack, database: "Database") -> "Hub":
    from modular_agent.domain.history.tail import LogTail
    from modular_agent.realtime.hub import Hub

    tail = LogTail(database)
    hub = await stack.enter_async_context(Hub(tail, tenants=tail, clock=clock))
    stack.callback(database.log.listen(hub.publish))
    return hub


async def _catalog(
    settings: Settings,
    clock: Clock,
    environ: Mapping[str, str],
    stack: AsyncExitStack,
    database: "Database",
    saver: "Saver",
) -> "WorkflowCatalog":
    from modular_agent.domain.workflows.catalog import Authoring, WorkflowCatalog
    from modular_agent.engine.providers.registry import ModelFactory
    from modular_agent.engine.registry import WorkflowRegistry
    from modular_agent.engine.tools.builtin.registry import BUILTINS
    from modular_agent.engine.tools.registry import ToolBox, ToolLimits

    factory = await stack.enter_async_context(ModelFactory(environ, clock=clock))
    toolbox = await stack.enter_async_context(
        ToolBox(
            settings.storage.config_path,
            clock=clock,
            environ=environ,
            allowed_modules=settings.storage.allowed_modules,
            limits=ToolLimits(output_bytes=settings.runs.max_tool_output_bytes, workers=settings.runs.tool_processes),
        )
    )
    authoring = Authoring(
        root=settings.storage.config_path,
        environment={name: value for name, value in environ.items() if name not in _OWN_SECRETS},
        references=toolbox.references,
        builtin_tools=[f"builtin.{name}" for name in BUILTINS],
    )
    registry = WorkflowRegistry(saver=saver, factory=factory, toolbox=toolbox)
    return WorkflowCatalog(database, registry=registry, authoring=authoring, clock=clock)


async def _supervisor(
    settings: Settings,
    clock: Clock,
    stack: AsyncExitStack,
    store: "DatabaseRunStore",
    saver: "Saver",
    hub: "Hub",
) -> "Supervisor":
    from modular_agent.engine.providers.pricing import PriceBook
    from modular_agent.engine.run import RunServices
    from modular_agent.engine.supervisor import Supervisor

    services = RunServices(
        store=store,
        saver=saver,
        clock=clock,
        prices=PriceBook(),
        publish_delta=hub.delta,
        files=settings.storage.files,
    )
    runs = settings.runs
    return await stack.enter_async_context(
        Supervisor(
            services,
            max_parallel=runs.max_parallel,
            max_queued=runs.max_queued,
            stop_grace=runs.stop_grace,
            drain_grace=settings.http.shutdown_grace,
        )
    )

"""The composition root: builds every part from the settings, for the server and for the command line alike."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

from pydantic import BaseModel, SecretStr

from modular_agent.kit.clock import Clock, SystemClock
from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.redaction import MASK, Redactor
from modular_agent.settings import Settings

if TYPE_CHECKING:
    from modular_agent.domain.analytics.reports import ReportsService
    from modular_agent.domain.analytics.service import AnalyticsService
    from modular_agent.domain.auth import ApiKeys
    from modular_agent.domain.configuration import ConfigurationService, ConfiguredFolder, LiveValues, ProcessValue
    from modular_agent.domain.error_reports import ErrorReports
    from modular_agent.domain.history import Bookmarks, HistorySearch, HistoryService, LogExport
    from modular_agent.domain.runs.budget_views import BudgetViews
    from modular_agent.domain.runs.control import RunControl
    from modular_agent.domain.runs.interventions import Interventions
    from modular_agent.domain.runs.multitask import Multitask
    from modular_agent.domain.runs.recovery import Recovery
    from modular_agent.domain.runs.service import RunsService
    from modular_agent.domain.runs.store import DatabaseRunStore
    from modular_agent.domain.runs.views import RunViews
    from modular_agent.domain.sessions.checkpoints import SessionCheckpoints
    from modular_agent.domain.sessions.service import SessionsService
    from modular_agent.domain.workflows.catalog import WorkflowCatalog
    from modular_agent.domain.workflows.service import WorkflowsService
    from modular_agent.domain.workflows.writing import WorkflowWriting
    from modular_agent.engine.accounts import Ledger
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
    recovery: "Recovery"
    checkpoints: "SessionCheckpoints"
    views: "RunViews"
    supervisor: "Supervisor"
    analytics: "AnalyticsService"
    reports: "ReportsService"
    configuration: "ConfigurationService"
    error_reports: "ErrorReports"
    workflow_writing: "WorkflowWriting"
    keys: "ApiKeys"
    budgets: "BudgetViews"


class _Projections(TypedDict):
    """The parts that read what the log and its sums hold."""

    history: "HistoryService"
    search: "HistorySearch"
    exports: "LogExport"
    bookmarks: "Bookmarks"
    analytics: "AnalyticsService"
    reports: "ReportsService"


class _Authored(TypedDict):
    """The parts that know the workflow files."""

    workflows: "WorkflowsService"
    workflow_writing: "WorkflowWriting"


class _Steering(TypedDict):
    """The parts with which people look at runs and change them."""

    interventions: "Interventions"
    multitask: "Multitask"
    checkpoints: "SessionCheckpoints"
    views: "RunViews"


@asynccontextmanager
async def open_runtime(
    settings: Settings, *, clock: Clock | None = None, environment: Mapping[str, str] | None = None
) -> AsyncGenerator[Runtime]:
    """Opens everything; at the end drains the runs, then closes in reverse order.

    `environment` is where provider keys and the variables of workflow files come from. Nothing is recovered yet (see
    `Recovery.take_up`), and `workflows` is not entered: a server does both, a single command neither.
    """
    async with AsyncExitStack() as stack:
        yield await _open(
            settings, clock or SystemClock(), dict(os.environ if environment is None else environment), stack
        )


async def _open(settings: Settings, clock: Clock, environ: Mapping[str, str], stack: AsyncExitStack) -> Runtime:
    from modular_agent.domain.auth import ApiKeys
    from modular_agent.domain.error_reports import ErrorReports
    from modular_agent.domain.runs.control import RunControl
    from modular_agent.domain.runs.service import RunsService
    from modular_agent.domain.runs.store import DatabaseRunStore
    from modular_agent.domain.sessions.service import SessionsService
    from modular_agent.engine.accounts import Ledger
    from modular_agent.engine.checkpoints import Saver

    database = await _database(settings, clock, stack)
    configuration, folder = await _configuration(settings, clock, environ, stack, database)
    hub = await _hub(clock, stack, database)
    keys = await stack.enter_async_context(ApiKeys(database, clock=clock))
    store = DatabaseRunStore(database, clock)
    ledger = Ledger(lambda scopes, day: store.usage(scopes, day=day), clock)
    saver = Saver(store, max_state_bytes=settings.runs.max_state_bytes)
    catalog = await _catalog(settings, clock, environ, stack, database, saver, folder)
    supervisor = await _supervisor(settings, clock, stack, store, ledger, saver, hub, folder)
    live = configuration.live
    runs = RunsService(
        database, catalog=catalog, supervisor=supervisor, store=store, saver=saver, clock=clock, keys=keys, live=live
    )
    control = RunControl(database, runs=runs, supervisor=supervisor, store=store, clock=clock)
    await _upkeep(settings, clock, stack, database, runs, control, supervisor, live)
    steering = _steering(clock, database, catalog, runs, control, store, saver, supervisor)
    return Runtime(
        settings=settings,
        clock=clock,
        database=database,
        hub=hub,
        catalog=catalog,
        **_authored(settings, clock, database, catalog, folder),
        configuration=configuration,
        error_reports=ErrorReports(database, control=control, clock=clock, debug=settings.app.debug),
        **_projections(database, clock),
        sessions=SessionsService(
            database,
            catalog=catalog,
            runs=runs,
            control=control,
            multitask=steering["multitask"],
            saver=saver,
            hub=hub,
            clock=clock,
        ),
        runs=runs,
        control=control,
        **steering,
        recovery=await _recovery(stack, database, runs, control, supervisor, steering),
        supervisor=supervisor,
        keys=keys,
        budgets=_budgets(catalog, runs, store, keys, ledger, supervisor),
    )


async def _database(settings: Settings, clock: Clock, stack: AsyncExitStack) -> "Database":
    from modular_agent.storage.database import Database

    storage = settings.storage
    return await stack.enter_async_context(
        Database.open(
            storage.data_path,
            url=storage.url,
            clock=clock,
            reader_threads=storage.readers,
            cache_ttl=settings.cache.ttl,
            cache_size=settings.cache.max_size,
        )
    )


async def _upkeep(
    settings: Settings,
    clock: Clock,
    stack: AsyncExitStack,
    database: "Database",
    runs: "RunsService",
    control: "RunControl",
    supervisor: "Supervisor",
    live: "LiveValues",
) -> None:
    """What goes on by itself beside runs, within bounds that may change."""
    from modular_agent.domain.runs.retention import Retention
    from modular_agent.domain.runs.timers import Timers

    await stack.enter_async_context(Timers(database, runs=runs, control=control, clock=clock))
    retention = Retention(database, runs=runs, keep=settings.storage.keep_checkpoints)
    await stack.enter_async_context(retention)

    def bound(values: "LiveValues") -> None:
        retention.keep(values["keep_checkpoints"])
        supervisor.resize(max_parallel=values["max_parallel_runs"], max_queued=values["max_queued_runs"])

    live.subscribe(bound)


def _authored(
    settings: Settings, clock: Clock, database: "Database", catalog: "WorkflowCatalog", folder: "ConfiguredFolder"
) -> "_Authored":
    from modular_agent.domain.workflows.service import WorkflowsService
    from modular_agent.domain.workflows.writing import WorkflowWriting

    watch = settings.app.environment == "development"
    workflows = WorkflowsService(database, catalog=catalog, clock=clock, watch=watch, changed=folder.reload)
    return {"workflows": workflows, "workflow_writing": WorkflowWriting(workflows, catalog=catalog)}


def _steering(
    clock: Clock,
    database: "Database",
    catalog: "WorkflowCatalog",
    runs: "RunsService",
    control: "RunControl",
    store: "DatabaseRunStore",
    saver: "Saver",
    supervisor: "Supervisor",
) -> "_Steering":
    from modular_agent.domain.runs.interventions import Interventions
    from modular_agent.domain.runs.multitask import Multitask
    from modular_agent.domain.runs.views import RunViews
    from modular_agent.domain.sessions.checkpoints import SessionCheckpoints

    return {
        "interventions": Interventions(
            database, runs=runs, supervisor=supervisor, store=store, catalog=catalog, clock=clock
        ),
        "multitask": Multitask(
            database, runs=runs, control=control, store=store, saver=saver, catalog=catalog, clock=clock
        ),
        "checkpoints": SessionCheckpoints(database, catalog=catalog, store=store, saver=saver, clock=clock),
        "views": RunViews(database, store=store, supervisor=supervisor),
    }


def _budgets(
    catalog: "WorkflowCatalog",
    runs: "RunsService",
    store: "DatabaseRunStore",
    keys: "ApiKeys",
    ledger: "Ledger",
    supervisor: "Supervisor",
) -> "BudgetViews":
    from modular_agent.domain.runs.budget_views import BudgetViews

    return BudgetViews(
        terms=runs.terms,
        keys=keys,
        ledger=ledger,
        catalog=catalog,
        store=store,
        runs=runs.rows,
        supervisor=supervisor,
    )


async def _recovery(
    stack: AsyncExitStack,
    database: "Database",
    runs: "RunsService",
    control: "RunControl",
    supervisor: "Supervisor",
    steering: "_Steering",
) -> "Recovery":
    from modular_agent.domain.runs.recovery import Recovery

    recovery = Recovery(
        database,
        runs=runs,
        control=control,
        multitask=steering["multitask"],
        interventions=steering["interventions"],
        supervisor=supervisor,
    )
    return await stack.enter_async_context(recovery)


def _file_environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name not in _OWN_SECRETS}


async def _configuration(
    settings: Settings, clock: Clock, environ: Mapping[str, str], stack: AsyncExitStack, database: "Database"
) -> "tuple[ConfigurationService, ConfiguredFolder]":
    from modular_agent.domain.configuration import ConfigurationService, ConfiguredFolder, LiveValues

    process = process_values(settings, environ)
    folder = ConfiguredFolder(settings.storage.config_path, environment=_file_environment(environ))
    service = ConfigurationService(database, folder=folder, live=LiveValues(process), process=process, clock=clock)
    return await stack.enter_async_context(service), folder


def process_values(settings: Settings, environ: Mapping[str, str]) -> "list[ProcessValue]":
    """Every setting with where it comes from; secrets are masked. `environ` holds the variables of `.env` too."""
    from modular_agent.domain.configuration import ProcessValue

    found: list[ProcessValue] = []
    for group_name in Settings.model_fields:
        group: BaseModel = getattr(settings, group_name)
        for name, field in type(group).model_fields.items():
            variable, value = str(field.validation_alias), getattr(group, name)
            if environ.get(variable):
                source = "environment" if variable in os.environ else ".env"
            else:
                source = "default" if value == field.default else "command line"
            found.append(
                ProcessValue(
                    key=variable.lower(),
                    variable=variable,
                    value=_shown(value),
                    source=source,
                    description=field.description or "",
                )
            )
    return found


def _shown(value: object) -> Any:
    """A setting as JSON; a secret is masked, and so are credentials in a text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, tuple):
        return [str(item) for item in cast("tuple[object, ...]", value)]
    return Redactor().text(str(value))


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
    folder: "ConfiguredFolder",
) -> "WorkflowCatalog":
    from modular_agent.domain.workflows.catalog import WorkflowCatalog
    from modular_agent.engine.authoring import Authoring
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
        environment=_file_environment(environ),
        references=toolbox.references,
        builtin_tools=[f"builtin.{name}" for name in BUILTINS],
    )
    registry = WorkflowRegistry(saver=saver, factory=factory, toolbox=toolbox, configured=folder)
    return WorkflowCatalog(database, registry=registry, authoring=authoring, clock=clock)


async def _supervisor(
    settings: Settings,
    clock: Clock,
    stack: AsyncExitStack,
    store: "DatabaseRunStore",
    ledger: "Ledger",
    saver: "Saver",
    hub: "Hub",
    folder: "ConfiguredFolder",
) -> "Supervisor":
    from modular_agent.engine.providers.price_file import read_prices
    from modular_agent.engine.providers.pricing import PriceBook
    from modular_agent.engine.run import RunServices
    from modular_agent.engine.supervisor import Supervisor

    own_prices = await asyncio.to_thread(read_prices, settings.storage.config_path)
    prices = PriceBook({**folder.prices(), **own_prices})
    folder.subscribe(lambda: prices.take({**folder.prices(), **own_prices}))
    services = RunServices(
        store=store,
        saver=saver,
        clock=clock,
        prices=prices,
        ledger=ledger,
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

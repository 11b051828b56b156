"""`history`: search and export logs, also while a server runs; mend the index, the records and the files."""

import asyncio
import sys
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import typer

from modular_agent.cli.exit_codes import ExitCode
from modular_agent.cli.options import DataPath, Invocation, Json, read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from modular_agent.cli.terminal import Terminal
    from modular_agent.domain.history import RecordType, SearchHit, SearchResults
    from modular_agent.storage.database import Database
    from modular_agent.storage.location import Location
    from modular_agent.storage.log_reading import Damage

__all__ = ["export", "rebuild", "reindex", "search", "verify"]

Format = Literal["json", "jsonl", "csv", "markdown"]
Start = Annotated[
    str | None, typer.Option("--start", metavar="TIME", help="From this time on, such as 2025-10-22T17:48 (UTC).")
]
End = Annotated[str | None, typer.Option("--end", metavar="TIME", help="Up to this time (excluded).")]


def search(
    context: typer.Context,
    query: Annotated[str, typer.Argument(metavar="TEXT", help="The text to find, as it is written.")],
    session: Annotated[str | None, typer.Option(metavar="SESSION", help="Only in this session.")] = None,
    workflow: Annotated[str | None, typer.Option(metavar="WORKFLOW", help="Only in sessions of this workflow.")] = None,
    record_type: Annotated[
        list[str] | None, typer.Option("--type", help="Only message, tool_call or error; repeatable.")
    ] = None,
    start: Start = None,
    end: End = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many hits at most.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Go on where a former answer ended.")] = None,
    data_path: DataPath = None,
    as_json: Json = False,
) -> None:
    """Find a text in messages, tool calls and errors, the newest first; also while a server runs."""
    from modular_agent.domain.history import SEARCH_TYPES, SearchQuery

    terminal = Invocation.of(context).terminal
    asked = SearchQuery(
        query=query.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
        limit=limit,
        types=_types(record_type or [], SEARCH_TYPES),
        start=_time("--start", start),
        end=_time("--end", end),
        workflow_id=workflow,
        cursor=cursor,
    )
    found = asyncio.run(_search(_location(data_path), asked, session))
    if as_json:
        terminal.json(_as_json(found))
        return
    for hit in found.hits:
        _show_hit(terminal, hit)
    if found.has_next:
        terminal.say(terminal.text("More: --cursor {cursor}", "更多：--cursor {cursor}", cursor=found.cursor))
    elif not found.hits:
        terminal.say(terminal.text("Nothing found.", "没有找到。"))


def export(
    context: typer.Context,
    session: Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")],
    format: Annotated[Format, typer.Option(help="How the records are written.")] = "json",  # noqa: A002
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The file to write; else standard output.")
    ] = None,
    record_type: Annotated[
        list[str] | None, typer.Option("--type", help="Only records of this type; repeatable.")
    ] = None,
    start: Start = None,
    end: End = None,
    data_path: DataPath = None,
) -> None:
    """Write a session's log as JSON, JSON lines, CSV or Markdown; also while a server runs."""
    from modular_agent.domain.history import ExportQuery, RecordType

    terminal = Invocation.of(context).terminal
    query = ExportQuery(
        format=format,
        start=_time("--start", start),
        end=_time("--end", end),
        types=_types(record_type or [], tuple(RecordType)),
    )
    location = _location(data_path)
    if output is None:
        asyncio.run(_export(location, session, query, sys.stdout.buffer))
        return
    beside = output.with_name(f"{output.name}.part")  # no half export under the name
    try:
        with beside.open("wb") as file:
            total = asyncio.run(_export(location, session, query, file))
        beside.replace(output)
    finally:
        beside.unlink(missing_ok=True)
    terminal.say(terminal.text("{n} records: {file}", "{n} 条记录：{file}", n=total, file=output))


def reindex(context: typer.Context, data_path: DataPath = None, as_json: Json = False) -> None:
    """Make the search index anew from the records; no server may run meanwhile."""
    terminal = Invocation.of(context).terminal

    async def work(database: "Database") -> int:
        rows = await database.readers.query("SELECT count(*) FROM records")
        with _progress(terminal, terminal.text("Indexing", "正在建立索引"), rows[0][0]) as moved:
            return await database.search.rebuild(moved)

    done = asyncio.run(_with_database(data_path, work))
    if as_json:
        terminal.json({"records": done})
    else:
        terminal.show(terminal.text("{n} records gone through.", "已处理 {n} 条记录。", n=done))


def verify(
    context: typer.Context,
    session: Annotated[str | None, typer.Argument(metavar="[SESSION]", help="Only this session's files.")] = None,
    data_path: DataPath = None,
    as_json: Json = False,
) -> None:
    """Compare every byte of the log files with the database; exit code 1 when something differs."""
    terminal = Invocation.of(context).terminal

    async def work(database: "Database") -> Any:
        return await database.files.verify(session)

    found = asyncio.run(_with_database(data_path, work))
    if as_json:
        terminal.json({"files": found.files, "lines": found.lines, "damages": [_damage(d) for d in found.damages]})
    else:
        for damage in found.damages:
            terminal.show(str(damage))
        text = terminal.text(
            "{files} files, {lines} lines, {n} damaged places.",
            "{files} 个文件，{lines} 行，{n} 处损坏。",
            files=found.files,
            lines=found.lines,
            n=len(found.damages),
        )
        terminal.show(text)
    if found.damages:
        raise typer.Exit(ExitCode.FAILED)


def rebuild(context: typer.Context, data_path: DataPath = None, as_json: Json = False) -> None:
    """Read the log files into a database that lacks their records; exit code 1 when lines are damaged."""
    terminal = Invocation.of(context).terminal

    async def work(database: "Database") -> Any:
        return await database.files.rebuild_records()

    made = asyncio.run(_with_database(data_path, work))
    if as_json:
        damages = [_damage(damage) for damage in made.damages]
        terminal.json({"sessions": made.sessions, "records": made.records, "damages": damages})
    else:
        for damage in made.damages:
            terminal.show(str(damage))
        text = terminal.text(
            "{sessions} sessions and {records} records read in, {n} damaged places.",
            "已读入 {sessions} 个会话、{records} 条记录，{n} 处损坏。",
            sessions=made.sessions,
            records=made.records,
            n=len(made.damages),
        )
        terminal.show(text)
    if made.damages:
        raise typer.Exit(ExitCode.FAILED)


async def _search(location: "Location", asked: Any, session: str | None) -> "SearchResults":  # a SearchQuery
    from modular_agent.domain.history import HistorySearch
    from modular_agent.errors import CursorInvalid
    from modular_agent.kit.pagination import InvalidCursor
    from modular_agent.storage.readers import Readers
    from modular_agent.storage.search_index import IndexReader

    async with (
        Readers(location.database, threads=1) as readers,
        IndexReader(location.database, location.index) as searcher,
    ):
        service = HistorySearch(readers, searcher)
        try:
            return await (service.everywhere(asked) if session is None else service.in_session(session, asked))
        except InvalidCursor as error:
            raise CursorInvalid from error


async def _export(location: "Location", session: str, query: Any, file: BinaryIO) -> int:  # an ExportQuery
    from modular_agent.domain.history import LogExport
    from modular_agent.kit.clock import SystemClock
    from modular_agent.storage.readers import Readers

    async with Readers(location.database, threads=1) as readers:
        made = await LogExport(readers, clock=SystemClock()).begin(session, query)
        async for piece in made.pieces():
            await asyncio.to_thread(file.write, piece)
        file.flush()
        return made.total_records


async def _with_database(data_path: Path | None, work: Any) -> Any:  # a coroutine function of the database; its result
    from modular_agent.storage.database import Database

    storage = read_settings(data_path=data_path).storage
    async with Database.open(storage.data_path, url=storage.url) as database:
        return await work(database)


def _location(data_path: Path | None) -> "Location":
    """The database that is there. Raises `DatabaseForeign`, `DatabaseMissing`, `SchemaDiffers`."""
    from modular_agent.cli.errors import DatabaseMissing, SchemaDiffers
    from modular_agent.storage.location import Location
    from modular_agent.storage.schema import check_database

    storage = read_settings(data_path=data_path).storage
    location = Location.of(storage.data_path, url=storage.url)
    state = check_database(location)
    if state.revision is None:
        raise DatabaseMissing(path=str(location.database))
    if not state.current:
        raise SchemaDiffers(revision=state.revision, head=state.head)
    return location


def _time(option: str, value: str | None) -> int | None:
    """Microseconds; a time without offset means UTC. Raises `ArgumentInvalid`."""
    from datetime import UTC

    from modular_agent.cli.errors import ArgumentInvalid

    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise ArgumentInvalid(option=option, value=value, example="2025-10-22T17:48:00Z") from None
    aware = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    elapsed = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds


def _types(values: "Sequence[str]", known: "Sequence[RecordType]") -> "list[RecordType]":
    """Raises `ArgumentInvalid`."""
    from modular_agent.cli.errors import ArgumentInvalid

    for value in values:
        if value not in known:
            raise ArgumentInvalid(option="--type", value=value, example=" | ".join(known))
    return [kind for kind in known if kind in values]


def _as_json(found: "SearchResults") -> dict[str, Any]:
    import orjson

    results = [
        {"field": hit.field, "snippet": hit.snippet.text(), "record": orjson.loads(hit.line)} for hit in found.hits
    ]
    return {"query": found.query, "results": results, "has_next": found.has_next, "cursor": found.cursor}


def _show_hit(terminal: "Terminal", hit: "SearchHit") -> None:
    """One line: where and when, then the snippet, what was found in bold."""
    import orjson
    from rich.text import Text

    from modular_agent.cli.terminal import clean

    record: dict[str, Any] = orjson.loads(hit.line)
    kind = record.get("message_type") or record.get("tool_name") or record["record_type"]
    line = Text(clean(f"{record['timestamp'][:19]} {hit.session_id} {record['seq']} {kind}: "))
    for fragment in hit.snippet.fragments:
        line.append(clean(fragment.text).replace("\n", " "), style="bold green" if fragment.match else "")
    terminal.out.print(line, soft_wrap=True, highlight=False)


def _damage(damage: "Damage") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(damage)


@contextmanager
def _progress(terminal: "Terminal", title: str, total: int) -> "Generator[Callable[[int], None]]":
    """A bar on standard error while somebody watches; yields what moves it."""
    if not terminal.err.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal.err, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)

"""`sessions`: what there is in a data path, read only, also while a server owns it."""

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modular_agent.cli.options import DataPath, Invocation, Json, read_settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine
    from pathlib import Path

    from modular_agent.cli.terminal import Terminal
    from modular_agent.storage.readers import Readers
    from modular_agent.storage.repositories.session_lists import SessionPage
    from modular_agent.storage.repositories.sessions import SessionRow

__all__ = ["list_sessions", "reading", "show"]

Sort = Literal["created_at", "updated_at", "status", "session_id", "cost", "tokens"]
Status = Literal["active", "paused", "completed", "error", "stopped"]


def list_sessions(
    context: typer.Context,
    status: Annotated[Status | None, typer.Option(help="Only sessions with this status.")] = None,
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only where the id, workflow, title or metadata has this text.")
    ] = None,
    sort_by: Annotated[Sort, typer.Option(help="What to sort by, the greatest first.")] = "created_at",
    page: Annotated[int, typer.Option(min=1, help="Which page.")] = 1,
    page_size: Annotated[int, typer.Option(min=1, max=100, help="Sessions on a page.")] = 20,
    data_path: DataPath = None,
    as_json: Json = False,
) -> None:
    """List sessions, the newest first."""
    from modular_agent.storage.repositories.session_lists import SessionFilter, SessionLists, SessionPage

    terminal = Invocation.of(context).terminal

    async def read(readers: "Readers | None") -> SessionPage:
        if readers is None:
            return SessionPage([], 0, None)
        chosen = SessionFilter(status=status, search=search)
        return await SessionLists(readers).page(chosen, sort_by=sort_by, page=page, page_size=page_size)

    found = asyncio.run(reading(data_path, read))
    if as_json:
        from modular_agent.domain.sessions import session_view

        listed = [session_view(row) for row in found.sessions]
        terminal.json(
            {"sessions": listed, "total": found.total, "page": page, "page_size": page_size, "has_next": found.has_next}
        )
    else:
        _table(terminal, found, page)


def show(
    context: typer.Context,
    session_id: Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")],
    records: Annotated[int, typer.Option(min=0, max=10_000, help="How many of its newest records.")] = 10,
    data_path: DataPath = None,
    as_json: Json = False,
) -> None:
    """Show a session and its newest records."""
    from modular_agent.storage.errors import SessionUnknown
    from modular_agent.storage.records import Records
    from modular_agent.storage.repositories.sessions import SessionRepository

    terminal = Invocation.of(context).terminal

    async def read(readers: "Readers | None") -> tuple["SessionRow", list[bytes]]:
        row = None if readers is None else await SessionRepository(readers).get(session_id)
        if row is None or readers is None:
            raise SessionUnknown(session_id=session_id)
        newest = await Records(readers).newest(row.ref, limit=records) if records else []
        return row, [record.line for record in newest]

    row, lines = asyncio.run(reading(data_path, read))
    if as_json:
        import orjson

        from modular_agent.domain.sessions import session_view

        terminal.json({**session_view(row), "records": [orjson.loads(line) for line in lines]})
        return
    _card(terminal, row)
    for line in lines:
        terminal.show(_line(line))


async def reading(data_path: "Path | None", read: "Any") -> Any:  # a coroutine function of the readers; its result
    """What `read` makes of the data path's readers; of None where there is no database yet."""
    async with _open(data_path) as readers:
        made: Coroutine[Any, Any, Any] = read(readers)
        return await made


@asynccontextmanager
async def _open(data_path: "Path | None") -> "AsyncGenerator[Readers | None]":
    """Readers of the data path's database; None when there is none yet. Raises `DatabaseForeign`, `SchemaDiffers`."""
    from modular_agent.cli.errors import SchemaDiffers
    from modular_agent.storage.location import Location
    from modular_agent.storage.readers import Readers
    from modular_agent.storage.schema import check_database

    storage = read_settings(data_path=data_path).storage
    location = Location.of(storage.data_path, url=storage.url)
    state = check_database(location)
    if state.revision is None:
        yield None
        return
    if not state.current:
        raise SchemaDiffers(revision=state.revision, head=state.head)
    async with Readers(location.database, threads=1) as readers:
        yield readers


def _table(terminal: "Terminal", found: "SessionPage", page: int) -> None:
    from rich.table import Table

    from modular_agent.cli.terminal import clean

    if not found.sessions:
        terminal.say(terminal.text("No sessions.", "没有会话。"))
        return
    titles = (
        ("session", "status", "changed (UTC)", "tokens", "cost", "title"),
        ("会话", "状态", "更新时间 (UTC)", "令牌", "费用", "标题"),
    )[terminal.language == "zh"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(titles):
        # An id that is cut cannot be used: what does not fit goes to the next line.
        table.add_column(title, justify="right" if number in (3, 4) else "left", overflow="fold", no_wrap=number < 3)
    for row in found.sessions:
        table.add_row(*(clean(cell) for cell in _cells(terminal, row)), style=_STYLES.get(row.status, ""))
    if terminal.out.is_terminal:
        terminal.out.print(table)
    else:  # for cut and awk: tabs, no cutting of cells to a width
        for row in found.sessions:
            terminal.show("\t".join(_cells(terminal, row)))
    if found.has_next:
        terminal.say(
            terminal.text(
                "{n} in all; next: --page {page}", "共 {n} 个；下一页：--page {page}", n=found.total, page=page + 1
            )
        )


_STYLES = {"error": "red", "paused": "yellow", "stopped": "dim"}


def _cells(terminal: "Terminal", row: "SessionRow") -> list[str]:
    from modular_agent.cli.figures import Spent
    from modular_agent.kit.clock import utc_datetime

    spent = _spent(row)
    assert isinstance(spent, Spent)
    changed = f"{utc_datetime(row.updated_at):%y-%m-%d %H:%M}"
    return [
        *(row.session_id, row.status, changed, f"{spent.tokens:,}"),
        *(spent.cost(terminal) or "-", row.title or ""),
    ]


def _spent(row: "SessionRow") -> Any:  # a figures.Spent, imported late
    from modular_agent.cli.figures import Spent

    return Spent(
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        unpriced_tokens=row.unpriced_tokens,
        cost_usd=row.cost_nano / 1_000_000_000,
    )


def _card(terminal: "Terminal", row: "SessionRow") -> None:
    from modular_agent.kit.clock import rfc3339

    facts = [
        ("session", "会话", row.session_id),
        ("workflow", "工作流", f"{row.workflow_id} ({row.workflow_config_path}, {row.workflow_version[:12]})"),
        ("status", "状态", row.status),
        ("title", "标题", row.title or ""),
        ("created", "创建", rfc3339(row.created_at)),
        ("changed", "更新", rfc3339(row.updated_at)),
        ("records", "记录", str(row.last_seq)),
        ("used", "用量", _spent(row).shown(terminal)),
    ]
    for english, chinese, value in facts:
        if value:
            terminal.show(f"{terminal.text(english, chinese)}: {value}")


def _line(line: bytes) -> str:
    """A record in one line: its number, time, type, node, and what it says."""
    import orjson

    record: dict[str, Any] = orjson.loads(line)
    kind = record["record_type"]
    says = {
        "message": lambda: f"{record['message_type']}: {record['content']}",
        "tool_call": lambda: f"{record['phase']} {record['tool_name']} {record['tool_output'] or record['tool_input']}",
        "run": lambda: record["status"],
        "step": lambda: record["phase"],
        "error": lambda: f"{record['error_type']}: {record['error_message']}",
        "log": lambda: f"{record['level']}: {record['message']}",
        "interrupt": lambda: f"{record['phase']} {record['kind']}",
        "control": lambda: record["action"],
    }.get(kind, lambda: record.get("model") or "")
    text = " ".join(str(says()).split())
    where = f" [{record['node']}]" if record["node"] else ""
    return f"{record['seq']:>5} {record['timestamp'][11:23]} {kind}{where} {text[:200]}".rstrip()

"""Errors: listed, looked at, grouped, resolved, opened again, and their runs retried."""

from typing import Any, Final

import orjson

from modular_agent.domain.error_reports.errors import ErrorGroupUnknown, ErrorUnknown
from modular_agent.domain.error_reports.views import error_view, group_view
from modular_agent.domain.runs.control import RunControl
from modular_agent.errors import AgentError
from modular_agent.events import RecordType, SessionRef
from modular_agent.kit.clock import Clock
from modular_agent.kit.pagination import InvalidCursor, Page, PageRequest, decode_cursor, encode_cursor
from modular_agent.storage.database import Database
from modular_agent.storage.records import RecordFilter
from modular_agent.storage.repositories.error_groups import (
    ErrorFilter,
    ErrorLists,
    ListedError,
    reopen_group,
    resolve_group,
)
from modular_agent.storage.repositories.sessions import SessionRepository
from modular_agent.storage.unit_of_work import UnitOfWork

__all__ = ["ErrorReports"]

MAX_INTEGER: Final = 2**63 - 1  # SQLite's
RECORDS_SEARCHED: Final = 500  # error records of a run, for the trace of one
_ERRORS: Final = "errors:ts:desc"
_GROUPS: Final = "error_groups:last_seen:desc"


class ErrorReports:
    """The verbs about errors. `debug` shows stack traces; without it they are stored and shown to nobody."""

    def __init__(self, database: Database, *, control: RunControl, clock: Clock, debug: bool) -> None:
        self._writer = database.writer
        self._records = database.records
        self._lists = ErrorLists(database.readers)
        self._sessions = SessionRepository(database.readers)
        self._control = control
        self._clock = clock
        self._debug = debug

    # -- looking -----------------------------------------------------------------------------------------------

    async def page(self, request: PageRequest, chosen: ErrorFilter) -> Page[dict[str, Any]]:
        """Errors, newest first. Raises `InvalidCursor`."""
        after = _place(request.cursor, _ERRORS)
        rows, total = await self._lists.page(chosen, limit=request.page_size + 1, offset=request.offset, after=after)
        kept = rows[: request.page_size]
        cursor = encode_cursor(_ERRORS, [kept[-1].ts, kept[-1].error_id]) if kept else None
        return Page[dict[str, Any]].cut([error_view(row) for row in rows], request, total=total, cursor=cursor)

    async def get(self, error_id: str) -> dict[str, Any]:
        """One error; with DEBUG also its `stack_trace`. Raises `ErrorUnknown`."""
        row = await self._lists.get(error_id)
        if row is None:
            raise ErrorUnknown(error_id=error_id)
        view = error_view(row)
        if self._debug:
            view["stack_trace"] = await self._trace(row)
        return view

    async def _trace(self, row: ListedError) -> str | None:
        if row.session_n is None or row.session_id is None:
            return await self._lists.trace(row.error_id)
        page = await self._records.page(
            SessionRef(row.session_n, row.session_id),
            RecordFilter(types=(RecordType.ERROR,), run_id=row.run_id),
            limit=RECORDS_SEARCHED,
            newest_first=True,
        )
        for record in page.records:
            line = orjson.loads(record.line)
            if line.get("error_id") == row.error_id:
                return line.get("stack_trace")
        return None

    async def groups(self, request: PageRequest, chosen: ErrorFilter) -> Page[dict[str, Any]]:
        """Errors by their cause, the last seen first. Raises `InvalidCursor`."""
        after = _place(request.cursor, _GROUPS)
        rows, total = await self._lists.groups(chosen, limit=request.page_size + 1, offset=request.offset, after=after)
        kept = rows[: request.page_size]
        cursor = encode_cursor(_GROUPS, [kept[-1].last_seen, kept[-1].fingerprint]) if kept else None
        return Page[dict[str, Any]].cut([group_view(row) for row in rows], request, total=total, cursor=cursor)

    async def group(self, fingerprint: str) -> dict[str, Any]:
        """One group. Raises `ErrorGroupUnknown`."""
        rows, _ = await self._lists.groups(ErrorFilter(fingerprint=fingerprint), limit=1)
        if not rows:
            raise ErrorGroupUnknown(fingerprint=fingerprint)
        return group_view(rows[0])

    # -- working through them ----------------------------------------------------------------------------------

    async def resolve(self, fingerprint: str, *, by: str, note: str | None = None) -> dict[str, Any]:
        """Counts every error of the group so far as resolved; one that happens later opens it again.

        Raises `ErrorGroupUnknown`.
        """
        step = resolve_group(fingerprint, now_us=self._clock.now_us(), by=by, note=note)
        await self._writer.commit(UnitOfWork(then=step))
        return await self.group(fingerprint)

    async def reopen(self, fingerprint: str) -> dict[str, Any]:
        """Counts every error of the group as open. Raises `ErrorGroupUnknown`."""
        await self._writer.commit(UnitOfWork(then=reopen_group(fingerprint)))
        return await self.group(fingerprint)

    async def retry(self, fingerprint: str, *, limit: int, by: str) -> dict[str, Any]:
        """Takes up to `limit` runs up where they failed with an error of the group, the oldest first.

        A run whose session has gone on since is left alone. Answers what became of each; `remaining` counts those
        beyond the limit. Raises `ErrorGroupUnknown`.
        """
        await self.group(fingerprint)
        failed, total = await self._lists.failed_runs(fingerprint, limit=limit)
        runs = [await self._retry(run.session_id, run.run_id, by=by) for run in failed]
        return {
            "fingerprint": fingerprint,
            "retried": sum(run["code"] is None for run in runs),
            "remaining": total - len(failed),
            "runs": runs,
        }

    async def _retry(self, session_id: str, run_id: str, *, by: str) -> dict[str, Any]:
        answer: dict[str, Any] = {"session_id": session_id, "run_id": run_id, "status": None, "code": None}
        session = await self._sessions.get(session_id)
        if session is None:
            return {**answer, "code": "session_not_found", "detail": "The session was deleted meanwhile."}
        try:
            run = await self._control.retry(session, by=by, run_id=run_id)
        except AgentError as error:
            return {**answer, "code": error.code, "detail": error.message()}
        return {**answer, "status": run.status.value, "detail": None}


def _place(cursor: str | None, listing: str) -> tuple[int, str] | None:
    if cursor is None:
        return None
    number, name = decode_cursor(cursor, listing, ["int", "str"])
    if not isinstance(number, int) or abs(number) > MAX_INTEGER:
        raise InvalidCursor("the cursor is damaged")
    return number, str(name)

"""Reports: the figures of a period to hand on, made on the spot or kept as they stood."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from modular_agent.domain.analytics.errors import ReportFormatUnknown, ReportUnknown
from modular_agent.domain.analytics.period import Period
from modular_agent.domain.analytics.report_text import as_csv, as_html, as_markdown
from modular_agent.domain.analytics.service import AnalyticsService
from modular_agent.kit.clock import Clock, rfc3339
from modular_agent.kit.dataclass import dataclass
from modular_agent.kit.ids import new_id
from modular_agent.kit.pagination import Page, PageRequest, decode_cursor, encode_cursor
from modular_agent.storage.database import Database
from modular_agent.storage.repositories.reports import ReportRepository, ReportRow, delete_report, put_report
from modular_agent.storage.rollups import DAY
from modular_agent.storage.unit_of_work import UnitOfWork

__all__ = ["FORMATS", "Document", "ReportsService"]

DEFAULT_DAYS: Final = 7
TENANT: Final = "default"
_LISTING: Final = "reports"


@dataclass(frozen=True, slots=True)
class Document:
    """A report in a format: its bytes, and what they are."""

    content: bytes
    media_type: str
    suffix: str


def _json(figures: Mapping[str, Any], title: str) -> bytes:
    return orjson.dumps({"title": title, **figures})


# Each format: its media type, its suffix, and what writes it.
FORMATS: Final[Mapping[str, tuple[str, str, Callable[[Mapping[str, Any], str], bytes]]]] = {
    "markdown": ("text/markdown", "md", lambda figures, title: as_markdown(figures, title=title).encode()),
    "html": ("text/html", "html", lambda figures, title: as_html(figures, title=title).encode()),
    "csv": ("text/csv", "csv", lambda figures, _: as_csv(figures).encode()),
    "json": ("application/json", "json", _json),
}


class ReportsService:
    """The verbs about reports. Raises `ReportFormatUnknown`, `ReportUnknown`, `TimeRangeReversed`."""

    def __init__(self, database: Database, *, analytics: AnalyticsService, clock: Clock) -> None:
        self._rows = ReportRepository(database.readers)
        self._writer = database.writer
        self._analytics = analytics
        self._clock = clock

    async def make(self, start: int | None, end: int | None, *, written: str) -> Document:
        """The report of a period (µs); without an end up to now, without a start the 7 days before its end."""
        check_format(written)
        period = self._period(start, end)
        return render(await self._analytics.everything(period), title=_title(period), written=written)

    async def keep(self, start: int | None, end: int | None, *, title: str | None) -> ReportRow:
        """Keeps the figures of a period as they stand now."""
        period = self._period(start, end)
        figures = await self._analytics.everything(period)
        assert period.start is not None
        assert period.end is not None
        row = ReportRow(
            report_id=new_id("rep"),
            tenant=TENANT,
            title=title or _title(period),
            created_at=self._clock.now_us(),
            start_ts=period.start,
            end_ts=period.end,
            figures=orjson.dumps(figures).decode(),
        )
        unit: UnitOfWork[None] = UnitOfWork()
        put_report(unit, row)
        await self._writer.commit(unit)
        return row

    async def kept(self, report_id: str, *, written: str) -> Document:
        """A kept report in a format."""
        check_format(written)
        row = await self._rows.get(report_id, tenant=TENANT)
        if row is None:
            raise ReportUnknown(report_id=report_id)
        return render(orjson.loads(row.figures), title=row.title, written=written)

    async def page(self, request: PageRequest) -> Page[dict[str, Any]]:
        """Kept reports, newest first, without their figures. Raises `InvalidCursor`."""
        after = None if request.cursor is None else decode_cursor(request.cursor, _LISTING, ["int", "str"])
        limit, offset = request.page_size + 1, request.offset
        rows, total = await self._rows.page(tenant=TENANT, limit=limit, offset=offset, after=after)
        kept = rows[: request.page_size]
        cursor = encode_cursor(_LISTING, [kept[-1].created_at, kept[-1].report_id]) if kept else None
        return Page[dict[str, Any]].cut([report_view(row) for row in rows], request, total=total, cursor=cursor)

    async def delete(self, report_id: str) -> None:
        committed = await self._writer.commit(UnitOfWork(then=delete_report(report_id, tenant=TENANT)))
        if not committed.result:
            raise ReportUnknown(report_id=report_id)

    def _period(self, start: int | None, end: int | None) -> Period:
        if end is None:
            end = self._clock.now_us() + 1 if start is None else max(start, self._clock.now_us() + 1)
        return Period(start=max(0, end - DEFAULT_DAYS * DAY) if start is None else start, end=end)


def check_format(written: str) -> None:
    if written not in FORMATS:
        raise ReportFormatUnknown(written, tuple(FORMATS))


def render(figures: Mapping[str, Any], *, title: str, written: str) -> Document:
    media_type, suffix, write = FORMATS[written]
    return Document(write(figures, title), media_type, suffix)


def report_view(row: ReportRow) -> dict[str, Any]:
    """A kept report as the API lists it."""
    return {
        "report_id": row.report_id,
        "title": row.title,
        "created_at": rfc3339(row.created_at),
        **Period(start=row.start_ts, end=row.end_ts).view(),
    }


def _title(period: Period) -> str:
    view = period.view()
    return f"Report {view['start_time'][:10]} to {view['end_time'][:10]}"

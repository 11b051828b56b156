"""A period's figures as a document to hand on: Markdown, HTML, CSV."""

import csv
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

__all__ = ["as_csv", "as_html", "as_markdown"]

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:1rem 0}th,td{border:1px solid #bbb;padding:.25rem .75rem;text-align:left}"
    "td.n{text-align:right;font-variant-numeric:tabular-nums}"
)
_MARKS: Final = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes a text that begins so for a formula
_UNPRICED: Final = "unpriced"


class _Table(NamedTuple):
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]  # texts, numbers or None


def as_markdown(figures: Mapping[str, Any], *, title: str) -> str:
    """GitHub-flavoured Markdown."""
    parts = [f"# {_cell(title)}", "", f"{figures['start_time']} – {figures['end_time']}", ""]
    for table in _tables(figures):
        parts += [f"## {table.title}", "", _line(table.head), _line(["---"] * len(table.head))]
        parts += [*(_line([_shown(value) for value in row]) for row in table.rows), ""]
    return "\n".join(parts)


def as_html(figures: Mapping[str, Any], *, title: str) -> str:
    """One page without scripts or references."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>",
        f"<p>{figures['start_time']} – {figures['end_time']}</p>",
    ]
    for table in _tables(figures):
        head = "".join(f"<th>{html.escape(name)}</th>" for name in table.head)
        rows = "".join(f"<tr>{''.join(map(_html_cell, row))}</tr>" for row in table.rows)
        parts.append(f"<h2>{html.escape(table.title)}</h2><table><thead><tr>{head}</tr></thead>{rows}</table>")
    return "\n".join([*parts, "</body></html>", ""])


def as_csv(figures: Mapping[str, Any]) -> str:
    """Rows of section, name, figure and value (RFC 4180); what is not known is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("section", "name", "figure", "value"))
    for table in _tables(figures):
        for name, *values in table.rows:
            for figure, value in zip(table.head[1:], values, strict=True):
                cells = (table.title, str(name), figure, "" if value is None else value)
                writer.writerow([_harmless(cell) for cell in cells])
    return text.getvalue()


def _tables(figures: Mapping[str, Any]) -> Iterable[_Table]:
    runs, performance, cost, errors = (figures[name] for name in ("runs", "performance", "cost", "errors"))
    yield _Table("Summary", ("", "value"), list(_summary(figures)))
    names = ("started", "completed", "failed", "stopped", "success_rate", "avg_duration")
    yield _by_name("Runs by workflow", "workflow", runs["by_workflow"], names)
    timing = ("request_count", "avg_response_time", "p50", "p95", "p99", "error_rate", "total_tokens")
    yield _by_name("Response times by model (s)", "model", performance["by_model"], timing)
    yield _by_name("Response times by node (s)", "node", performance["by_node"], timing)
    money = ("cost", "total_tokens", "unpriced_tokens", "request_count")
    for title, key in (("model", "cost_by_model"), ("workflow", "cost_by_workflow"), ("session", "cost_by_session")):
        yield _by_name(f"Cost by {title} (USD)", title, _priced(cost[key]), money)
    yield _by_name("Cost by day (USD)", "day", _priced({day["date"]: day for day in cost["cost_trends"]}), money)
    yield _Table("Errors by type", ("type", "count"), list(errors["error_by_type"].items()))


def _summary(figures: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    runs, performance, cost = figures["runs"], figures["performance"], figures["cost"]
    yield "Sessions created", figures["sessions"]["created"]
    yield "Runs started", runs["started"]
    yield "Runs ended", runs["ended"]
    yield "Success rate (% of ended runs)", runs["success_rate"]
    yield "Average execution time of a run (s)", runs["avg_duration"]
    yield "Model calls", performance["request_count"]
    yield "Failed model calls (%)", performance["error_rate"]
    yield "Response time, median (s)", performance["p50"]
    yield "Response time, 95th percentile (s)", performance["p95"]
    yield "Tokens", cost["total_tokens"]
    yield "Tokens without a known price", cost["unpriced_tokens"]
    yield "Cost (USD)", _UNPRICED if cost["total_cost"] is None else cost["total_cost"]
    yield "Errors", figures["errors"]["error_count"]


def _priced(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name: {**entry, "cost": _UNPRICED if entry["cost"] is None else entry["cost"]}
        for name, entry in entries.items()
    }


def _by_name(title: str, first: str, entries: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> _Table:
    return _Table(title, (first, *names), [[key, *(entry[name] for name in names)] for key, entry in entries.items()])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    escaped = "".join(f"\\{mark}" if mark in "\\|`*_[]<>" else mark for mark in text)
    return " ".join(escaped.split())


def _shown(value: object) -> str:
    return "" if value is None else f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _html_cell(value: object) -> str:
    number = isinstance(value, int | float)
    return f"<td{' class=n' if number else ''}>{html.escape(_shown(value))}</td>"


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_MARKS) else cell

"""How an exported log is written: the lines as they are, one JSON document, a table, or a text to read.

Every format is made piece by piece: a head, any number of pieces of the log, a tail.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

import orjson

from modular_agent.kit.dataclass import dataclass

__all__ = ["FORMATS", "ExportFormat", "ExportHead", "LogFormat"]

ExportFormat: TypeAlias = Literal["json", "jsonl", "csv", "markdown"]

COLUMNS: Final = (
    *("seq", "timestamp", "session_id", "run_id", "node", "record_type", "record_id"),
    *("message_type", "content", "tool_calls", "tool_call_id", "tool_name", "tool_input", "tool_output", "success"),
    *("execution_time", "phase", "status", "model", "provider", "prompt_tokens", "completion_tokens", "total_tokens"),
    *("amount", "currency", "error_type", "error_message", "severity", "level", "message", "metadata", "other"),
)
_KNOWN: Final = frozenset(COLUMNS)
# What spreadsheets take for a formula, full-width forms included; leading blanks do not stop all of them.
# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA: Final = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")
_FENCES: Final = re.compile(r"`{3,}")


@dataclass(frozen=True, slots=True)
class ExportHead:
    """What an export says of itself. `export_time` is RFC 3339."""

    session_id: str
    export_time: str
    total_records: int


class LogFormat(Protocol):
    """One way of writing a log. `lines` end with a newline; `first` says whether a piece is the first."""

    @property
    def media_type(self) -> str: ...

    @property
    def suffix(self) -> str: ...

    def head(self, head: ExportHead) -> bytes: ...

    def piece(self, lines: Sequence[bytes], *, first: bool) -> bytes: ...

    def tail(self) -> bytes: ...


class JsonLines:
    """The log's lines, byte for byte: they can be read in again."""

    media_type = "application/x-ndjson"
    suffix = "jsonl"

    def head(self, head: ExportHead) -> bytes:
        return b""

    def piece(self, lines: Sequence[bytes], *, first: bool) -> bytes:
        return b"".join(lines)

    def tail(self) -> bytes:
        return b""


class JsonDocument:
    """`{session_id, export_time, total_records, records}`, a record on each line."""

    media_type = "application/json"
    suffix = "json"

    def head(self, head: ExportHead) -> bytes:
        fields = orjson.dumps(
            {"session_id": head.session_id, "export_time": head.export_time, "total_records": head.total_records}
        )
        return fields[:-1] + b',"records":[\n'

    def piece(self, lines: Sequence[bytes], *, first: bool) -> bytes:
        joined = b",\n".join(line[:-1] for line in lines)
        return joined if first else b",\n" + joined

    def tail(self) -> bytes:
        return b"\n]}\n"


class Csv:
    """RFC 4180: a header always, lines that end with CR LF, quotes where needed; nested values as JSON.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.
    """

    media_type = "text/csv; charset=utf-8; header=present"
    suffix = "csv"

    def head(self, head: ExportHead) -> bytes:
        return _rows([COLUMNS])

    def piece(self, lines: Sequence[bytes], *, first: bool) -> bytes:
        return _rows([_cells(orjson.loads(line)) for line in lines])

    def tail(self) -> bytes:
        return b""


class Markdown:
    """A text to read: messages as quotations, calls of tools as code, the rest in a line each."""

    media_type = "text/markdown; charset=utf-8"
    suffix = "md"

    def head(self, head: ExportHead) -> bytes:
        return (f"# Session {head.session_id}\n\nExported {head.export_time}, {head.total_records} records.\n").encode()

    def piece(self, lines: Sequence[bytes], *, first: bool) -> bytes:
        return "".join(_section(orjson.loads(line)) for line in lines).encode()

    def tail(self) -> bytes:
        return b""


FORMATS: Final[Mapping[ExportFormat, LogFormat]] = {
    "json": JsonDocument(),
    "jsonl": JsonLines(),
    "csv": Csv(),
    "markdown": Markdown(),
}


def _rows(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


def _cells(record: dict[str, Any]) -> list[str]:
    other = {key: value for key, value in record.items() if key not in _KNOWN}
    return [_cell(record.get(name)) for name in COLUMNS[:-1]] + [_cell(other) if other else ""]


def _cell(value: Any) -> str:  # any JSON value
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if _FORMULA.match(value) else value
    return orjson.dumps(value).decode()  # a number, true, or something that begins with a bracket


def _section(record: dict[str, Any]) -> str:
    kind = record["record_type"]
    at = f"{record['seq']} · {record['timestamp']}"
    if kind == "message":
        return f"\n## {_plain(record.get('message_type'))}\n\n{_quoted(record.get('content'))}\n\n{at}\n"
    if kind == "tool_call":
        call = {key: record.get(key) for key in ("tool_input", "tool_output") if record.get(key) is not None}
        shown = "".join(f"\n{key}:\n\n{_code(value)}\n" for key, value in call.items())
        return f"\n### {_plain(record.get('tool_name'))} ({_plain(record.get('phase'))})\n{shown}\n{at}\n"
    if kind == "error":
        return f"\n### error: {_plain(record.get('error_type'))}\n\n{_code(record.get('error_message'))}\n\n{at}\n"
    where = f" {_plain(record['node'])}" if record.get("node") else ""
    said = next((record[key] for key in ("status", "phase", "action", "message", "model") if record.get(key)), "")
    return f"\n- {at} · {kind}{where} {_plain(said)}\n"


def _quoted(content: Any) -> str:  # any JSON value
    text = content if isinstance(content, str) else _code(content)
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines()) or ">"


def _code(value: Any) -> str:  # any JSON value
    text = value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    longest = max((len(fence) for fence in _FENCES.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _plain(value: Any) -> str:  # any JSON value
    """One line of text that Markdown shows as it is."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(text.split()))

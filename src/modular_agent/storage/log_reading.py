"""Reading log files as files: what a line says of itself, and where one is damaged."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from modular_agent.events import RecordType
from modular_agent.kit.dataclass import dataclass

__all__ = ["Damage", "DamageKind", "LogLine", "read_log"]

DamageKind = Literal[
    "missing_file", "orphan_file", "short_file", "extra_bytes", "differs", "hole", "torn", "invalid", "gap"
]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Damage:
    """A place where a log file is not what it should be.

    `path` is relative to the history folder; `offset` counts bytes; `line` counts from 1 and is None where the fault is
    the file's; `seq` is the record's, when it is known.
    """

    path: str
    kind: DamageKind
    offset: int
    line: int | None = None
    seq: int | None = None
    detail: str = ""

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line is not None else self.path
        number = f" (seq {self.seq})" if self.seq is not None else ""
        return f"{place}: {self.kind} at byte {self.offset}{number}{': ' if self.detail else ''}{self.detail}"


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that could be read. `ts` is in µs; `line` ends with a newline."""

    seq: int
    ts: int
    record_type: str
    record_id: str
    run_id: str | None
    node: str | None
    offset: int
    line: bytes


def read_log(path: Path, *, name: str, session_id: str) -> Iterator[LogLine | Damage]:
    """Every line of a log file, or what is wrong with it; `name` is how a damage calls the file."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                yield Damage(name, "torn", offset, number)
                return
            try:
                yield _line(orjson.loads(line), offset, line, session_id)
            except (ValueError, TypeError, KeyError) as error:
                yield Damage(name, "invalid", offset, number, detail=f"{type(error).__name__}: {error}")
            offset += len(line)


def _line(fields: Any, offset: int, line: bytes, session_id: str) -> LogLine:  # Any: what the file happens to hold
    if fields["session_id"] != session_id:
        raise ValueError(f"a record of session {fields['session_id']}")
    at = datetime.fromisoformat(fields["timestamp"])
    elapsed = at - _EPOCH
    ts = (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds
    seq = fields["seq"]
    if not isinstance(seq, int) or seq < 1:
        raise ValueError("seq is not a positive integer")
    kind = RecordType(fields["record_type"]).value
    return LogLine(seq, ts, kind, str(fields["record_id"]), fields.get("run_id"), fields.get("node"), offset, line)

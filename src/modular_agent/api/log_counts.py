"""What the log has been told since the start of the process: runs, steps, model calls, tokens, money, errors."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from modular_agent.events import CommittedRecord, RecordType

__all__ = ["LogCounts"]

MAX_LABELS: Final = 200  # models; what comes after is counted together
OTHERS: Final = "(others)"
_TOKENS: Final = ("prompt", "completion", "cached", "cache_write", "reasoning")


class LogCounts:
    """A listener of the log: `database.log.listen(counts.tell)`. Looks into the records that it needs to alone."""

    def __init__(self) -> None:
        self.records: Counter[str] = Counter()  # by type
        self.runs: Counter[str] = Counter()  # by the status that they have got
        self.steps = 0
        self.calls: Counter[tuple[str, str]] = Counter()  # by model and outcome
        self.tokens: Counter[tuple[str, str]] = Counter()  # by model and kind
        self.cost: dict[str, float] = {}  # USD by model
        self.errors: Counter[str] = Counter()  # by severity
        self._models: set[str] = set()
        self._of: Mapping[str, Callable[[bytes], None]] = {
            RecordType.RUN: self._run,
            RecordType.STEP: self._step,
            RecordType.LLM_RESPONSE: self._response,
            RecordType.TOKEN_USAGE: self._usage,
            RecordType.COST: self._cost,
            RecordType.ERROR: self._error,
        }

    def tell(self, records: Sequence[CommittedRecord]) -> None:
        """Counts what was committed."""
        for record in records:
            kind = record.record_type
            self.records[kind] += 1
            count = self._of.get(kind)
            if count is not None:
                count(record.line)

    def _run(self, line: bytes) -> None:
        self.runs[_fields(line)["status"]] += 1

    def _step(self, line: bytes) -> None:
        self.steps += b'"phase":"end"' in line

    def _response(self, line: bytes) -> None:
        fields = _fields(line)
        self.calls[self._model(fields), "failed" if fields.get("error") else "succeeded"] += 1

    def _usage(self, line: bytes) -> None:
        fields = _fields(line)
        model = self._model(fields)
        for kind in _TOKENS:
            self.tokens[model, kind] += fields.get(f"{kind}_tokens") or 0

    def _cost(self, line: bytes) -> None:
        fields = _fields(line)
        amount = fields.get("amount")
        if amount is not None:
            model = self._model(fields)
            self.cost[model] = self.cost.get(model, 0.0) + float(amount)

    def _error(self, line: bytes) -> None:
        self.errors[str(_fields(line).get("severity"))] += 1

    def _model(self, fields: Mapping[str, Any]) -> str:
        model = str(fields.get("model"))
        if model not in self._models:
            if len(self._models) >= MAX_LABELS:
                return OTHERS
            self._models.add(model)
        return model


def _fields(line: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = orjson.loads(line)
    return fields

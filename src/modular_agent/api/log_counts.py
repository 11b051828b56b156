"""What the log has been told since the start of the process: runs, steps, model calls, tokens, money, errors."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

import orjson

from modular_agent.events import CommittedRecord, RecordType

__all__ = ["LogCounts"]

MAX_LABELS: Final = 200  # models; what comes after is counted together
OTHERS: Final = "(others)"
_TOKENS: Final = tuple(
    (kind, f"{kind}_tokens") for kind in ("prompt", "completion", "cached", "cache_write", "reasoning")
)
_record_type: Final = attrgetter("record_type")


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
        self._of: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
            RecordType.RUN: self._run,
            RecordType.STEP: self._step,
            RecordType.LLM_RESPONSE: self._response,
            RecordType.TOKEN_USAGE: self._usage,
            RecordType.COST: self._cost,
            RecordType.ERROR: self._error,
        }

    def tell(self, records: Sequence[CommittedRecord]) -> None:
        """Counts what was committed."""
        self.records.update(map(_record_type, records))
        for record in records:
            count = self._of.get(record.record_type)
            if count is not None:
                count(record.fields or orjson.loads(record.line))

    def _run(self, fields: Mapping[str, Any]) -> None:
        self.runs[fields["status"]] += 1

    def _step(self, fields: Mapping[str, Any]) -> None:
        self.steps += fields.get("phase") == "end"

    def _response(self, fields: Mapping[str, Any]) -> None:
        self.calls[self._model(fields), "failed" if fields.get("error") else "succeeded"] += 1

    def _usage(self, fields: Mapping[str, Any]) -> None:
        model, tokens = self._model(fields), self.tokens
        for kind, field in _TOKENS:
            tokens[model, kind] += fields.get(field) or 0

    def _cost(self, fields: Mapping[str, Any]) -> None:
        amount = fields.get("amount")
        if amount is not None:
            model = self._model(fields)
            self.cost[model] = self.cost.get(model, 0.0) + float(amount)

    def _error(self, fields: Mapping[str, Any]) -> None:
        self.errors[str(fields.get("severity"))] += 1

    def _model(self, fields: Mapping[str, Any]) -> str:
        model = str(fields.get("model"))
        if model not in self._models:
            if len(self._models) >= MAX_LABELS:
                return OTHERS
            self._models.add(model)
        return model

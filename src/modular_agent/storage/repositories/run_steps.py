"""The steps that make runs and change them. A status changes by `transition_run` only, as `lifecycle` allows.

Starts and ends of many runs come in one transaction: each is done for all of them together.
"""

import sqlite3
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import orjson

from modular_agent.errors import AgentError
from modular_agent.kit.dataclass import dataclass
from modular_agent.lifecycle import (
    ENDED_RUN_STATUSES,
    SESSION_STATUS_OF_RUN,
    RunHold,
    RunStatus,
    check_run_transition,
)
from modular_agent.storage.errors import RunAlreadyActive, RunUnknown, SessionMoved, SessionUnknown, StaleEpoch
from modular_agent.storage.models import ACTIVE_STATUSES_SQL, runs
from modular_agent.storage.repositories.runs import (
    HOLD,
    KEEP,
    PLACES,
    Keep,
    NewRun,
    RunChange,
    RunRow,
)
from modular_agent.storage.repositories.standing import has_moved
from modular_agent.storage.rollup_changes import RunSums
from modular_agent.storage.sql import column_list, in_pieces, value_rows
from modular_agent.storage.unit_of_work import CommonStep, SessionStanding

__all__ = ["change_pending", "change_run", "create_run", "transition_run"]

_ACTIVE: Final = f"LEFT JOIN runs a ON a.session_n = s.n AND a.{ACTIVE_STATUSES_SQL}"
_STARTING: Final = (
    "SELECT json_group_array(json_array(s.session_id, s.n, s.tenant, s.workflow_id, s.last_seq,"
    " (SELECT max(created_at) FROM runs WHERE session_n = s.n), a.run_id, a.status))"
    f" FROM sessions s {_ACTIVE} WHERE s.session_id IN (SELECT value FROM json_each(?)) AND s.deleted_at IS NULL"
)
_CHANGING: Final = (
    "SELECT json_group_array(json_array(s.tenant, s.workflow_id, a.run_id, a.status,"
    f" json_array({column_list(runs, alias='r')}))) FROM runs r JOIN sessions s ON s.n = r.session_n {_ACTIVE}"
    " WHERE r.run_id IN (SELECT value FROM json_each(?))"
)
_FIXED: Final = ("run_id", "session_n", "input", "created_at", "first_seq")
_CHANGED: Final = tuple(name for name in PLACES if name not in _FIXED)
_UPDATE_HEAD: Final = f"WITH v(run_id, {', '.join(_CHANGED)}) AS (VALUES"
_UPDATE_TAIL: Final = (
    f") UPDATE runs SET {', '.join(f'{name} = v.{name}' for name in _CHANGED)} FROM v WHERE runs.run_id = v.run_id"
)


class _Session(NamedTuple):
    """What a new run has to know of its session."""

    n: int
    tenant: str
    workflow_id: str
    last_seq: int
    last_run_at: int | None
    active: str | None
    active_status: str | None


class _Stored(NamedTuple):
    """A run as it is, with its session's owner and active run."""

    tenant: str
    workflow_id: str
    active: str | None
    active_status: str | None
    row: list[Any]  # SQL values


def create_run(new: NewRun) -> CommonStep[NewRun, RunRow]:
    """The step that creates a run as the session's active one and sets the session's status.

    To be a unit's `first` when the unit holds records of the run: `first_seq` is the session's newest `seq` then.
    Raises `RunAlreadyActive`, `SessionUnknown`, and `SessionMoved` when the session does not stand as it did at the
    record `since` of the new run.
    """
    return CommonStep(_create_runs, new, RunRow.of, _standing)


def _create_runs(connection: sqlite3.Connection, new: Sequence[NewRun]) -> list[list[Any] | Exception]:
    (found,) = connection.execute(_STARTING, (_json([each.session.session_id for each in new]),)).fetchone()
    sessions = {session_id: _Session(*rest) for session_id, *rest in orjson.loads(found)}
    answers = [_new_row(connection, each, sessions.get(each.session.session_id)) for each in new]
    made = [(each, row) for each, row in zip(new, answers, strict=True) if isinstance(row, list)]
    if made:
        for rows in in_pieces([row for _, row in made]):
            connection.execute(f"INSERT INTO runs VALUES {value_rows(rows)}", [*chain.from_iterable(rows)])
        sums = RunSums()
        for each, row in made:
            session = sessions[each.session.session_id]
            sums.start(session.tenant, session.workflow_id, created_at=row[PLACES["created_at"]])
        sums.store(connection)
    return answers


def _new_row(connection: sqlite3.Connection, new: NewRun, session: _Session | None) -> list[Any] | Exception:
    """The run's row, or why there cannot be one."""
    if session is None:
        return SessionUnknown(session_id=new.session.session_id)
    if session.active is not None:
        return RunAlreadyActive(run_id=session.active, status=str(session.active_status))
    if new.since not in {None, session.last_seq} and has_moved(connection, session.n, since=int(new.since or 0)):
        return SessionMoved(session_id=new.session.session_id)
    created = max(new.now_us, session.last_run_at or 0)  # a session's last run is the newest one
    started = created if new.status is RunStatus.RUNNING else None
    pending = {HOLD: RunHold.PAUSE} if new.status is RunStatus.PAUSED else None  # it waits for somebody's word
    texts = (_json(new.input), _json(new.limits), "{}", None if pending is None else _json(pending))
    times = (created, started, None, 0)
    return [
        *(new.run_id, session.n, new.status.value, new.epoch, *texts, *times),
        *(session.last_seq, None, 0, None, None),
    ]


@dataclass(frozen=True, slots=True)
class _Transition:
    run_id: str
    target: RunStatus
    now_us: int
    expected_epoch: int | None
    expected_hold: RunHold | Keep | None
    raise_epoch: bool
    change: RunChange


def transition_run(
    run_id: str,
    target: RunStatus,
    *,
    now_us: int,
    expected_epoch: int | None = None,
    expected_hold: RunHold | Keep | None = KEEP,
    raise_epoch: bool = False,
    change: RunChange | None = None,
) -> CommonStep[_Transition, RunRow]:
    """The step that changes a run's status, and its session's with it; its result is the changed run.

    `started_at` is set by the first start, `ended_at` by an end (and taken away by a retry). Raises `RunUnknown`,
    `StaleEpoch` (also when the run is not held as expected any more), `IllegalTransition`, and `RunAlreadyActive` when
    a retry meets another active run.
    """
    change = change or RunChange()
    transition = _Transition(run_id, target, now_us, expected_epoch, expected_hold, raise_epoch, change)
    return CommonStep(_transition_runs, transition, RunRow.of, _standing, apart=True)


def _transition_runs(connection: sqlite3.Connection, transitions: Sequence[_Transition]) -> list[list[Any] | Exception]:
    found = _stored(connection, [each.run_id for each in transitions])
    answers = [_transitioned(each, found.get(each.run_id)) for each in transitions]
    changed = [(each, row) for each, row in zip(transitions, answers, strict=True) if isinstance(row, list)]
    if changed:
        _store(connection, [row for _, row in changed])
        sums = RunSums()
        for each, row in changed:
            before = found[each.run_id]
            _count_end(sums, before, before.row, sign=-1)  # a run counts where it last ended
            _count_end(sums, before, row, sign=1)
        sums.store(connection)
    return answers


def _transitioned(wanted: _Transition, stored: _Stored | None) -> list[Any] | Exception:
    """The run's new row, or why it cannot change."""
    try:
        row = _required(stored, wanted.run_id, wanted.expected_epoch, wanted.expected_hold)
        check_run_transition(RunStatus(row[PLACES["status"]]), wanted.target)
    except AgentError as error:
        return error
    assert stored is not None
    if row[PLACES["status"]] in ENDED_RUN_STATUSES and stored.active is not None:
        return RunAlreadyActive(run_id=stored.active, status=str(stored.active_status))
    wanted.change.apply(row)
    row[PLACES["status"]] = wanted.target.value
    row[PLACES["epoch"]] += int(wanted.raise_epoch)
    row[PLACES["ended_at"]] = wanted.now_us if wanted.target in ENDED_RUN_STATUSES else None
    if wanted.target is RunStatus.RUNNING and row[PLACES["started_at"]] is None:
        row[PLACES["started_at"]] = wanted.now_us
    return row


def change_run(
    run_id: str,
    change: RunChange,
    *,
    expected_epoch: int | None = None,
    expected_hold: RunHold | Keep | None = KEEP,
    raise_epoch: bool = False,
) -> Callable[[sqlite3.Connection], RunRow]:
    """The step that changes a run but not its status. Raises `RunUnknown`, `StaleEpoch` (as `transition_run`)."""

    def step(connection: sqlite3.Connection) -> RunRow:
        row = _required(_stored(connection, [run_id]).get(run_id), run_id, expected_epoch, expected_hold)
        change.apply(row)
        row[PLACES["epoch"]] += int(raise_epoch)
        _store(connection, [row])
        return RunRow.of(row)

    return step


def change_pending(
    run_id: str, change: Callable[[Any], Any], *, expected_epoch: int | None = None
) -> Callable[[sqlite3.Connection], RunRow]:
    """The step that makes a run's `pending` what `change` makes of it. Raises `RunUnknown`, `StaleEpoch`.

    Of two at once none is lost: each sees what the one before it left.
    """

    def step(connection: sqlite3.Connection) -> RunRow:
        row = _required(_stored(connection, [run_id]).get(run_id), run_id, expected_epoch)
        RunChange(pending=change(RunRow.of(row).pending)).apply(row)
        _store(connection, [row])
        return RunRow.of(row)

    return step


def _stored(connection: sqlite3.Connection, run_ids: Sequence[str]) -> dict[str, _Stored]:
    (found,) = connection.execute(_CHANGING, (_json(run_ids),)).fetchone()
    return {each[-1][0]: _Stored(*each) for each in orjson.loads(found)}


def _required(stored: _Stored | None, run_id: str, epoch: int | None, hold: RunHold | Keep | None = KEEP) -> list[Any]:
    """A copy of the run's row."""
    if stored is None:
        raise RunUnknown(run_id=run_id)
    current = stored.row[PLACES["epoch"]]
    if epoch not in {None, current} or (hold is not KEEP and RunRow.of(stored.row).hold is not hold):
        raise StaleEpoch(run_id=run_id, epoch=current if epoch is None else epoch)
    return list(stored.row)


def _store(connection: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> None:
    values = [[row[0], *(row[PLACES[name]] for name in _CHANGED)] for row in rows]
    for piece in in_pieces(values):
        connection.execute(
            f"{_UPDATE_HEAD} {value_rows(piece)}{_UPDATE_TAIL}",
            [*chain.from_iterable(piece)],
        )


def _count_end(sums: RunSums, owner: _Stored, row: Sequence[Any], *, sign: int) -> None:
    if row[PLACES["ended_at"]] is not None:
        sums.end(
            owner.tenant,
            owner.workflow_id,
            RunStatus(row[PLACES["status"]]),
            ended_at=row[PLACES["ended_at"]],
            active_us=row[PLACES["active_us"]],
            sign=sign,
        )


def _standing(changed: NewRun | _Transition, row: Sequence[Any]) -> SessionStanding:
    """How a session stands by its run's row."""
    status = RunStatus(row[PLACES["status"]])
    current = None if status in ENDED_RUN_STATUSES else row[PLACES["run_id"]]
    return SessionStanding(row[PLACES["session_n"]], SESSION_STATUS_OF_RUN[status].value, current, changed.now_us)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()

import pytest

from modular_agent.lifecycle import RunStatus
from modular_agent.storage.repositories.checkpoint_pruning import (
    copy_checkpoint,
    copy_checkpoints,
    delete_checkpoints,
    delete_checkpoints_of_runs,
    drop_log_items,
    prune_checkpoints,
    prune_to_newest,
)
from modular_agent.storage.repositories.checkpoints import (
    CheckpointRepository,
    CheckpointRow,
    WriteRow,
    put_checkpoint,
    put_log_items,
    put_writes,
    save_checkpoint,
)
from modular_agent.storage.repositories.run_steps import transition_run
from modular_agent.storage.unit_of_work import UnitOfWork


@pytest.fixture
def repository(database):
    return CheckpointRepository(database.readers)


@pytest.fixture
async def session(make_session):
    return await make_session()


@pytest.fixture
def do(database):
    async def commit(step):
        return (await database.writer.commit(UnitOfWork(then=step))).result

    return commit


def checkpoint(session, name, *, ns="", root=None, run="run_1", parent=None, content=b"\x00\xff"):
    return CheckpointRow(session.n, ns, name, parent, root, run, 1, "loop", 5, None, "msgpack", content, b'{"a":1}')


def write(session, name, *, ns="", task="t", idx=0, path="", value=b"v"):
    return WriteRow(session.n, ns, name, task, idx, path, "channel", "msgpack", value)


@pytest.fixture
async def history(database, session):
    """Root checkpoints 1 to 6 of two runs, a write after each, and a sub-graph with two checkpoints below 2 and 5."""
    unit: UnitOfWork[None] = UnitOfWork()
    for n in range(1, 7):
        run = f"run_{(n + 2) // 3}"
        put_checkpoint(unit, checkpoint(session, f"{n}", parent=f"{n - 1}" if n > 1 else None, run=run))
        put_writes(unit, [write(session, f"{n}")], replace=False)
        if n in (2, 5):
            for sub in "ab":
                row = checkpoint(session, f"{n}{sub}", ns=f"sub:{n}", root=f"{n}", run=run)
                put_checkpoint(unit, row)
                put_writes(unit, [write(session, row.checkpoint_id, ns=row.ns)], replace=False)
    await database.writer.commit(unit)


async def ids(repository, session, ns=None):
    return sorted(found.row.checkpoint_id for found in await repository.page(session, ns=ns))


async def written(database, session):
    rows = await database.readers.query(
        "SELECT checkpoint_id FROM checkpoint_writes WHERE session_n = ? ORDER BY 1", (session.n,)
    )
    return [row[0] for row in rows]


async def test_the_newest_is_loaded_with_its_writes_in_order(database, repository, session, history):
    unit: UnitOfWork[None] = UnitOfWork()
    order = [("", "b", -1), ("", "b", 0), ("~1", "a", 0), ("~1", "a", 1), ("~1", "c", 0)]
    rows = [write(session, "6", task=task, idx=idx, path=path) for path, task, idx in order]
    put_writes(unit, rows[::-1], replace=False)
    await database.writer.commit(unit)
    found = await repository.load(session)
    assert found.row == checkpoint(session, "6", parent="5", run="run_2")
    assert [(w.task_path, w.task_id, w.idx) for w in found.writes] == [*order[:2], ("", "t", 0), *order[2:]]
    assert await repository.newest_id(session) == "6"
    assert (await repository.load(session, checkpoint_id="3")).row.parent_id == "2"
    assert (await repository.load(session, ns="sub:5")).row.checkpoint_id == "5b"
    assert await repository.load(session, checkpoint_id="none") is None
    assert await repository.newest_id(session, ns="none") is None


async def test_writes_that_are_there_are_kept_or_replaced(database, repository, session, history):
    for replace, expected in ((False, b"v"), (True, b"new")):
        unit: UnitOfWork[None] = UnitOfWork()
        put_writes(unit, [write(session, "6", value=b"new")], replace=replace)
        await database.writer.commit(unit)
        assert [w.value for w in (await repository.load(session)).writes] == [expected]


async def test_lists_are_newest_first_and_filtered(repository, session, history, make_session):
    async def names(**filters):
        return [found.row.checkpoint_id for found in await repository.page(session, **filters)]

    assert await names(ns="", limit=2) == ["6", "5"]
    assert await names(ns="", before="4") == ["3", "2", "1"]
    assert await names(ns="", run_id="run_1") == ["3", "2", "1"]
    assert await names(ns="sub:2") == ["2b", "2a"]
    assert await names(checkpoint_id="4") == ["4"]
    assert len(await repository.page(None)) == 10
    assert (await repository.page(None, limit=1))[0].session == session
    assert [(s.checkpoint_id, s.size) for s in await repository.summaries(session, limit=2, before="6")] == [
        ("5", 2),
        ("4", 2),
    ]


async def test_pruning_keeps_the_newest_the_saved_and_the_protected(database, repository, session, history, do):
    assert await do(save_checkpoint(session, name="good", checkpoint_id="2")) == "2"
    assert await do(prune_checkpoints(session, keep=1, protect=["3"])) == 5
    assert await ids(repository, session) == ["2", "2a", "2b", "3", "6"]
    assert await written(database, session) == ["2", "2a", "2b", "3", "6"]
    assert await do(prune_checkpoints(session, keep=1, protect=["3"])) == 0


async def test_pruning_to_the_newest_of_each_namespace(database, repository, session, history, do):
    assert await do(prune_to_newest(session)) == 7
    assert await ids(repository, session) == await written(database, session) == ["2b", "5b", "6"]
    assert await do(prune_to_newest(session, keep=0)) == 3


async def test_replacing_a_checkpoint_keeps_its_saved_name(database, repository, session, history, do):
    await do(save_checkpoint(session, name="good", checkpoint_id="4"))
    unit: UnitOfWork[None] = UnitOfWork()
    put_checkpoint(unit, checkpoint(session, "4", content=b"new"))
    await database.writer.commit(unit)
    row = (await repository.load(session, checkpoint_id="4")).row
    assert (row.saved_name, row.checkpoint) == ("good", b"new")


async def test_the_newest_is_saved_by_default(repository, session, history, do, make_session):
    assert await do(save_checkpoint(session, name="now")) == "6"
    assert (await repository.load(session)).row.saved_name == "now"
    assert await do(save_checkpoint(await make_session("empty"), name="x")) is None


async def test_what_a_run_saved_is_deleted_with_its_sub_graphs(database, repository, session, history, do):
    assert await do(delete_checkpoints_of_runs(["run_2"])) == 5
    assert await ids(repository, session) == await written(database, session) == ["1", "2", "2a", "2b", "3"]


async def test_log_items_are_read_below_each_length(database, repository, session):
    unit: UnitOfWork[None] = UnitOfWork()
    values = [b"", b"\x00", b"a b", bytes(range(256))]
    put_log_items(unit, session, "one", start=0, values=values)
    put_log_items(unit, session, "two", start=0, values=[b"x", b"y"])
    await database.writer.commit(unit)
    assert await repository.log_items(session, [("two", 1), ("one", 4)]) == [b"x", *values]
    found = await repository.log_segments(session, [("two", 1), ("one", 4), ("one", 0), ("none", 5), ("one", 1)])
    assert [(items.values, items.more) for items in found] == [
        ([b"x"], True),
        (values, False),
        ([], True),
        ([], False),
        ([b""], True),
    ]
    assert await repository.segment_lengths(session, ["one", "two", "none"]) == {"one": 4, "two": 2}


async def test_log_items_are_dropped_only_when_nothing_can_refer_to_them(
    database, repository, session, history, do, make_run
):
    unit: UnitOfWork[None] = UnitOfWork()
    for segment in ("kept", "cut", "gone"):
        put_log_items(unit, session, segment, start=0, values=[b"1", b"2", b"3"])
    await database.writer.commit(unit)
    known = await ids(repository, session)
    lengths = {"kept": 3, "cut": 1}
    assert await do(drop_log_items(session, lengths=lengths, checkpoint_ids=known[:-1])) is None
    run = await make_run(session)
    assert await do(drop_log_items(session, lengths=lengths, checkpoint_ids=known)) is None
    await do(transition_run(run.run_id, RunStatus.COMPLETED, now_us=1))
    assert await do(drop_log_items(session, lengths=lengths, checkpoint_ids=known)) == 5
    assert await repository.segment_lengths(session, ["kept", "cut", "gone"]) == {"kept": 3, "cut": 1}


async def test_a_fork_has_one_checkpoint_and_what_it_refers_to(
    database, repository, session, history, do, make_session
):
    unit: UnitOfWork[None] = UnitOfWork()
    put_log_items(unit, session, "one", start=0, values=[b"1", b"2", b"3"])
    await database.writer.commit(unit)
    target = await make_session("fork")
    assert await do(copy_checkpoint(session, target, checkpoint_id="5", segments={"one": 2}, pending=False))
    found = await repository.load(target)
    assert (found.row.checkpoint_id, found.row.parent_id, found.row.run_id, found.writes) == ("5", None, None, ())
    assert await repository.log_items(target, [("one", 9)]) == [b"1", b"2"]
    whole = await make_session("whole")
    assert await do(copy_checkpoint(session, whole, checkpoint_id="5", segments={}, pending=True))
    assert await ids(repository, whole) == await written(database, whole) == ["5", "5a", "5b"]
    assert not await do(copy_checkpoint(session, whole, checkpoint_id="none", segments={}, pending=True))
    await do(delete_checkpoints_of_runs(["run_2"]))
    assert await ids(repository, whole) == ["5", "5a", "5b"]


async def test_everything_is_copied_and_deleted(database, repository, session, history, do, make_session):
    target = await make_session("copy")
    await do(copy_checkpoints(session, target))
    assert await ids(repository, target) == await ids(repository, session) == await written(database, target)
    await do(delete_checkpoints(session))
    assert await ids(repository, session) == await written(database, session) == []
    assert len(await ids(repository, target)) == 10

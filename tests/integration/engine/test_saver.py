"""The saver beyond LangGraph's suite: order, ownership, the append log, pruning."""

import asyncio
import operator
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base import id as made
from langgraph.graph import END, START, StateGraph
from langgraph.types import Overwrite

from integration.engine.saver_lab import Savers, config_of, ids, open_savers
from modular_agent.engine.channels import AppendLog
from modular_agent.engine.checkpoints import Saver
from modular_agent.engine.store import Facts, RunKey
from modular_agent.lifecycle import RunStatus
from modular_agent.storage.errors import StaleEpoch
from modular_agent.storage.repositories.run_steps import transition_run
from modular_agent.storage.unit_of_work import UnitOfWork


class Talk(TypedDict):
    messages: Annotated[list[Any], AppendLog()]
    other: str


@pytest.fixture
async def savers(tmp_path: Path) -> AsyncIterator[Savers]:
    async with open_savers(tmp_path / "data") as opened:
        yield opened


def chain(savers: Savers, *names: str, seen: list[str] | None = None) -> Any:
    builder = StateGraph(Talk)
    for name in names:

        async def node(state: Talk, name: str = name) -> dict[str, Any]:
            if seen is not None:
                seen.append(name)
            return {"messages": [{"role": "assistant", "content": name}]}

        builder.add_node(name, node)
    for a, b in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(a, b)
    return builder.compile(checkpointer=savers.saver)


async def test_compiling_copies_the_saver_but_not_what_changes(savers: Savers) -> None:
    graph = chain(savers, "a")
    assert graph.checkpointer is not savers.saver
    assert vars(graph.checkpointer)["_cache"] is vars(savers.saver)["_cache"]


async def test_rows_are_committed_in_the_order_of_the_calls(savers: Savers) -> None:
    session = await savers.session()
    binding = await savers.start(session)
    handed_over: list[Facts] = []
    commit = binding.commit

    def watched(run: RunKey, facts: Facts) -> Awaitable[object]:  # the real one, told of in the order of its calls
        handed_over.append(facts)
        return commit(run, facts)

    binding.commit = watched
    graph = chain(savers, "a", "b")
    await graph.ainvoke({"messages": []}, config_of("s-1", binding=binding), durability="sync")
    await binding.durable()
    assert [new.row.step for facts in handed_over for new in facts.checkpoints] == [0, 1, 2]
    stored: set[str] = set()
    for facts in handed_over:  # what a task wrote comes with or after the checkpoint it started from
        stored |= {new.row.checkpoint_id for new in facts.checkpoints}
        assert {write.checkpoint_id for write in facts.writes} <= stored
    rows = await savers.rows("SELECT step FROM checkpoints WHERE session_n = ? ORDER BY checkpoint_id", session.n)
    assert [step for (step,) in rows] == [0, 1, 2]


async def test_after_one_refused_write_at_most_the_step_in_flight_runs(savers: Savers) -> None:
    session = await savers.session()
    binding = await savers.start(session)
    seen: list[str] = []
    builder = StateGraph(Talk)

    async def taken_over(state: Talk) -> dict[str, Any]:
        await binding.durable()  # as each of our nodes does before it acts
        step = transition_run("run_1", RunStatus.STOPPING, now_us=2, expected_epoch=1, raise_epoch=True)
        await savers.database.writer.commit(UnitOfWork(then=step))
        return {"messages": ["a"]}

    def later(name: str) -> Any:
        async def node(state: Talk) -> dict[str, Any]:
            await binding.durable()
            seen.append(name)
            return {"messages": [name]}

        return node

    builder.add_node("taken_over", taken_over)
    for name in ("b", "c", "d"):
        builder.add_node(name, later(name))
    for a, b in zip([START, "taken_over", "b", "c", "d"], ["taken_over", "b", "c", "d", END], strict=True):
        builder.add_edge(a, b)
    graph = builder.compile(checkpointer=savers.saver)
    with pytest.raises(StaleEpoch):
        await graph.ainvoke({"messages": []}, config_of("s-1", binding=binding), durability="sync")
    assert len(seen) <= 1
    assert isinstance(binding.failure, StaleEpoch)
    rows = await savers.rows("SELECT max(step) FROM checkpoints WHERE session_n = ?", session.n)
    assert rows == [(0,)]
    assert await savers.rows("SELECT value FROM log_items") == []


async def test_an_owner_that_lost_the_run_cannot_even_store_its_input(savers: Savers) -> None:
    session = await savers.session()
    binding = await savers.start(session)
    step = transition_run("run_1", RunStatus.STOPPING, now_us=2, expected_epoch=1, raise_epoch=True)
    await savers.database.writer.commit(UnitOfWork(then=step))

    async def run() -> None:
        await chain(savers, "a", "b").ainvoke({"messages": []}, config_of("s-1", binding=binding), durability="sync")
        await binding.durable()

    with pytest.raises(StaleEpoch):
        await run()
    assert await savers.rows("SELECT count(*) FROM checkpoints") == [(0,)]


# -- the append log --------------------------------------------------------------------------------------------


async def _segments(savers: Savers, session_n: int) -> list[tuple[str, int]]:
    return await savers.rows(
        "SELECT segment, count(*) FROM log_items WHERE session_n = ? GROUP BY segment ORDER BY segment", session_n
    )


async def test_ordinary_turns_never_add_a_segment_and_cost_the_same(savers: Savers) -> None:
    session = await savers.session()
    graph = chain(savers, "a", "b")

    async def turn(n: int) -> int:
        before = await savers.rows("SELECT coalesce(sum(length(checkpoint)), 0) FROM checkpoints")
        writes = await savers.rows("SELECT coalesce(sum(length(value)), 0) FROM checkpoint_writes")
        items = await savers.rows("SELECT coalesce(sum(length(value)), 0) FROM log_items")
        await graph.ainvoke({"messages": [f"question {n:5}"]}, config_of("s-1"), durability="sync")
        total = 0
        for text, old in (
            ("SELECT sum(length(checkpoint)) FROM checkpoints", before),
            ("SELECT sum(length(value)) FROM checkpoint_writes", writes),
            ("SELECT sum(length(value)) FROM log_items", items),
        ):
            total += (await savers.rows(text))[0][0] - old[0][0]
        return total

    sizes = [await turn(n) for n in range(301)]
    assert abs(sizes[300] - sizes[10]) <= sizes[10] * 0.05
    segments = await _segments(savers, session.n)
    assert [count for _, count in segments] == [301 * 3]
    state = await graph.aget_state(config_of("s-1"))
    assert len(state.values["messages"]) == 903


async def test_an_overwrite_begins_a_new_list_and_the_old_head_stays_readable(savers: Savers) -> None:
    session = await savers.session()
    graph = chain(savers, "a")
    await graph.ainvoke({"messages": ["one"]}, config_of("s-1"), durability="sync")
    old = await graph.aget_state(config_of("s-1"))
    await graph.aupdate_state(config_of("s-1"), {"messages": Overwrite(["edited"])}, as_node="a")
    await graph.ainvoke({"messages": ["two"]}, config_of("s-1"), durability="sync")
    vars(savers.saver)["_cache"].drop(session.n)
    new = await graph.aget_state(config_of("s-1"))
    said = {"role": "assistant", "content": "a"}
    assert new.values["messages"] == ["edited", "two", said]
    again = await graph.aget_state(old.config)
    assert again.values["messages"] == ["one", said]
    assert len(await _segments(savers, session.n)) == 2


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_head_of_every_branch_stays_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Appends, replacements and forks at any old head, in any order: each head reads what was written to it."""
    plan = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from(["append", "append", "overwrite"]),
                st.integers(0, 50),
                st.lists(st.integers(0, 9), max_size=3),
                st.booleans(),
            ),
            max_size=12,
        )
    )
    asyncio.run(_play(tmp_path_factory.mktemp("saver"), plan))


async def _play(path: Path, plan: list[tuple[str, int, list[int], bool]]) -> None:
    builder = StateGraph(Talk)
    builder.add_node("keep", lambda state: {})
    builder.add_edge(START, "keep")
    async with open_savers(path) as savers:
        graph = builder.compile(checkpointer=savers.saver)
        session = await savers.session()
        first = await graph.aupdate_state(config_of("s-1"), {"messages": [0]}, as_node="keep")
        heads: list[tuple[Any, list[int]]] = [(first, [0])]
        for kind, where, items, forget in plan:
            config, known = heads[where % len(heads)]
            write: Any = Overwrite(items) if kind == "overwrite" else items
            if forget:
                savers.saver.forget(session)
            made = await graph.aupdate_state(config, {"messages": write}, as_node="keep")
            heads.append((made, items if kind == "overwrite" else [*known, *items]))
        for forget in (False, True):
            for config, known in heads:
                if forget:
                    savers.saver.forget(session)
                assert (await graph.aget_state(config)).values["messages"] == known


# -- graphs of users with delta channels -----------------------------------------------------------------------


def _extend(state: list[Any], writes: list[Any]) -> list[Any]:
    return [*state, *(item for write in writes for item in write)]


class Deltas(TypedDict):
    found: Annotated[list[Any], DeltaChannel(_extend, list, snapshot_frequency=5)]
    count: Annotated[int, operator.add]


async def _delta_graph(savers: Savers) -> Any:
    builder = StateGraph(Deltas)
    builder.add_node("find", lambda state: {"found": [state.get("count", 0)], "count": 1})
    builder.add_edge(START, "find")
    return builder.compile(checkpointer=savers.saver)


@pytest.mark.parametrize("turns", [1, 3, 7, 12])
async def test_pruning_leaves_a_delta_channel_whole(savers: Savers, turns: int) -> None:
    graph = await _delta_graph(savers)
    session = await savers.session()
    for _ in range(turns):
        await graph.ainvoke({"count": 0, "found": ["in"]}, config_of("s-1"), durability="sync")
    before = (await graph.aget_state(config_of("s-1"))).values
    await savers.saver.aprune(["s-1"])
    assert (await graph.aget_state(config_of("s-1"))).values == before
    await graph.ainvoke({"count": 0, "found": ["in"]}, config_of("s-1"), durability="sync")
    after = (await graph.aget_state(config_of("s-1"))).values
    assert after["found"] == [*before["found"], "in", turns]
    assert session.n


async def test_pruning_a_delta_channel_still_deletes_what_lies_before_its_snapshot(savers: Savers) -> None:
    graph = await _delta_graph(savers)
    for _ in range(12):
        await graph.ainvoke({"count": 0, "found": ["in"]}, config_of("s-1"), durability="sync")
    before = ids([each async for each in savers.saver.alist(config_of("s-1"))])
    await savers.saver.aprune(["s-1"])
    after = ids([each async for each in savers.saver.alist(config_of("s-1"))])
    assert after == before[: len(after)]
    assert 1 <= len(after) < len(before) / 2


async def test_metadata_is_stored_with_the_run_that_made_the_checkpoint(savers: Savers) -> None:
    session = await savers.session()
    binding = await savers.start(session)
    await chain(savers, "a").ainvoke({"messages": []}, config_of("s-1", binding=binding), durability="sync")
    await binding.durable()
    rows = await savers.rows("SELECT DISTINCT run_id, metadata FROM checkpoints WHERE step = 1")
    assert [(run_id, orjson.loads(metadata)["run_id"]) for run_id, metadata in rows] == [("run_1", "run_1")]


@pytest.mark.parametrize("holds_root", [False, True], ids=["all is read", "the session's own is known"])
async def test_a_graph_inside_goes_on_after_its_newest_when_the_clock_was_set_back(
    savers: Savers, monkeypatch: pytest.MonkeyPatch, holds_root: bool
) -> None:
    root, inner = config_of("s-1"), config_of("s-1", checkpoint_ns="inner:1")
    await savers.saver.aput(root, {**empty_checkpoint(), "id": str(made.uuid6())}, {"source": "loop", "step": 1}, {})
    for _ in range(3):  # the graph inside has gone further than the session's own
        newest = str(made.uuid6())
        await savers.saver.aput(inner, {**empty_checkpoint(), "id": newest}, {"source": "loop", "step": 2}, {})
    # Another process, an hour earlier by its clock.
    monkeypatch.setattr(made, "_last_v6_timestamp", None)
    monkeypatch.setattr(made.time, "time_ns", lambda now=made.time.time_ns: now() - 3_600 * 10**9)
    after_restart = savers.saver if holds_root else Saver(savers.store)
    await after_restart.aget_tuple(root)
    found = await after_restart.aget_tuple(inner)
    assert found is not None
    assert found.checkpoint["id"] == newest
    assert str(made.uuid6()) > newest

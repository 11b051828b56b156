"""A disk that is full, that can only be read, or that refuses to let files grow, under a server with runs in progress.

Nothing that was acknowledged is lost, who asks is told, and everything goes on when there is room again: without a
restart, without a person.
"""

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from chaos.consistency import check_ledger, check_session
from chaos.planned_model import PlannedModel
from chaos.workflows import KINDS, run_input
from chaos.world import ChaosServer, until_status
from servers.server_process import StartFailed, eventually
from servers.small_disk import NoSmallDisk, SmallDisk

pytestmark = pytest.mark.timeout(120)
RUNS = 4


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    try:
        with SmallDisk(tmp_path / "data", megabytes=24) as disk:
            yield disk
    except NoSmallDisk as error:
        pytest.skip(f"a small disk needs user namespaces or root: {error}")


async def start_runs(server: ChaosServer, model: PlannedModel) -> dict[str, str]:
    """Sessions whose run was acknowledged, with their runs; they take some seconds."""
    model.delay, model.token_delay = 0.15, 0.02
    kinds = [KINDS[number % len(KINDS)] for number in range(RUNS)]
    sessions = [await server.create_session(kind) for kind in kinds]
    starts = [server.start_run(each, **run_input(kind)) for each, kind in zip(sessions, kinds, strict=True)]
    runs = [(await start)["run_id"] for start in starts]
    return dict(zip(sessions, runs, strict=True))


async def refused(server: ChaosServer, code: str) -> None:
    """Returns when a write has met the fault: until then there may be some room in what the database has already."""

    async def asked() -> bool:
        body = {"workflow_config_path": "workflows/talk.yaml", "metadata": {"filler": "x" * 50_000}}
        answer = await server.client.post("/sessions/", json=body)
        if answer.status_code == 201:
            return False
        assert answer.status_code == 503, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == code, answer.text
        return True

    await eventually(f"a write is refused: {code}", asked, within=30)


async def all_hold(server: ChaosServer, runs: dict[str, str]) -> None:
    """Returns when the server has noticed of every run that it cannot go on."""

    async def none_is_here() -> bool:
        figures = (await server.client.get("/metrics")).text
        return "modular_agent_runs_active 0" in figures

    await eventually("no run executes", none_is_here, within=30)
    held = {row[0] for row in server.query("SELECT run_id FROM runs WHERE status = 'running'")}
    assert held & set(runs.values()), "some were under way"


async def not_ready(server: ChaosServer, code: str) -> None:
    answer = await server.client.get("/ready")
    assert answer.status_code == 503, answer.text
    assert [fault["code"] for fault in answer.json()["errors"]] == [code]
    assert (await server.client.get("/health")).status_code == 200


async def everything_goes_on(server: ChaosServer, runs: dict[str, str]) -> None:
    async def ready() -> bool:
        return (await server.client.get("/ready")).status_code == 200

    await eventually("the server takes work", ready, within=10)
    await everything_is_done(server, runs)
    assert server.starts == 1, "nobody had to start it again"
    run = await server.start_run(await server.create_session("talk"), "Hello.", mode="wait")
    assert run["status"] == "completed"


async def everything_is_done(server: ChaosServer, runs: dict[str, str]) -> None:
    await until_status(server, runs, operator=server, within=60)
    for session_id, run_id in runs.items():
        await check_session(server, session_id)
        listed = (await server.get(f"/sessions/{session_id}/runs"))["runs"]
        assert [run["run_id"] for run in listed] == [run_id]
    check_ledger(server.ledger())


async def test_a_full_disk_loses_nothing_and_everything_goes_on_when_there_is_room(
    tmp_path: Path, model: PlannedModel, disk: SmallDisk
) -> None:
    async with ChaosServer(tmp_path, model.url, disk=disk) as server:
        runs = await start_runs(server, model)
        await asyncio.sleep(0.5)
        disk.fill()
        await refused(server, "storage_full")
        await all_hold(server, runs)
        await not_ready(server, "storage_full")
        seen = {session_id: await server.records(session_id) for session_id in runs}  # what is there can be read
        answer = await server.client.post(f"/sessions/{next(iter(runs))}/runs", json={"message": "Hello."})
        assert answer.status_code in (409, 503)
        disk.free()
        await everything_goes_on(server, runs)
        for session_id, records in seen.items():
            assert (await server.records(session_id))[: len(records)] == records, "what was read stays"


async def test_a_start_on_a_full_disk_waits_for_room_and_one_on_a_disk_that_can_only_be_read_says_so(
    tmp_path: Path, model: PlannedModel, disk: SmallDisk
) -> None:
    async with ChaosServer(tmp_path, model.url, disk=disk) as server:
        runs = await start_runs(server, model)
        await asyncio.sleep(0.5)
        await server.kill()
        if lock(disk):
            with pytest.raises(StartFailed, match="Read-only file system"):
                await server.start()
            disk.writable()
        disk.fill()
        await server.start()
        await not_ready(server, "storage_full")
        disk.free()
        await everything_is_done(server, runs)


def lock(disk: SmallDisk) -> bool:
    """Makes the disk read-only; False where only root may."""
    try:
        disk.read_only()
    except NoSmallDisk:
        return False
    return True


async def test_files_that_may_not_grow_for_a_while(tmp_path: Path, model: PlannedModel) -> None:
    """The operating system's limit on the size of files, set while the server runs: it needs no disk of its own."""
    async with ChaosServer(tmp_path, model.url) as server:
        runs = await start_runs(server, model)
        await asyncio.sleep(0.5)
        process: Any = psutil.Process(server.pid)
        process.rlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        await refused(server, "disk_failed")
        await all_hold(server, runs)
        await not_ready(server, "disk_failed")
        process.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await everything_goes_on(server, runs)


async def test_a_stop_on_a_full_disk_is_refused_and_done_when_there_is_room(
    tmp_path: Path, model: PlannedModel, disk: SmallDisk
) -> None:
    model.gate.clear()  # the model never ends
    async with ChaosServer(tmp_path, model.url, disk=disk) as server:
        session_id = await server.create_session("talk")
        await server.start_run(session_id, "Talk for long.")
        await eventually("the model speaks", lambda: _held(model))
        disk.fill()
        await refused(server, "storage_full")
        answer = await server.client.post(f"/sessions/{session_id}/stop", params={"wait": True})
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "storage_full"
        disk.free()
        await until_status(server, [session_id], "stopped")
        records = await server.records(session_id)
        assert [record["status"] for record in records if record["record_type"] == "run"][-1] == "stopped"


async def _held(model: PlannedModel) -> bool:
    return model.held > 0

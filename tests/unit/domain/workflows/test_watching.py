import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from modular_agent.domain.workflows.watching import is_watched, watch_folder
from modular_agent.storage.errors import StorageBusy


async def until(condition: Callable[[], Awaitable[bool]], *, limit: float = 10.0) -> None:
    async with asyncio.timeout(limit):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_a_changed_file_is_loaded_by_itself(opening: Any, write: Any) -> None:
    write("workflows/a.yaml", "a")
    async with opening(watch=True) as runtime:
        assert runtime.workflows.is_watching
        await asyncio.sleep(0.2)  # the watch has begun
        write("workflows/a.yaml", "a", seconds=0.02)
        write("workflows/b.yaml", "b")

        async def loaded() -> bool:
            row = await runtime.catalog.rows.get("b")
            return row is not None and len(await runtime.workflows.versions("a")) == 2

        await until(loaded)


async def test_a_broken_edit_is_told_and_a_mended_one_loaded_by_itself(opening: Any, write: Any) -> None:
    write("workflows/a.yaml", "a")
    async with opening(watch=True) as runtime:
        await asyncio.sleep(0.2)
        write("workflows/a.yaml", text="name: a\n")

        async def told() -> bool:
            return [file.workflow_id for file in runtime.workflows.broken] == ["a"]

        async def mended() -> bool:
            return not runtime.workflows.broken

        await until(told)
        assert (await runtime.workflows.get("a"))["node_count"] == 1
        write("workflows/a.yaml", "a", seconds=0.03)
        await until(mended)
        assert len(await runtime.workflows.versions("a")) == 2


async def test_in_production_nothing_is_watched(opening: Any) -> None:
    async with opening(watch=False) as runtime:
        assert not runtime.workflows.is_watching


async def test_watching_ends_at_once(tmp_path: Path) -> None:
    stop = asyncio.Event()

    async def changed() -> None: ...

    task = asyncio.create_task(watch_folder(tmp_path, changed, stop=stop))
    await asyncio.sleep(0.2)
    stop.set()
    await asyncio.wait_for(task, 1.0)


async def test_a_missing_folder_does_not_end_the_watching(tmp_path: Path) -> None:
    stop = asyncio.Event()

    async def changed() -> None: ...

    task = asyncio.create_task(watch_folder(tmp_path / "not-there", changed, stop=stop))
    await asyncio.sleep(0.1)
    assert not task.done()
    stop.set()
    await asyncio.wait_for(task, 1.0)


@pytest.mark.parametrize(("failure", "level"), [(LookupError("a fault of ours"), "error"), (StorageBusy(), "warning")])
async def test_a_failing_reload_does_not_end_the_watching(tmp_path: Path, failure: Exception, level: str) -> None:
    stop, calls = asyncio.Event(), 0

    async def changed() -> None:
        nonlocal calls
        calls += 1
        raise failure

    async def twice() -> bool:
        (tmp_path / "a.yaml").write_text(str(calls))
        return calls >= 2

    with structlog.testing.capture_logs() as lines:
        task = asyncio.create_task(watch_folder(tmp_path, changed, stop=stop))
        await until(twice)
        stop.set()
        await asyncio.wait_for(task, 1.0)
    assert {line["log_level"] for line in lines} == {level}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("workflows/a.yaml", True),
        ("prompts/a.md", True),
        ("tools/a.py", True),
        ("workflows/.a.yaml.swp", False),
        ("workflows/a.yaml~", False),
        ("workflows/#a.yaml", False),
        (".git/a.yaml", False),
        ("tools/__pycache__/a.py", False),
        ("data/modular_agent.db", False),
    ],
)
def test_only_files_that_mean_something_are_watched(path: str, expected: bool) -> None:
    assert is_watched(Path(path)) is expected

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from modular_agent.domain.workflows import FileNotFound, PathOutsideRoot, WorkflowUnknown, WorkflowVersionUnknown


async def test_a_file_has_one_version_however_its_path_is_written(opening: Any, write: Any) -> None:
    write("workflows/a.yaml", "a")
    async with opening() as runtime:
        spellings = ("workflows/a.yaml", "configs/workflows/a.yaml", "./workflows//a.yaml")
        loaded = await asyncio.gather(*(runtime.catalog.load(path) for path in spellings for _ in range(5)))
        assert {each.content_hash for each in loaded} == {loaded[0].content_hash}
        assert {each.path for each in loaded} == {"workflows/a.yaml"}
        assert len(await runtime.workflows.versions("a")) == 1


async def test_a_change_is_seen_even_if_size_and_time_stay(opening: Any, write: Any) -> None:
    file = write("workflows/a.yaml", "a", seconds=0.01)
    async with opening() as runtime:
        before = await runtime.catalog.load("workflows/a.yaml")
        stat = file.stat()
        write("workflows/a.yaml", "a", seconds=0.02)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a file system with coarse times would show it
        after = await runtime.catalog.load("workflows/a.yaml")
        assert after.content_hash != before.content_hash


async def test_reading_stores_nothing(opening: Any, write: Any) -> None:
    async with opening() as runtime:
        write("drafts/a.yaml", "a")
        loaded = await runtime.catalog.read("drafts/a.yaml")
        with pytest.raises(WorkflowUnknown):
            await runtime.catalog.named("a")
        with pytest.raises(WorkflowVersionUnknown):
            await runtime.catalog.loaded(loaded.content_hash)


@pytest.mark.parametrize("path", ["../secret.yaml", "/etc/passwd", "workflows/../../x", "~/x", "C:\\x", "a\0b"])
async def test_paths_outside_the_root_are_refused(opening: Any, path: str) -> None:
    async with opening() as runtime:
        with pytest.raises(PathOutsideRoot):
            await runtime.catalog.load(path)


async def test_links_out_of_the_root_are_refused(opening: Any, root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("x")
    (root / "workflows" / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    async with opening() as runtime:
        with pytest.raises(PathOutsideRoot):
            await runtime.catalog.load("workflows/link.yaml")
        assert [file.error.code for file in runtime.workflows.broken] == ["path_outside_root"]


async def test_a_missing_file_names_the_likely_one(opening: Any, write: Any) -> None:
    write("workflows/react.yaml", "react")
    async with opening() as runtime:
        with pytest.raises(FileNotFound) as raised:
            await runtime.catalog.load("workflows/raect.yaml")
        assert raised.value.suggestion == "workflows/react.yaml"


async def test_a_stored_version_outlives_its_file(opening: Any, write: Any) -> None:
    file = write("workflows/a.yaml", "a")
    async with opening() as runtime:
        stored = (await runtime.catalog.load("workflows/a.yaml")).content_hash
    file.unlink()
    async with opening() as runtime:
        assert (await runtime.catalog.loaded(stored)).spec.name == "a"
        assert (await runtime.catalog.workflow(stored)).name == "a"

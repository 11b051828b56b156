import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modular_agent.engine.tools.builtin.folder import in_thread
from modular_agent.engine.tools.builtin.registry import build_builtin
from modular_agent.engine.tools.builtin.tool import BuiltinTool, Setup
from modular_agent.engine.tools.port import ToolContext
from modular_agent.kit.clock import SystemClock


@pytest.fixture
def docs(configs: Path, tmp_path: Path) -> Path:
    folder = configs / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.md").write_text("one\nTwo Needle\nthree\n", encoding="utf-8")
    (folder / "sub" / "b.txt").write_text("needle 中文\n" * 3, encoding="utf-8")
    (folder / "bytes.bin").write_bytes(b"\x00needle")
    (folder / ".hidden").write_text("needle")
    (tmp_path / "secret.txt").write_text("needle: secret")
    (configs / "above.txt").write_text("needle: above")
    (folder / "out.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "outdir").symlink_to(tmp_path)
    (folder / "in.txt").symlink_to(folder / "a.md")
    os.mkfifo(folder / "pipe.txt")
    return folder


@pytest.fixture
def make(configs: Path) -> Callable[..., BuiltinTool]:
    def build(use: str, **options: Any) -> BuiltinTool:
        return build_builtin(f"builtin.{use}", options, Setup(name=use, root=configs, clock=SystemClock()))

    return build


@pytest.mark.usefixtures("docs")
async def test_a_file_or_some_lines_are_read(make: Callable[..., BuiltinTool], context: ToolContext) -> None:
    tool = make("read_file", folder="docs")
    assert (await tool.call({"path": "a.md"}, context)).content == "one\nTwo Needle\nthree\n"
    assert (await tool.call({"path": "sub/b.txt", "lines": 1}, context)).content == "needle 中文\n"
    assert (await tool.call({"path": "a.md", "first_line": 2, "lines": 1}, context)).content == "Two Needle\n"
    assert (await tool.call({"path": "in.txt"}, context)).content.startswith("one")
    assert "has 3 lines" in (await tool.call({"path": "a.md", "first_line": 9}, context)).content


@pytest.mark.usefixtures("docs")
async def test_a_large_file_is_cut(make: Callable[..., BuiltinTool], context: ToolContext) -> None:
    outcome = await make("read_file", folder="docs", max_bytes=6).call({"path": "a.md"}, context)
    assert outcome.content.startswith("one\nTw\n[Cut after 6 bytes, in line 2")


@pytest.mark.usefixtures("docs")
@pytest.mark.parametrize(
    "path",
    ["../above.txt", "/etc/passwd", "sub/../../above.txt", "out.txt", "outdir/secret.txt", "pipe.txt", "sub", "missing",
     "~/x", "a.md\x00", "", ".", "bytes.bin", "x" * 3000],
)  # fmt: skip
async def test_what_is_not_a_text_file_below_the_folder_is_refused(
    make: Callable[..., BuiltinTool], context: ToolContext, tmp_path: Path, path: str
) -> None:
    outcome = await make("read_file", folder="docs").call({"path": path}, context)
    assert not outcome.success
    assert "secret" not in outcome.content.replace(path, "")
    assert str(tmp_path) not in outcome.content


@pytest.mark.usefixtures("docs")
@pytest.mark.parametrize("folder", ["../", "/etc", "docs/outdir", "nothing"])
async def test_the_folder_itself_is_below_the_configs_root(
    make: Callable[..., BuiltinTool], context: ToolContext, folder: str
) -> None:
    for use, arguments in (("read_file", {"path": "passwd"}), ("search_files", {"glob": "*"})):
        assert "does not exist below" in (await make(use, folder=folder).call(arguments, context)).content


async def test_without_a_folder_the_sessions_files_are_read(
    make: Callable[..., BuiltinTool], context: ToolContext
) -> None:
    context.files.mkdir()
    (context.files / "call_9.txt").write_text("a large output")
    assert (await make("read_file").call({"path": "call_9.txt"}, context)).content == "a large output"


@pytest.mark.usefixtures("docs")
async def test_text_is_found_with_its_place(make: Callable[..., BuiltinTool], context: ToolContext) -> None:
    tool = make("search_files", folder="docs")
    found = (await tool.call({"text": "NEEDLE"}, context)).content.splitlines()
    assert found == ["a.md:2: Two Needle", "in.txt:2: Two Needle", *(f"sub/b.txt:{n}: needle 中文" for n in (1, 2, 3))]
    assert "Nothing" in (await tool.call({"text": "NEEDLE", "case_sensitive": True}, context)).content
    assert (await tool.call({"text": "中文", "glob": "*.txt"}, context)).content.count("sub/b.txt") == 3


@pytest.mark.usefixtures("docs")
@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("*.md", ["a.md"]),
        ("**/*.txt", ["in.txt", "out.txt", "pipe.txt", "sub/b.txt"]),
        ("sub/*", ["sub/b.txt"]),
        ("*.zip", []),
    ],
)
async def test_files_are_found_by_name(
    make: Callable[..., BuiltinTool], context: ToolContext, glob: str, found: list[str]
) -> None:
    content = (await make("search_files", folder="docs").call({"glob": glob}, context)).content
    assert content.splitlines() == (found or ["Nothing was found."])


@pytest.mark.usefixtures("docs")
async def test_a_search_is_bounded(make: Callable[..., BuiltinTool], context: ToolContext) -> None:
    few = (await make("search_files", folder="docs", max_results=2).call({"text": "needle"}, context)).content
    assert few.splitlines()[-1] == "[The first 2; there are more.]"
    limited = (await make("search_files", folder="docs", max_files=1).call({"text": "three"}, context)).content
    assert "There are more files" in limited
    assert not (await make("search_files", folder="docs").call({}, context)).success


async def test_a_cancelled_search_has_ended() -> None:
    started, ended = threading.Event(), threading.Event()

    def work(stopped: Callable[[], bool]) -> None:
        started.set()
        while not stopped():
            pass
        ended.set()

    task = asyncio.create_task(in_thread(work))
    while not started.is_set():
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()

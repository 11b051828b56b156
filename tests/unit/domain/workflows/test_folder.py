from pathlib import Path
from typing import Any

from modular_agent.domain.workflows.folder import workflow_paths
from modular_agent.kit.pagination import PageRequest
from modular_agent.runtime import Runtime


async def names(runtime: Runtime) -> list[str]:
    page = await runtime.workflows.page(PageRequest(page_size=100))
    return [each["workflow_id"] for each in page.items]


def broken(runtime: Runtime) -> dict[str, tuple[str | None, str]]:
    return {file.config_path: (file.workflow_id, file.error.code) for file in runtime.workflows.broken}


async def test_every_workflow_file_is_loaded_at_the_start(opening: Any, write: Any) -> None:
    write("workflows/one.yaml", "one")
    write("workflows/deeper/still/two.yml", "two")
    write("elsewhere/three.yaml", "three")
    async with opening() as runtime:
        assert await names(runtime) == ["one", "two"]
        assert runtime.workflows.broken == []


async def test_a_missing_root_is_an_empty_one(opening: Any, root: Path) -> None:
    (root / "workflows").rmdir()
    async with opening() as runtime:
        assert await names(runtime) == []


async def test_a_broken_file_is_told_with_its_faults_and_keeps_nothing_else_away(opening: Any, write: Any) -> None:
    write("workflows/good.yaml", "good")
    write("workflows/bad.yaml", text="schema: modular-agent/v1\nname: bad\nnodez: {}\n")
    write("workflows/not-text.yaml").write_bytes(b"\xff\xfe\x00")
    async with opening() as runtime:
        assert await names(runtime) == ["good"]
        assert broken(runtime) == {
            "workflows/bad.yaml": (None, "workflow_invalid"),
            "workflows/not-text.yaml": (None, "not_utf8"),
        }
        faults: Any = runtime.workflows.broken[0].error.faults  # pyright: ignore
        assert ("nodez", 3) in {(fault.path, fault.line) for fault in faults}


async def test_a_mended_file_is_loaded(opening: Any, write: Any) -> None:
    write("workflows/a.yaml", text="name: a\n")
    async with opening() as runtime:
        assert list(broken(runtime)) == ["workflows/a.yaml"]
        write("workflows/a.yaml", "a")
        await runtime.workflows.refresh()
        assert broken(runtime) == {}
        assert await names(runtime) == ["a"]


async def test_a_broken_edit_keeps_the_last_good_version(opening: Any, write: Any) -> None:
    write("workflows/a.yaml", "a")
    async with opening() as runtime:
        before = await runtime.workflows.get("a")
        write("workflows/a.yaml", text="name: a\n")
        await runtime.workflows.refresh()
        assert (await runtime.workflows.get("a"))["content_hash"] == before["content_hash"]
        assert broken(runtime) == {"workflows/a.yaml": ("a", "workflow_invalid")}
        since = runtime.workflows.broken[0].since
        await runtime.workflows.refresh()
        assert runtime.workflows.broken[0].since == since


async def test_a_change_makes_a_new_version_and_the_same_text_again_does_not(opening: Any, write: Any) -> None:
    write("workflows/a.yaml", "a")
    async with opening() as runtime:
        first = await runtime.workflows.get("a")
        write("workflows/a.yaml", "a", seconds=0.02)
        await runtime.workflows.refresh()
        second = await runtime.workflows.get("a")
        write("workflows/a.yaml", "a", seconds=0.02)
        await runtime.workflows.refresh()
        versions = await runtime.workflows.versions("a")
        assert [v["content_hash"] for v in versions] == [second["content_hash"], first["content_hash"]]
        assert [v["is_current"] for v in versions] == [True, False]


async def test_a_changed_prompt_makes_a_new_version(opening: Any, write: Any) -> None:
    text = (
        "schema: modular-agent/v1\nname: a\nmodels: {m: {provider: scripted, script: scripts/s.yaml}}\n"
        "nodes: {n: {type: llm, prompt: prompts/p.md}}\nedges: [{from: START, to: n}]\n"
    )
    write("scripts/s.yaml", text="otherwise: {reply: hi}\n")
    write("prompts/p.md", text="Be brief.")
    write("workflows/a.yaml", text=text)
    async with opening() as runtime:
        assert broken(runtime) == {}
        write("prompts/p.md", text="Be long.")
        await runtime.workflows.refresh()
        assert len(await runtime.workflows.versions("a")) == 2


async def test_a_start_without_changes_leaves_the_time_of_loading(opening: Any, write: Any) -> None:
    write("workflows/a.yaml", "a")
    async with opening() as runtime:
        before = (await runtime.workflows.get("a"))["loaded_at"]
    async with opening() as runtime:
        assert (await runtime.workflows.get("a"))["loaded_at"] == before


async def test_of_two_files_with_one_name_the_first_keeps_it(opening: Any, write: Any) -> None:
    write("workflows/a.yaml", "same")
    write("workflows/b.yaml", "same", seconds=0.02)
    async with opening() as runtime:
        assert (await runtime.workflows.get("same"))["config_path"] == "workflows/a.yaml"
        assert broken(runtime) == {"workflows/b.yaml": (None, "workflow_name_taken")}


async def test_a_file_that_was_loaded_explicitly_keeps_the_name_also_over_a_restart(opening: Any, write: Any) -> None:
    write("workflows/a.yaml", "same")
    write("workflows/b.yaml", "same", seconds=0.02)
    async with opening() as runtime:
        await runtime.workflows.load("workflows/b.yaml")
        assert broken(runtime) == {"workflows/a.yaml": (None, "workflow_name_taken")}
    async with opening() as runtime:
        assert (await runtime.workflows.get("same"))["config_path"] == "workflows/b.yaml"


async def test_a_broken_file_does_not_lose_its_name_to_another(opening: Any, write: Any) -> None:
    write("workflows/b.yaml", "same")
    async with opening() as runtime:
        write("workflows/b.yaml", text="name: same\n")
        write("workflows/a.yaml", "same", seconds=0.02)
        await runtime.workflows.refresh()
        assert (await runtime.workflows.get("same"))["config_path"] == "workflows/b.yaml"
        assert broken(runtime) == {
            "workflows/a.yaml": (None, "workflow_name_taken"),
            "workflows/b.yaml": ("same", "workflow_invalid"),
        }


async def test_a_renamed_file_is_followed(opening: Any, write: Any, root: Path) -> None:
    file = write("workflows/b.yaml", "a")
    async with opening() as runtime:
        file.rename(root / "workflows" / "c.yaml")
        await runtime.workflows.refresh()
        assert (await runtime.workflows.get("a"))["config_path"] == "workflows/c.yaml"
        assert broken(runtime) == {}


async def test_a_removed_file_is_told_until_its_workflow_is_unloaded(opening: Any, write: Any) -> None:
    file = write("workflows/a.yaml", "a")
    async with opening() as runtime:
        file.unlink()
        await runtime.workflows.refresh()
        assert await names(runtime) == ["a"]
        assert broken(runtime) == {"workflows/a.yaml": ("a", "file_not_found")}
        await runtime.workflows.unload("a")
        assert await names(runtime) == []
        assert broken(runtime) == {}


async def test_a_workflow_whose_file_got_another_name_is_told(opening: Any, write: Any) -> None:
    write("workflows/a.yaml", "old")
    async with opening() as runtime:
        write("workflows/a.yaml", "new")
        await runtime.workflows.refresh()
        assert await names(runtime) == ["new", "old"]
        assert broken(runtime) == {"workflows/a.yaml": ("old", "workflow_name_differs")}
        await runtime.workflows.refresh()
        assert broken(runtime) == {"workflows/a.yaml": ("old", "workflow_name_differs")}
        await runtime.workflows.unload("old")
        assert broken(runtime) == {}


async def test_what_was_unloaded_stays_so_until_it_is_loaded(opening: Any, write: Any) -> None:
    write("workflows/a.yaml", "a")
    async with opening() as runtime:
        await runtime.workflows.unload("a")
        await runtime.workflows.refresh()
        assert await names(runtime) == []
    async with opening() as runtime:
        write("workflows/a.yaml", "a", seconds=0.02)
        await runtime.workflows.refresh()
        assert await names(runtime) == []
        await runtime.workflows.load("workflows/a.yaml")
        assert await names(runtime) == ["a"]
        await runtime.workflows.unload("a")
        await runtime.workflows.load_as("a")
        assert await names(runtime) == ["a"]


def test_hidden_files_and_folders_are_left_out(root: Path, write: Any) -> None:
    for path in ("workflows/.a.yaml", "workflows/.git/b.yaml", "workflows/c.YAML", "workflows/d.txt", "e.yaml"):
        write(path, "x")
    assert workflow_paths(root) == ["workflows/c.YAML"]

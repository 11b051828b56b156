from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modular_agent.domain.sessions import CreateRequest
from modular_agent.domain.workflows import (
    FileNotFound,
    PathOutsideRoot,
    SessionOfOtherWorkflow,
    SessionUnknown,
    WorkflowInvalid,
    WorkflowNameDiffers,
    WorkflowUnknown,
    WorkflowVersionUnknown,
)
from modular_agent.engine.spec.source import MAX_FILE_BYTES
from modular_agent.kit.pagination import InvalidCursor, PageRequest
from modular_agent.runtime import Runtime, open_runtime

BAD = """\
schema: modular-agent/v1
name: a
models: {main: {provider: openai, model: m}}
nodes:
  think: {type: llm, model: mian}
edges:
  - {from: START, to: think}
  - {from: think, to: nowhere}
"""
GOOD = BAD.replace("mian", "main").replace("nowhere", "END")


async def test_every_fault_of_a_text_is_told_with_its_place(opening: Any) -> None:
    async with opening() as runtime:
        checked = await runtime.workflows.check_text(BAD, config_path="workflows/a.yaml")
        assert checked.loaded is None
        places = {(fault.path, fault.file, fault.line) for fault in checked.faults}
        assert places == {("nodes.think.model", "workflows/a.yaml", 5), ("edges[1].to", "workflows/a.yaml", 8)}
        assert {fault.suggestion for fault in checked.faults} >= {"main"}


@pytest.mark.parametrize("path", ["workflows/a.yaml", "./workflows//a.yaml", "configs/workflows/a.yaml"])
async def test_a_text_is_checked_in_place_of_the_file_that_is_there(opening: Any, write: Any, path: str) -> None:
    write("workflows/a.yaml", text=GOOD)
    async with opening() as runtime:
        checked = await runtime.workflows.check_text(BAD, config_path=path)
        assert {fault.file for fault in checked.faults} == {"workflows/a.yaml"}
        stored = (await runtime.workflows.get("a"))["content_hash"]
        same = await runtime.workflows.check_text(GOOD, config_path=path)
        assert same.loaded.content_hash == stored


async def test_checking_stores_nothing(opening: Any) -> None:
    async with opening() as runtime:
        checked = await runtime.workflows.check_text(GOOD)
        assert checked.loaded is not None
        assert checked.faults == ()
        with pytest.raises(WorkflowUnknown):
            await runtime.workflows.get("a")


async def test_a_text_may_refer_to_files_of_the_root(opening: Any, write: Any) -> None:
    write("prompts/p.md", text="Be brief.")
    text = GOOD.replace("model: main}", "model: main, prompt: prompts/p.md}")
    async with opening() as runtime:
        checked = await runtime.workflows.check_text(text)
        assert set(checked.loaded.bundle) == {"workflow.yaml", "prompts/p.md"}
        missing = await runtime.workflows.check_text(text.replace("p.md", "q.md"))
        assert [fault.code for fault in missing.faults] == ["file_not_found"]


async def test_the_faults_of_a_document_have_no_lines(opening: Any) -> None:
    async with opening() as runtime:
        checked = await runtime.workflows.check_document({"schema": "modular-agent/v1", "name": "A"})
        assert {fault.path for fault in checked.faults} == {"name", "nodes", "edges"}
        assert {(fault.file, fault.line, fault.column) for fault in checked.faults} == {(None, None, None)}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    document=st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        ),
        max_size=4,
    )
)
async def test_no_document_breaks_the_check(runtime: Runtime, document: dict[str, Any]) -> None:
    checked = await runtime.workflows.check_document({"schema": "modular-agent/v1", **document})
    assert checked.faults


async def test_a_file_is_checked_in_place(opening: Any, write: Any) -> None:
    write("workflows/a.yaml", text=BAD)
    async with opening() as runtime:
        assert len((await runtime.workflows.check_file("workflows/a.yaml")).faults) == 2
        with pytest.raises(FileNotFound):
            await runtime.workflows.check_file("workflows/b.yaml")
        with pytest.raises(PathOutsideRoot):
            await runtime.workflows.check_file("../a.yaml")
        with pytest.raises(PathOutsideRoot):
            await runtime.workflows.check_text(GOOD, config_path="/a.yaml")


async def test_a_text_beyond_the_size_of_files_is_refused(opening: Any) -> None:
    async with opening() as runtime:
        with pytest.raises(Exception, match="larger than"):
            await runtime.workflows.check_text(GOOD + "#" * MAX_FILE_BYTES)


async def test_loading_says_whether_the_content_is_new(opening: Any, write: Any) -> None:
    async with opening() as runtime:
        write("drafts/a.yaml", "a")
        first = await runtime.workflows.load("drafts/a.yaml")
        again = await runtime.workflows.load("configs/drafts/a.yaml")
        assert (first.workflow_id, first.config_path, first.is_new) == ("a", "drafts/a.yaml", True)
        assert (again.content_hash, again.is_new) == (first.content_hash, False)


async def test_a_file_must_hold_the_workflow_it_is_loaded_as(opening: Any, write: Any) -> None:
    write("workflows/a.yaml", "a")
    async with opening() as runtime:
        assert (await runtime.workflows.load_as("a", "workflows/a.yaml")).workflow_id == "a"
        with pytest.raises(WorkflowNameDiffers):
            await runtime.workflows.load_as("b", "workflows/a.yaml")
        with pytest.raises(WorkflowUnknown):
            await runtime.workflows.load_as("b")


async def test_an_invalid_file_is_not_loaded(opening: Any, write: Any) -> None:
    write("drafts/a.yaml", text=BAD)
    async with opening() as runtime:
        with pytest.raises(WorkflowInvalid) as raised:
            await runtime.workflows.load("drafts/a.yaml")
        assert len(raised.value.faults) == 2
        with pytest.raises(WorkflowUnknown):
            await runtime.workflows.get("a")


async def test_pages_and_cursors_show_every_workflow_once(opening: Any, write: Any) -> None:
    names = [f"w{number:02}" for number in range(7)]
    for name in names:
        write(f"workflows/{name}.yaml", name)
    async with opening() as runtime:
        for size in (1, 2, 3, 7, 8):
            numbered, followed, cursor = [], [], None
            for page in range(1, 9):
                found = await runtime.workflows.page(PageRequest(page=page, page_size=size))
                assert found.total == 7
                assert found.has_next == (page * size < 7)
                numbered += [each["name"] for each in found.items]
            while True:
                found = await runtime.workflows.page(PageRequest(page_size=size, cursor=cursor))
                assert found.total == 7
                followed += [each["name"] for each in found.items]
                cursor = found.cursor
                if cursor is None:
                    break
            assert numbered == followed == names
        with pytest.raises(InvalidCursor):
            await runtime.workflows.page(PageRequest(cursor="bm9uc2Vuc2U"))


async def test_search_is_literal_and_looks_at_name_and_path(opening: Any, write: Any) -> None:
    write("workflows/sales/orders.yaml", "orders")
    write("workflows/react.yaml", "react")
    async with opening() as runtime:

        async def found(search: str) -> list[str]:
            page = await runtime.workflows.page(PageRequest(), search=search)
            assert page.total == len(page.items)
            return [each["name"] for each in page.items]

        assert await found("sales/") == ["orders"]
        assert await found("REA") == ["react"]
        assert await found("%") == []
        assert await found("") == ["orders", "react"]


async def test_a_version_whose_variable_is_gone_is_listed_and_told(opening: Any, write: Any, tmp_path: Any) -> None:
    write("workflows/a.yaml", text=GOOD.replace("model: m}", 'model: "${env.WORD}"}'))
    async with opening() as runtime:
        stored = (await runtime.workflows.get("a"))["content_hash"]
    async with open_runtime(runtime.settings, environment={}) as poorer, poorer.workflows:
        page = await poorer.workflows.page(PageRequest())
        assert [(each["name"], each["content_hash"], each["version"]) for each in page.items] == [("a", stored, None)]
        assert [(file.workflow_id, file.error.code) for file in poorer.workflows.broken] == [("a", "workflow_invalid")]
        with pytest.raises(WorkflowInvalid):
            await poorer.workflows.get("a")


async def test_two_versions_are_compared_file_by_file(opening: Any, write: Any) -> None:
    write("workflows/a.yaml", "a", seconds=0.01)
    write("workflows/b.yaml", "b")
    async with opening() as runtime:
        old = (await runtime.workflows.get("a"))["content_hash"]
        other = (await runtime.workflows.get("b"))["content_hash"]
        write("workflows/a.yaml", "a", seconds=0.02)
        new = (await runtime.workflows.load("workflows/a.yaml")).content_hash
        shown = await runtime.workflows.difference("a", old=old, new=new)
        assert [(file["path"], file["change"]) for file in shown["files"]] == [("workflows/a.yaml", "changed")]
        assert "-  rest: {type: wait, duration: 0.01}" in shown["files"][0]["diff"]
        assert "+  rest: {type: wait, duration: 0.02}" in shown["files"][0]["diff"]
        assert (await runtime.workflows.difference("a", old=new, new=new))["files"] == []
        with pytest.raises(WorkflowVersionUnknown):
            await runtime.workflows.difference("a", old=old, new=other)


async def test_a_session_keeps_its_version_in_the_drawing(opening: Any, write: Any) -> None:
    write("workflows/a.yaml", "a")
    async with opening() as runtime:
        session = await runtime.sessions.create(CreateRequest(workflow_id="a"))
        write("workflows/a.yaml", "a", seconds=0.02)
        await runtime.workflows.load("workflows/a.yaml")
        current = await runtime.workflows.drawing("a")
        drawn = await runtime.workflows.drawing("a", session_id=session.session_id)
        assert drawn["content_hash"] == session.workflow_version != current["content_hash"]
        assert set(drawn["node_states"].values()) == {"pending"}
        assert drawn["run_id"] is None
        older = await runtime.workflows.drawing("a", content_hash=session.workflow_version)
        assert older["content_hash"] == session.workflow_version
        assert "node_states" not in older


async def test_an_unloaded_workflow_is_drawn_for_its_sessions_only(opening: Any, write: Any) -> None:
    write("workflows/a.yaml", "a")
    async with opening() as runtime:
        session = await runtime.sessions.create(CreateRequest(workflow_id="a"))
        await runtime.workflows.unload("a")
        assert (await runtime.workflows.drawing("a", session_id=session.session_id))["nodes"]
        for verb in (runtime.workflows.drawing, runtime.workflows.get, runtime.workflows.unload):
            with pytest.raises(WorkflowUnknown):
                await verb("a")


async def test_a_drawing_of_what_does_not_belong_together_is_refused(opening: Any, write: Any) -> None:
    write("workflows/a.yaml", "a")
    write("workflows/b.yaml", "b")
    async with opening() as runtime:
        session = await runtime.sessions.create(CreateRequest(workflow_id="a"))
        version = (await runtime.workflows.get("b"))["content_hash"]
        with pytest.raises(SessionOfOtherWorkflow):
            await runtime.workflows.drawing("b", session_id=session.session_id)
        with pytest.raises(WorkflowUnknown):
            await runtime.workflows.drawing("c", session_id=session.session_id)
        with pytest.raises(SessionUnknown):
            await runtime.workflows.drawing("a", session_id="a-1")
        with pytest.raises(WorkflowVersionUnknown):
            await runtime.workflows.drawing("a", content_hash=version)


async def test_use_is_counted(opening: Any, write: Any) -> None:
    write("workflows/a.yaml", "a")
    async with opening() as runtime:
        assert (await runtime.workflows.get("a"))["last_used"] is None
        for _ in range(3):
            await runtime.sessions.create(CreateRequest(workflow_id="a"))
        shown = await runtime.workflows.get("a")
        assert shown["usage_count"] == 3
        assert shown["last_used"] >= shown["loaded_at"]

"""`history`: the real program beside a real log."""

import json
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def session_id(project: Any) -> str:
    assert project.run("run", "react", "What is 17 * 23?").returncode == 0
    (made,) = project.session_ids()
    return made


def test_search_finds_what_was_said_also_beside_a_server(
    project: Any, session_id: str, serve: Callable[..., Any]
) -> None:
    alone = project.json("history", "search", "17 * 23", "--json")
    assert [hit["record"]["session_id"] for hit in alone["results"]][:1] == [session_id]
    assert alone["has_next"] is False
    serve()
    beside = project.json("history", "search", "17 * 23", "--session", session_id, "--type", "message", "--json")
    assert {hit["record"]["record_type"] for hit in beside["results"]} == {"message"}
    shown = project.run("history", "search", "calculator")
    assert shown.returncode == 0
    assert session_id in shown.stdout
    nothing = project.run("history", "search", "nowhere to be found")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    held = project.run("history", "reindex")
    assert held.returncode == 2
    assert "data_path_in_use" in held.stderr


def test_export_writes_a_file_or_the_standard_output(project: Any, session_id: str) -> None:
    lines = project.run("history", "export", session_id, "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, len(lines) + 1))
    done = project.run("history", "export", session_id, "--output", "log.json", "--type", "message")
    assert done.returncode == 0
    written = json.loads((project.folder / "log.json").read_text())
    assert written["total_records"] == len(written["records"]) > 0
    assert {record["record_type"] for record in written["records"]} == {"message"}
    unknown = project.run("history", "export", "nobody-251022-174800-1f73e8", "--output", "other.json")
    assert unknown.returncode == 2
    assert not list(project.folder.glob("other.json*"))
    assert project.run("history", "export", session_id, "--start", "yesterday").returncode == 2


def test_the_index_and_the_files_are_checked_and_mended(project: Any, session_id: str) -> None:
    before = project.json("history", "search", "391", "--json")
    assert project.json("history", "reindex", "--json")["records"] > 0
    assert project.json("history", "search", "391", "--json") == before
    sound = project.json("history", "verify", "--json")
    assert (sound["files"], sound["damages"]) == (1, [])
    (file,) = project.folder.glob(f"data/history/*/{session_id}.jsonl")
    content = file.read_bytes()
    file.write_bytes(content.replace(b"17", b"71", 1))
    harmed = project.run("history", "verify")
    assert harmed.returncode == 1
    assert session_id in harmed.stdout
    file.write_bytes(content)
    for path in project.folder.glob("data/modular_agent.db*"):
        path.unlink()
    made = project.json("history", "rebuild", "--json")
    assert (made["sessions"], made["records"]) == (1, sound["lines"])
    assert len(project.json("history", "search", "391", "--json")["results"]) == len(before["results"])

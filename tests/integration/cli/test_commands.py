"""The other commands."""

import json
import resource
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from websockets.sync.client import connect

BROKEN = """
schema: modular-agent/v1
name: broken
models: {offline: {provider: scripted, script: scripts/react.yaml}}
nodes:
  think: {type: llm, promt: Hi.}
  rest: {type: wait, duration: 1s}
edges:
  - {from: START, to: think}
  - {from: think, to: rset}
"""


def cpu_seconds() -> float:
    """Of the processes that have ended: the clock on the wall says more of the machine's other work."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_help_imports_neither_engine_nor_server_and_is_quick(project: Any) -> None:
    code = (
        "import sys\nfrom modular_agent.cli.app import main\ncode = main(sys.argv[1:])\n"
        "heavy = {'langgraph', 'fastapi', 'sqlalchemy', 'aiohttp', 'jinja2'} & set(sys.modules)\n"
        "print(code, sorted(heavy), file=sys.stderr)"
    )
    took: list[float] = []
    for arguments in (["--help"], ["run", "--help"], ["sessions", "list", "--help"]):
        began = cpu_seconds()
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        took.append(cpu_seconds() - began)
        assert done.stderr.strip() == "0 []"
        assert "Usage:" in done.stdout
    assert min(took) < 0.35


def test_an_unknown_command_is_a_usage_error(project: Any) -> None:
    done = project.run("nosuch")
    assert done.returncode == 2
    assert "nosuch" in done.stderr


def test_validate_tells_every_fault_with_its_place(project: Any) -> None:
    project.write("configs/workflows/broken.yaml", BROKEN)
    done = project.run("validate")
    assert done.returncode == 1
    assert "configs/workflows/react.yaml: valid" in done.stdout
    assert "configs/workflows/broken.yaml:6:22 nodes.think.promt" in done.stderr
    assert "(did you mean 'prompt'?)" in done.stderr
    assert "configs/workflows/broken.yaml:10:" in done.stderr
    assert "(did you mean 'rest'?)" in done.stderr


def test_validate_speaks_json(project: Any) -> None:
    project.write("configs/workflows/broken.yaml", BROKEN)
    answer = project.json("validate", "broken", "react", "--json")
    assert answer["valid"] is False
    broken, react = answer["files"]
    assert (react["valid"], react["workflow_id"], len(react["content_hash"])) == (True, "react", 64)
    assert [(fault["line"], fault["suggestion"]) for fault in broken["errors"]] == [(6, "prompt"), (10, "rest")]


def test_test_passes_the_starter(project: Any) -> None:
    done = project.run("test", "react", "orders", "replies", "research")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "14 passed, 0 failed"
    assert not (project.folder / "data").exists()


def test_draw_writes_mermaid(project: Any) -> None:
    done = project.run("draw", "react")
    assert done.stdout.startswith("flowchart TD\n")
    assert "has_tool_calls" in done.stdout
    project.run("draw", "react", "--output", "react.mmd")
    assert (project.folder / "react.mmd").read_text() == done.stdout


def test_init_writes_a_project_that_works(project: Any) -> None:
    done = project.run("init", "new")
    assert done.returncode == 0, done.stderr
    new = project.folder / "new"
    assert (new / "schemas/workflow.v1.json").is_file()
    assert (new / ".env.example").is_file()
    assert project.run("validate", "new").returncode == 0
    again = project.run("init", "new", "--json")
    assert json.loads(again.stdout)["written"] == []


def test_init_overwrites_nothing_unless_it_is_forced(project: Any) -> None:
    mine = project.write("new/configs/workflows/react.yaml", "mine")
    refused = project.run("init", "new")
    assert refused.returncode == 2
    assert "configs/workflows/react.yaml" in refused.stderr
    assert mine.read_text() == "mine"
    assert not (project.folder / "new/configs/prompts").exists()
    assert project.run("init", "new", "--force").returncode == 0
    assert mine.read_text() != "mine"


def test_sessions_are_listed_and_shown_while_a_server_owns_the_data(project: Any, serve: Callable[..., Any]) -> None:
    assert project.json("sessions", "list", "--json")["total"] == 0
    project.run("run", "react", "What is 17 * 23?")
    serve()
    listed = project.json("sessions", "list", "--json", "--status", "completed")
    (row,) = listed["sessions"]
    assert (row["workflow_id"], row["status"], listed["has_next"]) == ("react", "completed", False)
    shown = project.run("sessions", "show", row["session_id"], "--records", "3")
    assert "status: completed" in shown.stdout
    assert shown.stdout.rstrip().endswith("run completed")
    assert project.run("sessions", "show", "nosuch").returncode == 2
    refused = project.run("run", "react", "Hello!")
    assert refused.returncode == 2
    assert "error[data_path_in_use]" in refused.stderr
    assert "--data-path" in refused.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_server_says_where_it_is_and_ends_in_order(
    project: Any, serve: Callable[..., Any], number: signal.Signals
) -> None:
    server = serve("--data-path", "elsewhere")
    with urllib.request.urlopen(f"{server.url}/health", timeout=10) as answer:
        assert answer.status == 200
    assert f"  docs: {server.url}/docs" in server.announced
    assert f"  data: {project.folder / 'elsewhere'}" in server.announced
    assert server.end(number) == 0


def test_a_server_that_cannot_start_says_why(project: Any, serve: Callable[..., Any]) -> None:
    port = serve().url.rsplit(":", 1)[1]
    for arguments, code in [
        (("--port", port, "--data-path", "other"), "address_unavailable"),
        (("--port", "0"), "data_path_in_use"),
        (("--host", "0.0.0.0"), "unsafe_bind"),
        (("--workers", "2"), "workers_unsupported"),
    ]:
        done = project.run("serve", *arguments)
        assert done.returncode == 2, done.stderr
        assert f"error[{code}]" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_schema_is_checked_and_upgraded(project: Any) -> None:
    before = project.run("db", "check", "--json")
    assert before.returncode == 1
    assert json.loads(before.stdout)["revision"] is None
    assert project.run("db", "upgrade").returncode == 0
    assert project.run("db", "check").returncode == 0
    with sqlite3.connect(project.folder / "data" / "modular_agent.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    newer = project.run("db", "upgrade")
    assert newer.returncode == 2
    assert "error[database_too_new]" in newer.stderr
    assert "error[schema_differs]" in project.run("sessions", "list").stderr


def test_settings_that_cannot_be_used_are_told(project: Any) -> None:
    done = project.run("sessions", "list", env={"PORT": "many"})
    assert done.returncode == 2
    assert "error[invalid_settings]" in done.stderr
    assert "PORT" in done.stderr


def test_stack_traces_are_shown_on_request_only(project: Any) -> None:
    assert "Traceback" in project.run("--debug", "run", "nosuch", "x").stderr


def test_the_version_is_told(project: Any) -> None:
    assert project.run("version").stdout.startswith("modular-agent ")
    assert set(project.json("version", "--json")) == {"modular-agent", "python", "langgraph", "sqlite"}


def test_a_reader_that_goes_away_is_no_error_to_tell(project: Any) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m modular_agent draw react | head -1"],
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


def test_test_shows_what_differs(project: Any) -> None:
    text = (project.folder / "configs/workflows/react.yaml").read_text()
    text = text.replace('contains: "391"', 'contains: "392"').replace("path: [think]", "path: [think, act]")
    project.write("configs/workflows/react.yaml", text)
    slow = (project.folder / "configs/workflows/slow.yaml").read_text()
    project.write("configs/workflows/slow.yaml", slow + "tests: [{input: hang}]\n")
    project.write("configs/workflows/broken.yaml", BROKEN)
    done = project.run("test", "react", "slow", "broken", "--timeout", "3")
    assert done.returncode == 1
    shown = done.stdout
    assert "      - expected: 392\n      + actual: The result is 391." in shown
    assert "      - expected: think → act\n      + actual: think" in shown
    assert "not finished after 3 s" in shown
    assert "workflow_invalid" in shown
    assert "did you mean 'rest'" in shown
    assert shown.splitlines()[-1] == "1 passed, 4 failed"


def test_test_speaks_json(project: Any) -> None:
    answer = project.json("test", "react", "--json")
    assert (answer["passed"], answer["failed"]) == (3, 0)
    assert [test["differences"] for test in answer["tests"]] == [[], [], []]


def test_the_server_sends_as_its_settings_say(project: Any, serve: Callable[..., Any]) -> None:
    """It is set up as every other way of serving is: nothing is compressed for a client that would take it."""
    address = serve().url.replace("http://", "ws://")
    with connect(f"{address}/ws/me") as client:
        assert client.protocol.extensions == []
        client.send(json.dumps({"type": "ping", "id": 1}))
        assert json.loads(client.recv(timeout=10))["type"] == "pong"

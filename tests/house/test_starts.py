import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

PROGRAM = (sys.executable, "-X", "importtime", "-m", "modular_agent")
ENGINE = ("langgraph", "langchain_core", "langsmith", "aiohttp")
SERVER = ("fastapi", "starlette", "uvicorn", "prometheus_client")
MIGRATIONS = ("sqlalchemy", "alembic")
NEVER = ("mcp", "genai_prices", "hypothesis", "httpx_sse", "openai", "anthropic")
# What a start of the server does without: clients of services, what only some requests take, what comes with a run.
UNUSED = (*MIGRATIONS, *NEVER, "aiohttp", "prometheus_client", "langgraph_sdk.client", "langsmith.types.run")
LIGHT = {
    ("--help",): (*ENGINE, *SERVER, *MIGRATIONS, *NEVER, "pydantic", "yaml", "modular_agent.settings"),
    ("version",): (*ENGINE, *SERVER, *MIGRATIONS, *NEVER, "yaml", "modular_agent.engine"),
    ("sessions", "list"): (*ENGINE, *SERVER, *MIGRATIONS, *NEVER, "yaml", "jinja2"),
    ("keys", "list"): (*ENGINE, *SERVER, *MIGRATIONS, *NEVER, "yaml", "jinja2"),
    ("db", "check"): (*ENGINE, *SERVER, *MIGRATIONS, *NEVER, "yaml", "modular_agent.engine"),
    ("history", "verify"): (*ENGINE, *SERVER, *MIGRATIONS, *NEVER, "yaml", "jinja2"),
    ("validate",): (*ENGINE, *SERVER, *MIGRATIONS, *NEVER, "modular_agent.storage"),
}


def environment(root: Path, data: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return {**kept, "DATA_PATH": str(data), "CONFIG_PATH": str(root / "configs"), "LOG_FILE": "none"}


def imported(report: str) -> set[str]:
    """The modules that `-X importtime` reports."""
    lines = (line for line in report.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines}


def found(modules: set[str], names: Sequence[str]) -> list[str]:
    return sorted(name for name in names if name in modules)


def test_a_server_starts_without_what_it_may_never_need(root: Path, tmp_path: Path) -> None:
    with (
        (tmp_path / "report").open("w") as report,
        subprocess.Popen(
            [*PROGRAM, "serve", "--port", "0"],
            env=environment(root, tmp_path),
            stdout=subprocess.PIPE,
            stderr=report,
            text=True,
        ) as server,
    ):
        assert server.stdout is not None
        address = next(line for line in server.stdout if "http://" in line).split()[-1]
        with urllib.request.urlopen(f"{address}/health", timeout=30) as answer:
            assert answer.status == 200
        server.send_signal(signal.SIGTERM)
    assert server.returncode == 0
    modules = imported((tmp_path / "report").read_text())
    assert {"langgraph.pregel", "fastapi", "langgraph_sdk.auth.types", "modular_agent.server"} <= modules
    assert found(modules, UNUSED) == []


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_a_light_command_imports_little(root: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [*PROGRAM, *arguments],
        env=environment(root, tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    modules = imported(done.stderr)
    assert "modular_agent.cli.app" in modules
    assert found(modules, LIGHT[arguments]) == []

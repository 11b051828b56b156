from collections.abc import Callable
from pathlib import Path

import pytest

from modular_agent.engine.tools.port import ToolContext


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    root = tmp_path / "configs"
    (root / "tools").mkdir(parents=True)
    return root


@pytest.fixture
def write_tool(configs: Path) -> Callable[[str, str], Path]:
    def write(name: str, source: str) -> Path:
        path = configs / "tools" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
        return path

    return write


@pytest.fixture
def logged() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def context(tmp_path: Path, logged: list[tuple[str, str]]) -> ToolContext:
    return ToolContext(
        session_id="react-251022-174800-1f73e8",
        run_id="run_1",
        tool_call_id="call_1",
        idempotency_key="key_1",
        files=tmp_path / "files",
        log=lambda level, message: logged.append((level, message)),
    )

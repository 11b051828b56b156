"""A process's parts on a configs root that the test writes."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import structlog

from modular_agent.runtime import Runtime, open_runtime
from modular_agent.settings import load_settings

Opening = Callable[..., AbstractAsyncContextManager[Runtime]]
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keeps the log off the test's output."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "configs" / "workflows").mkdir(parents=True)
    return tmp_path / "configs"


@pytest.fixture
def write(root: Path) -> Write:
    """`write("workflows/a.yaml", "first")`: a file with a workflow of that name; or, with `text`, that text."""

    def write_file(path: str, name: str = "", *, seconds: float = 0.01, text: str | None = None) -> Path:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(workflow(name, seconds=seconds) if text is None else text, encoding="utf-8")
        return file

    return write_file


def workflow(name: str, *, seconds: float = 0.01) -> str:
    return (
        f"schema: modular-agent/v1\nname: {name}\ndescription: Rests.\n"
        f"nodes:\n  rest: {{type: wait, duration: {seconds}}}\n"
        "edges:\n  - {from: START, to: rest}\n  - {from: rest, to: END}\n"
    )


@pytest.fixture
def opening(root: Path, tmp_path: Path) -> Opening:
    """`async with opening() as runtime`: the parts, with the workflow files loaded; again on the same data."""

    @asynccontextmanager
    async def open_parts(*, watch: bool = False) -> AsyncIterator[Runtime]:
        settings = load_settings(
            {
                "DATA_PATH": str(tmp_path / "data"),
                "CONFIG_PATH": str(root),
                "ENVIRONMENT": "development" if watch else "production",
                "SECRET_KEY": "k" * 40,
            },
            env_file=None,
        )
        async with open_runtime(settings, environment={"WORD": "hello"}) as runtime, runtime.workflows:
            yield runtime

    return open_parts


@pytest.fixture
async def runtime(opening: Opening) -> AsyncIterator[Runtime]:
    async with opening() as opened:
        yield opened

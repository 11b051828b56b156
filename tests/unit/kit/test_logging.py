import asyncio
import io
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from modular_agent.kit.logging import GATHER, Logs, log_context


@pytest.fixture(autouse=True)
def own_structlog():
    """Loggers of other tests keep the configuration they know."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def logged() -> Callable[..., list[dict[str, Any]]]:
    """Runs a function inside a log pipeline and returns the JSON lines it wrote."""

    def run(function: Callable[[], object], **options: Any) -> list[dict[str, Any]]:
        stream = io.StringIO()
        with Logs(stream=stream, **options):
            function()
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    return run


def log(name: str = "modular_agent.test") -> Any:
    return structlog.stdlib.get_logger(name)


def test_a_line_is_one_json_object_with_time_level_logger_and_fields(logged: Any) -> None:
    (line,) = logged(lambda: log().info("run started", run_id="run_1", nodes=["a"]))
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "modular_agent.test",
        "event": "run started",
        "run_id": "run_1",
        "nodes": ["a"],
    }


def test_the_standard_library_s_loggers_take_the_same_road(logged: Any) -> None:
    (line,) = logged(lambda: logging.getLogger("some.library").warning("%s of %d", "two", 3))
    assert (line["event"], line["level"], line["logger"]) == ("two of 3", "warning", "some.library")


def test_lines_below_the_level_are_not_written(logged: Any) -> None:
    def speak() -> None:
        log().info("no")
        logging.getLogger("x").info("no")
        log().warning("yes")

    assert [line["event"] for line in logged(speak, level="WARNING")] == ["yes"]


def test_uvicorn_logs_here_and_its_access_log_is_silent(logged: Any) -> None:
    own = logging.StreamHandler()
    access = logging.getLogger("uvicorn.access")
    others = list(access.handlers)  # of tests before this one
    access.addHandler(own)
    access.propagate = False

    def speak() -> None:
        logging.getLogger("uvicorn.error").info("started")
        access.info("GET /?token=secret")

    assert [line["event"] for line in logged(speak)] == ["started"]
    assert access.handlers == [*others, own]
    assert not access.disabled
    access.removeHandler(own)


def test_a_line_carries_the_context_of_its_task(logged: Any) -> None:
    async def task(name: str) -> None:
        with log_context(run_id=name):
            await asyncio.sleep(0)
            log().info("own")
            logging.getLogger("lib").info("foreign")

    async def both() -> None:
        await asyncio.gather(task("run_a"), task("run_b"))
        log().info("outside")

    lines = logged(lambda: asyncio.run(both()))
    assert sorted(line["run_id"] for line in lines if line["event"] == "own") == ["run_a", "run_b"]
    assert sorted(line["run_id"] for line in lines if line["event"] == "foreign") == ["run_a", "run_b"]
    assert "run_id" not in lines[-1]


def test_an_exception_is_written_with_its_trace(logged: Any) -> None:
    def fail() -> None:
        try:
            raise LookupError("no such thing")
        except LookupError:
            log().exception("failed")
            logging.getLogger("lib").exception("failed too")

    for line in logged(fail):
        assert "LookupError: no such thing" in line["exception"]
        assert line["level"] == "error"


def test_secrets_are_in_no_line_not_even_in_traces(logged: Any) -> None:
    def leak() -> None:
        try:
            raise ValueError("refused: sk-abcdefghijklmnop and my-odd-secret")
        except ValueError:
            log().exception("failed my-odd-secret", api_key="plain", headers={"authorization": "Bearer abcdefghijkl"})

    text = json.dumps(logged(leak, secrets=["my-odd-secret"]))
    assert "sk-abc" not in text
    assert "my-odd-secret" not in text
    assert "plain" not in text
    assert "abcdefghijkl" not in text


def test_what_cannot_be_json_is_still_written(logged: Any) -> None:
    lines = logged(
        lambda: (
            log().info("a", path=Path("/x"), big=2**80),
            log().info("b", half="\ud800"),
            log().info("c", d={1: object}),
        )
    )
    assert [line["event"] for line in lines] == ["a", "b", "c"]


def test_the_file_holds_json_lines_and_rotates(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "api.log"
    with Logs(stream=io.StringIO(), file=file, max_bytes=2000, backups=2):
        for number in range(60):
            log().info("line", number=number)
    assert sorted(path.name for path in file.parent.iterdir()) == ["api.log", "api.log.1", "api.log.2"]
    assert json.loads(file.read_text().splitlines()[-1])["number"] == 59


def test_a_log_file_that_cannot_be_opened_is_reported_and_not_fatal(tmp_path: Path, logged: Any) -> None:
    (tmp_path / "file").write_text("")
    lines = logged(lambda: log().info("goes on"), file=tmp_path / "file" / "api.log")
    assert [line["level"] for line in lines] == ["warning", "info"]
    assert "cannot be written" in lines[0]["event"]


def test_the_console_format_is_for_people() -> None:
    stream = io.StringIO()
    with Logs(stream=stream, format="console"):
        log().info("hello", name="you")
    assert "hello" in stream.getvalue()
    assert "name=you" in stream.getvalue()
    assert "{" not in stream.getvalue()


def test_when_the_writer_falls_behind_lines_are_dropped_and_counted() -> None:
    class Stuck(io.StringIO):
        def write(self, text: str, /) -> int:
            release.wait(5)
            return super().write(text)

    import threading

    release = threading.Event()
    stream = Stuck()
    with Logs(stream=stream):
        for number in range(10_500):
            log().info("line", number=number)
        release.set()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    dropped = [line for line in lines if line["event"] == "log lines dropped"]
    assert len(lines) - len(dropped) + sum(line["count"] for line in dropped) == 10_500
    assert dropped


def test_closing_gives_the_loggers_back() -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    logs = Logs(stream=io.StringIO())
    logs.start()
    logs.close()
    logs.close()
    assert (list(root.handlers), root.level) == before


def test_lines_that_come_together_are_written_together() -> None:
    class Counted(io.StringIO):
        writes = 0

        def write(self, text: str, /) -> int:
            Counted.writes += 1
            return super().write(text)

    stream = Counted()
    with Logs(stream=stream):
        for number in range(250):
            log().info("line", number=number)
    assert [json.loads(line)["number"] for line in stream.getvalue().splitlines()] == [*range(250)]
    assert Counted.writes <= 5


def test_a_stream_that_cannot_be_written_does_not_end_the_thread(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Broken(io.StringIO):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError("gone")

    file = tmp_path / "api.log"
    with Logs(stream=Broken(), file=file):
        log().info("first")
        time.sleep(GATHER * 3)
        log().info("second")
    assert [json.loads(line)["event"] for line in file.read_text().splitlines()] == ["first", "second"]
    assert "BrokenPipeError: gone" in capsys.readouterr().err


def test_lines_are_written_at_once_or_soon() -> None:
    stream = io.StringIO()
    with Logs(stream=stream):
        for event in ("first", "second"):
            log().info(event)
            deadline = time.monotonic() + 5
            while event not in stream.getvalue() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert event in stream.getvalue()

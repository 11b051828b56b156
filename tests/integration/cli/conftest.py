"""The real program in a process of its own, with an empty home and a project of its own, piped or in a terminal."""

import asyncio
import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from servers.model_server import ModelServer

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = Path(sys.executable).parent / "modular-agent"
PATIENCE = 30.0  # seconds

SLOW = """
schema: modular-agent/v1
name: slow
models: {offline: {provider: scripted, script: scripts/slow.yaml}}
state: {schema: {type: object, properties: {note: {type: string}}}}
nodes:
  first: {type: llm, prompt: First., writes: note}
  second: {type: llm, prompt: Second.}
edges:
  - {from: START, to: first}
  - {from: first, to: second}
"""
SLOW_SCRIPT = """
turns:
  - {when: {last_user: hang}, hang: true}
  - {when: {system: First.}, delay: 700ms, reply: noted}
  - {when: {last_user: fail}, fail: {kind: authentication, message: no such key}}
otherwise: {reply: "one two three four five", token_delay: 10ms}
"""


class Session:
    """The program at the other end of a terminal."""

    def __init__(self, project: "Project", arguments: tuple[str, ...], **environment: str) -> None:
        self.shown = ""
        self._seen = 0
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.chdir(project.folder)
            os.execve(PROGRAM, [str(PROGRAM), *arguments], {**project.environment, "TERM": "xterm", **environment})

    def expect(self, text: str) -> None:
        """Waits until `text` is shown after what was expected before."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.shown[self._seen :]:
            assert time.monotonic() < deadline, f"{text!r} was not shown:\n{self.shown}"
            assert self._read(0.2), f"it ended without {text!r}:\n{self.shown}"
        self._seen = self.shown.index(text, self._seen) + len(text)

    def send(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def interrupt(self) -> None:
        self.send("\x03")

    def end(self) -> int:
        """The exit code, once it has ended."""
        deadline = time.monotonic() + PATIENCE
        while self._read(0.2):
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"it does not end:\n{self.shown}")
        _, status = os.waitpid(self.pid, 0)
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(status)

    def _read(self, seconds: float) -> bool:
        """False once the other end is closed."""
        ready, _, _ = select.select([self._terminal], [], [], seconds)
        if not ready:
            return True
        try:
            chunk = os.read(self._terminal, 65_536)
        except OSError:
            return False
        self.shown += chunk.decode(errors="replace").replace("\r\n", "\n")
        return bool(chunk)


class Project:
    """A folder with the starter's `configs/`, and the program in it."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "project"
        shutil.copytree(ROOT / "configs", self.folder / "configs", ignore=shutil.ignore_patterns("__pycache__"))
        (self.folder / "configs/workflows/slow.yaml").write_text(SLOW)
        (self.folder / "configs/scripts/slow.yaml").write_text(SLOW_SCRIPT)
        self.environment = {"HOME": str(home), "PATH": os.environ["PATH"], "LOG_FILE": "none", "LANG": "C.UTF-8"}

    def run(
        self, *arguments: str | Path, stdin: str = "", env: dict[str, str] | None = None, unread: bool = False
    ) -> "subprocess.CompletedProcess[str]":
        """The program's end. With `unread`, what it prints goes to somebody who has left already."""
        read, write = os.pipe()
        os.close(read)
        try:
            return subprocess.run(
                [PROGRAM, *arguments],
                cwd=self.folder,
                env={**self.environment, **(env or {})},
                input=stdin,
                stdout=write if unread else subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        finally:
            os.close(write)

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def terminal(self, *arguments: str, **environment: str) -> Session:
        return Session(self, arguments, **environment)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def session_ids(self) -> list[str]:
        """The newest first."""
        with contextlib.closing(sqlite3.connect(self.folder / "data" / "modular_agent.db")) as connection:
            return [row[0] for row in connection.execute("SELECT session_id FROM sessions ORDER BY n DESC")]


class Served:
    """`modular-agent serve` in a project."""

    def __init__(self, project: Project, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--port", "0", *arguments],
            cwd=project.folder,
            env=project.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.announced: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.announced.append(line.rstrip())
            if "configs:" in line:
                break
        found = re.search(r"http://\S+", "".join(self.announced))
        assert found, self.process.communicate(timeout=PATIENCE)
        self.url = found[0].removesuffix("docs:").strip()

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.communicate(timeout=PATIENCE)
        return self.process.returncode


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def serve(project: Project) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(*arguments: str) -> Served:
        started.append(Served(project, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.end(signal.SIGKILL)


@pytest.fixture
def model_server() -> Generator[ModelServer]:
    """A model server on a real socket, in a thread of its own: the tests here block."""
    server = ModelServer()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(PATIENCE)
    yield server
    asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(PATIENCE)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE)
    loop.close()

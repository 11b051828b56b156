"""What README and docs/ show is what happens: their files are written, their commands typed, their output compared."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from docs.examples import ROOT, Block, blocks, missing

DOCUMENTS = ["README.md", "README.zh-CN.md", "docs/budgets.md", "docs/cli.md", "docs/workflows.md"]
PROGRAMS = Path(sys.executable).parent
QUICK_START = "pip install uv && uv run "
SERVED = "http://127.0.0.1:8000"


class Reader:
    """Somebody with a clone's `configs/`, who types what a document says."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "project"
        self.server: subprocess.Popen[str] | None = None
        self.url = SERVED
        shutil.copytree(ROOT / "configs", self.folder / "configs", ignore=shutil.ignore_patterns("__pycache__"))
        self.environment = {
            "HOME": str(home),
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "PYTHONUTF8": "1",
            "LOG_FILE": "none",
        }

    def type(self, block: Block) -> str:
        """What the block's commands print, to both streams."""
        text = block.text.replace(QUICK_START, "").replace(SERVED, self.url)
        if text.strip() == "modular-agent serve":
            return self._serve()
        done = subprocess.run(
            [
                "bash",
                "-o",
                "pipefail",
                "-c",
                f"{self.kept}\n{text}\ndeclare -p SESSION > .kept 2>/dev/null; pwd > .pwd",
            ],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout

    @property
    def kept(self) -> str:
        """Variables that an earlier block has set."""
        file = self.folder / ".kept"
        return file.read_text() if file.exists() else ""

    def _serve(self) -> str:
        self.server = subprocess.Popen(
            [PROGRAMS / "modular-agent", "serve", "--port", "0"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.server.stdout is not None
        for line in self.server.stdout:
            found = re.search(r"http://[\d.]+:\d+$", line.strip())
            if found:
                self.url = found[0]
                return line
        raise AssertionError("the server did not start")

    def stop(self) -> None:
        if self.server is not None:
            self.server.terminate()
            self.server.communicate(timeout=30)
            assert self.server.returncode == 0


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    person = Reader(tmp_path)
    yield person
    person.stop()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_examples_of_a_document_do_what_it_says(document: str, reader: Reader) -> None:
    for block in blocks(document):
        if block.title is not None:
            target = reader.folder / block.title
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text, encoding="utf-8")
        elif block.runs and "scripts/check.py" not in block.text:
            stop_server_that_is_in_the_way(reader, block)
            output = reader.type(block)
            assert missing(block.printed or "", output) == [], f"{block}\n{output}"


def stop_server_that_is_in_the_way(reader: Reader, block: Block) -> None:
    """Documents go on with commands that need the data path after they have shown the server."""
    if reader.server is not None and "modular-agent" in block.text:
        reader.stop()
        reader.server = None


def test_the_workflows_of_the_language_guide_pass_their_own_tests(reader: Reader) -> None:
    names: list[str] = []
    for block in blocks("docs/workflows.md"):
        if block.title is not None:
            target = reader.folder / block.title
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text, encoding="utf-8")
            names += [block.title] if "/workflows/" in block.title else []
    command = [PROGRAMS / "modular-agent", "test", *names]
    done = subprocess.run(
        command, cwd=reader.folder, env=reader.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(names) >= 5


@pytest.mark.parametrize("block", [block for block in blocks("docs/workflows.md") if block.info == "fragment"], ids=str)
def test_a_fragment_fits_into_a_workflow(block: Block, reader: Reader) -> None:
    whole = {
        "schema": "modular-agent/v1",
        "name": "whole",
        "models": {"offline": {"provider": "scripted", "script": "scripts/react.yaml"}},
        "nodes": {"think": {"type": "llm", "model": "offline", "prompt": "Think."}, "act": {"type": "tools"}},
        "edges": [{"from": "START", "to": "think"}, {"from": "think", "to": "act", "when": "has_tool_calls"}],
    }
    fragment = yaml.safe_load(block.text.replace("greeting.yaml", "react.yaml"))
    whole["nodes"]["think"]["tools"] = list(fragment.get("tools", ()))
    if "tools" not in fragment:
        whole["edges"] = whole["edges"][:1]
        del whole["nodes"]["act"]
    file = reader.folder / "configs" / "workflows" / "whole.yaml"
    file.write_text(yaml.safe_dump({**whole, **fragment}, sort_keys=False), encoding="utf-8")
    done = subprocess.run(
        [PROGRAMS / "modular-agent", "validate", file],
        cwd=reader.folder,
        env=reader.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", ["README.md", "README.zh-CN.md"])
def test_the_quick_start_is_two_commands(document: str) -> None:
    commands = [block.text.strip() for block in blocks(document) if block.text.startswith(QUICK_START)]
    assert commands == [
        f'{QUICK_START}modular-agent run configs/workflows/react.yaml "What is 17 * 23?"',
        f"{QUICK_START}python scripts/check.py",
    ]


@pytest.mark.parametrize("document", [*DOCUMENTS, "CONTRIBUTING.md", "docs/settings.md", "docs/errors.md"])
def test_links_between_documents_lead_somewhere(document: str) -> None:
    file = ROOT / document
    broken: list[str] = []
    for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", file.read_text(encoding="utf-8")):
        if target and not (file.parent / target).exists():
            broken.append(target)
    assert broken == []

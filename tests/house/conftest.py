"""The sources as the house rules look at them."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Source:
    """One Python file: its path relative to the repository, its text and its syntax tree."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        """The dotted name, for files of the package."""
        parts = self.path.with_suffix("").parts[1:]
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read(folder: str) -> Iterator[Source]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        if "starter" not in path.parts and "__pycache__" not in path.parts:
            text = path.read_text(encoding="utf-8")
            yield Source(path.relative_to(ROOT), text, ast.parse(text, str(path)))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def package() -> list[Source]:
    """Every file of the package."""
    return list(read("src"))


@pytest.fixture(scope="session")
def tests() -> list[Source]:
    """Every file of the tests."""
    return list(read("tests"))

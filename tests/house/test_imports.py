import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CONFINED = {
    "sqlalchemy": ["storage"],
    "alembic": ["storage"],
    "langgraph": ["engine"],
    "langchain_core": ["engine"],
    "langchain": ["engine"],
    "mcp": ["engine"],
    "fastapi": ["server", "api", "console"],
    "starlette": ["server", "api", "console"],
    "uvicorn": ["server", "api", "console", "cli"],
    "typer": ["cli"],
    "rich": ["cli"],
    "pydantic_settings": ["settings"],
    "modular_agent.settings": ["cli", "server", "runtime"],
}


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_import_contracts_hold(root: Path) -> None:
    program = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [program, "--config", "importlinter.toml", "--no-cache"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr


@pytest.mark.parametrize("library", CONFINED)
def test_a_library_is_used_only_where_it_belongs(package: Any, library: str) -> None:
    allowed = tuple(f"modular_agent.{layer}" for layer in CONFINED[library])
    found = [
        f"{source.path} imports {name}"
        for source in package
        if not f"{source.module}.".startswith(tuple(f"{layer}." for layer in allowed))
        for name in imports(source.tree)
        if f"{name}.".startswith(f"{library}.")
    ]
    assert found == []


def test_starting_the_package_imports_nothing_but_what_guards_imports() -> None:
    code = "import sys, modular_agent; print([m for m in sys.modules if m.startswith('modular_agent.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['modular_agent.kit', 'modular_agent.kit.bytecode']"

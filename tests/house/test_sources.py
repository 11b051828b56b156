"""The house rules that a machine can check; CONTRIBUTING.md says why they are rules."""

import ast
import re
from typing import Any

import pytest

FUNCTION_LINES = 60
FILE_LINES = 500
DRAWERS = re.compile(r"^(utils?|helpers?|common|core|misc|managers?|base|base_.*|.*_(utils?|helpers?|manager))$")


def functions(tree: ast.AST) -> "list[ast.FunctionDef | ast.AsyncFunctionDef]":
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def calls(tree: ast.AST) -> list[tuple[ast.Call, str]]:
    return [(node, ast.unparse(node.func)) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def lines_of(node: "ast.FunctionDef | ast.AsyncFunctionDef") -> int:
    """The lines of a function without its docstring: explaining more must not cost code."""
    total = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None:
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def test_no_function_is_longer_than_the_limit(package: Any) -> None:
    found = [
        f"{source.path}:{node.lineno} {node.name}: {lines_of(node)} lines"
        for source in package
        for node in functions(source.tree)
        if lines_of(node) > FUNCTION_LINES
    ]
    assert found == []


def test_no_file_is_longer_than_the_limit(package: Any) -> None:
    found = {str(source.path): count for source in package if (count := source.text.count("\n")) > FILE_LINES}
    assert found == {}


def test_no_module_is_a_drawer(package: Any) -> None:
    found = [str(source.path) for source in package if any(DRAWERS.match(part) for part in source.module.split("."))]
    assert found == []


def test_the_syntax_is_that_of_the_oldest_python_supported(package: Any, tests: Any) -> None:
    for source in [*package, *tests]:
        ast.parse(source.text, str(source.path), feature_version=(3, 11))
        assert not re.search(
            r"^\s*type \w+(\[.*\])? =|^\s*(async )?def \w+\[|^\s*class \w+\[", source.text, re.MULTILINE
        ), source.path


def test_no_exception_is_swallowed_whole(package: Any) -> None:
    found = [
        f"{source.path}:{node.lineno}"
        for source in package
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        and all(isinstance(statement, (ast.Pass, ast.Continue)) for statement in node.body)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"^datetime(\.datetime)?\.(utcnow|utcfromtimestamp)$", "it makes times without an offset"),
        (r"^asyncio\.get_event_loop$", "a task needs a running loop"),
        (r"^time\.sleep$", "it blocks the event loop"),
        (r"^(eval|exec)$", "conditions are CEL, never Python"),
        (r"^(pickle\.|marshal\.|yaml\.(load|unsafe_load)$)", "it runs what it reads"),
        (r"^os\.system$", "it goes through a shell"),
    ],
)
def test_some_calls_are_not_made(package: Any, pattern: str, why: str) -> None:
    found = [
        f"{source.path}:{node.lineno} {name}"
        for source in package
        for node, name in calls(source.tree)
        if re.search(pattern, name)
    ]
    assert found == [], why


def test_nothing_is_left_to_be_done(package: Any) -> None:
    marks = re.compile(r"#.*\b(TODO|FIXME|XXX|HACK)\b")
    assert [str(source.path) for source in package if marks.search(source.text)] == []


def test_modules_hold_no_state(package: Any) -> None:
    """What could be changed at module level is a constant, and says so by its name or its type."""
    found = [
        f"{source.path}:{node.lineno}"
        for source in package
        for node in source.tree.body
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        and isinstance(node.value, (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp))
        and "__all__" not in ast.unparse(node)
        and not re.match(r"[A-Z_0-9]+\b|\w+: (Final|Mapping|Sequence)", ast.unparse(node))
    ]
    assert found == []


def test_public_modules_say_what_they_are_for(package: Any) -> None:
    assert [str(source.path) for source in package if not ast.get_docstring(source.tree)] == []


def test_what_a_module_exports_exists(package: Any) -> None:
    for source in package:
        for node in source.tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                names = ast.literal_eval(node.value)
                assert len(names) == len(set(names)), source.path


def test_no_test_replaces_parts_of_the_product(tests: Any) -> None:
    found = [
        f"{source.path}:{node.lineno}"
        for source in tests
        for node in ast.walk(source.tree)
        if (isinstance(node, ast.ImportFrom) and node.module == "unittest.mock")
        or (isinstance(node, ast.Import) and any(alias.name == "unittest.mock" for alias in node.names))
    ]
    assert found == [], "a test that needs a patch shows a missing seam"


def test_no_test_is_skipped_without_a_reason(tests: Any) -> None:
    found: list[str] = []
    for source in tests:
        for node, name in calls(source.tree):
            if re.search(r"(^|\.)(skip|skipif|xfail|skipTest)$", name) and name.startswith("pytest."):
                given = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg in ("reason", None))]
                if not any(isinstance(value, (ast.Constant, ast.JoinedStr)) for value in given):
                    found.append(f"{source.path}:{node.lineno}")
        found += [
            f"{source.path}:{node.lineno}"
            for node in functions(source.tree)
            for decorator in node.decorator_list
            if ast.unparse(decorator) in ("pytest.mark.skip", "pytest.mark.xfail")
        ]
    assert found == []


def test_test_directories_are_not_packages(root: Any) -> None:
    assert list((root / "tests").rglob("__init__.py")) == []

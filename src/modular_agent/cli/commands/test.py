"""`test`: runs the `tests:` of workflow files."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modular_agent.cli.exit_codes import ExitCode
from modular_agent.cli.options import Configs, Invocation, Json, names_root, read_settings

if TYPE_CHECKING:
    from modular_agent.cli.terminal import Terminal
    from modular_agent.cli.workflow_place import WorkflowPlace
    from modular_agent.cli.workflow_tests import TestResult
    from modular_agent.settings import Settings

__all__ = ["try_out"]


def try_out(
    context: typer.Context,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATHS]...", help="Workflow files or folders; the configs root's.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="Use this model instead of the tests' own.")
    ] = None,
    limit: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="For one test.")] = 60.0,
    configs: Configs = None,
    as_json: Json = False,
) -> None:
    """Run the `tests:` of workflow files in a temporary data path; show what differs from what they expect."""
    from modular_agent.cli.workflow_place import find_places

    terminal = Invocation.of(context).terminal
    settings = read_settings(configs=configs)
    places = find_places(paths or [], root=settings.storage.config_path, root_is_given=names_root(configs))
    results = asyncio.run(_results(terminal, settings, places, model=model, limit=limit))
    failed = sum(not result.passed for result in results)
    if as_json:
        terminal.json(
            {"passed": len(results) - failed, "failed": failed, "tests": [_as_json(result) for result in results]}
        )
    else:
        for result in results:
            _show(terminal, result)
        counts = terminal.text(
            "{passed} passed, {failed} failed",
            "通过 {passed}，失败 {failed}",
            passed=len(results) - failed,
            failed=failed,
        )
        terminal.show(counts, style="bold red" if failed else "bold green")
    if failed:
        raise typer.Exit(ExitCode.FAILED)


async def _results(
    terminal: "Terminal", settings: "Settings", places: "list[WorkflowPlace]", *, model: str | None, limit: float
) -> "list[TestResult]":
    from modular_agent.cli.workflow_tests import run_tests
    from modular_agent.kit.logging import Logs
    from modular_agent.kit.redaction import secrets_of
    from modular_agent.settings import environment

    environ = environment()
    level = "DEBUG" if terminal.debug else "ERROR"
    async with Logs(level=level, format="console", secrets=secrets_of(environ)):
        return await run_tests(settings, places, environment=environ, model=model, limit=limit)


def _as_json(result: "TestResult") -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(result), "passed": result.passed}


def _show(terminal: "Terminal", result: "TestResult") -> None:
    from modular_agent.cli.figures import duration

    mark, style = ("✓", "green") if result.passed else ("✗", "red")
    terminal.show(f"{mark} {result.file}: {result.name}  ({duration(result.duration)})", style=style)
    if result.error is not None:
        terminal.show(f"    {result.error}")
    for difference in result.differences:
        terminal.show(f"    {difference.what}")
        terminal.show(f"      - {terminal.text('expected', '期望')}: {_value(difference.what, difference.expected)}")
        terminal.show(f"      + {terminal.text('actual', '实际')}: {_value(difference.what, difference.actual)}")


def _value(what: str, value: Any) -> str:  # any JSON value
    import orjson

    if what == "path":
        return " → ".join(value) or "-"
    if isinstance(value, str):
        return value or "-"
    return orjson.dumps(value).decode()

"""`validate`: every fault of workflow files, each with its place."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modular_agent.cli.exit_codes import ExitCode
from modular_agent.cli.options import Configs, Invocation, Json, names_root, read_settings

if TYPE_CHECKING:
    from modular_agent.cli.workflow_place import WorkflowPlace
    from modular_agent.errors import AgentError

__all__ = ["validate"]


def validate(
    context: typer.Context,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATHS]...", help="Workflow files or folders; the configs root's.")
    ] = None,
    configs: Configs = None,
    as_json: Json = False,
) -> None:
    """Check workflow files and all they refer to; show every fault with its place."""
    from modular_agent.cli.authoring import Desk
    from modular_agent.cli.workflow_place import find_places
    from modular_agent.errors import AgentError
    from modular_agent.settings import environment

    terminal = Invocation.of(context).terminal
    settings = read_settings(configs=configs)
    root = settings.storage.config_path
    desk = Desk(settings, environment())
    results: list[dict[str, Any]] = []
    for place in find_places(paths or [], root=root, root_is_given=names_root(configs)):
        try:
            loaded = desk.read(place.root, place.path)
        except AgentError as error:
            results.append(_faulty(place, error))
            if not as_json:
                terminal.say(place.shown, style="bold")
                terminal.error(error, root=place.root.as_posix())
            continue
        name, content_hash = loaded.spec.name, loaded.content_hash
        results.append(
            {"file": place.shown, "valid": True, "workflow_id": name, "content_hash": content_hash, "errors": []}
        )
        if not as_json:
            terminal.show(terminal.text("{file}: valid", "{file}：有效", file=place.shown))
    if as_json:
        terminal.json({"valid": all(each["valid"] for each in results), "files": results})
    if not all(each["valid"] for each in results):
        raise typer.Exit(ExitCode.FAILED)


def _faulty(place: "WorkflowPlace", error: "AgentError") -> dict[str, Any]:
    from modular_agent.errors import InvalidInput

    if isinstance(error, InvalidInput):
        faults = [fault.fields() for fault in error.faults]
    else:
        faults = [{"code": error.code, "message": error.message(), "path": "", "file": place.path}]
    return {"file": place.shown, "valid": False, "code": error.code, "errors": faults}

"""`draw`: a workflow as Mermaid text."""

from pathlib import Path
from typing import Annotated

import typer

from modular_agent.cli.options import Configs, Invocation, names_root, read_settings

__all__ = ["draw"]


def draw(
    context: typer.Context,
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="A workflow file, or its name.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file instead.")
    ] = None,
    configs: Configs = None,
) -> None:
    """Draw a workflow as Mermaid text (https://mermaid.js.org)."""
    from modular_agent.cli.authoring import Desk
    from modular_agent.cli.workflow_place import find_place
    from modular_agent.engine.spec.mermaid import mermaid
    from modular_agent.settings import environment

    terminal = Invocation.of(context).terminal
    settings = read_settings(configs=configs)
    place = find_place(workflow, root=settings.storage.config_path, root_is_given=names_root(configs))
    text = mermaid(Desk(settings, environment()).read(place.root, place.path).spec)
    if output is None:
        terminal.write(text)
        return
    output.write_text(text, encoding="utf-8")
    terminal.say(terminal.text("Written to {file}.", "已写入 {file}。", file=output))

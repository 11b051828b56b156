"""`init`: writes the starter project."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modular_agent.cli.options import Invocation, Json

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["init"]


def init(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where; made if it is missing.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that exist and differ.")] = False,
    as_json: Json = False,
) -> None:
    """Write a starter project: workflows, prompts, scripts and tools that run offline."""
    from modular_agent.cli.errors import FilesExist

    terminal = Invocation.of(context).terminal
    files = _starter()
    present = {name: (directory / name).read_bytes() for name in files if (directory / name).is_file()}
    differing = sorted(name for name, content in present.items() if content != files[name])
    if differing and not force:
        raise FilesExist(files=", ".join(differing))
    written = sorted(name for name, content in files.items() if present.get(name) != content)
    for name in written:
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(files[name])
    if as_json:
        terminal.json({"directory": str(directory), "written": written})
        return
    for name in written:
        terminal.show((directory / name).as_posix())
    enter = "" if directory == Path() else f"  cd {directory}\n"
    terminal.say(
        terminal.text(
            '\n{count} files written. Next:\n{enter}  modular-agent run react "What is 17 * 23?"\n'
            "  modular-agent test\n  modular-agent serve\n"
            "Without a key the workflows answer offline; .env.example says how to use a model.",
            '\n已写入 {count} 个文件。接下来：\n{enter}  modular-agent run react "17 * 23 等于多少？"\n'
            "  modular-agent test\n  modular-agent serve\n"
            "没有密钥时工作流离线作答；如何使用模型见 .env.example。",
            count=len(written),
            enter=enter,
        )
    )


def _starter() -> dict[str, bytes]:
    """The starter's files by their path in a project."""
    from importlib.resources import files

    package = files("modular_agent")
    found = dict(_below(package / "starter" / "configs", "configs/"))
    found[".env.example"] = (package / "starter" / "env.example").read_bytes()
    found["schemas/workflow.v1.json"] = (package / "schemas" / "workflow.v1.json").read_bytes()
    return found


def _below(folder: "Traversable", prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            found += _below(entry, f"{prefix}{entry.name}/")
        elif entry.is_file():
            found.append((f"{prefix}{entry.name}", entry.read_bytes()))
    return found

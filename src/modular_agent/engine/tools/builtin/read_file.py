"""`builtin.read_file`: reads a text file below a folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from modular_agent.engine.tools.builtin.folder import Folder, in_thread
from modular_agent.engine.tools.builtin.tool import BuiltinTool, Options, Refused, Setup
from modular_agent.engine.tools.port import ToolContext

__all__ = ["FolderOptions", "ReadFileOptions", "folder_of", "read_file"]

DESCRIPTION: Final = "Reads a text file, or some of its lines."
PARAMETERS: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "description": "The file, relative to the folder", "maxLength": 4_096},
        "first_line": {"type": "integer", "minimum": 1, "description": "The line to begin with; 1 when left out"},
        "lines": {"type": "integer", "minimum": 1, "description": "How many lines; all when left out"},
    },
    "required": ["path"],
    "additionalProperties": False,
}


class FolderOptions(Options):
    """`folder` is below the configs root; without it, the folder is the session's own files (large outputs)."""

    folder: str | None = None


class ReadFileOptions(FolderOptions):
    """`max_bytes` bounds what one call reads."""

    max_bytes: int = Field(default=262_144, ge=1, le=16_777_216)


def folder_of(options: FolderOptions, root: Path, context: ToolContext) -> Folder:
    """The folder that `options` name. Raises `Refused`."""
    if options.folder is None:
        return Folder(context.files)
    try:
        return Folder(Folder(root).place(options.folder))
    except Refused:
        raise Refused(f"The folder {options.folder!r} of this tool does not exist below the configs root.") from None


def read_file(options: ReadFileOptions, setup: Setup) -> BuiltinTool:
    """The tool that reads one file."""

    async def run(arguments: Mapping[str, Any], context: ToolContext) -> str:
        def work(stopped: Callable[[], bool]) -> str:
            del stopped  # what it does is bounded
            folder = folder_of(options, setup.root, context)
            return _read(folder, arguments, options.max_bytes)

        return await in_thread(work)

    return BuiltinTool(setup, description=DESCRIPTION, parameters=PARAMETERS, run=run)


def _read(folder: Folder, arguments: Mapping[str, Any], maximum: int) -> str:
    path, first, count = arguments["path"], arguments.get("first_line", 1), arguments.get("lines")
    parts: list[bytes] = []
    size, number, cut = 0, 0, False
    with folder.open(path) as file:
        while not cut and (line := file.readline(maximum + 1)):
            number += 1
            if number < first:
                continue
            if count is not None and number >= first + count:
                break
            size += len(line)
            cut = size > maximum
            parts.append(line if not cut else line[: maximum - (size - len(line))])
    data = b"".join(parts)
    if b"\x00" in data:
        raise Refused(f"{path!r} is not a text file.")
    if not data and first > 1:
        raise Refused(f"{path!r} has {number} lines.")
    text = data.decode("utf-8", "replace")
    return f"{text}\n[Cut after {maximum} bytes, in line {number}; read on with first_line.]" if cut else text

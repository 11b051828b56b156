"""`builtin.search_files`: finds files by name and lines by text below a folder."""

import fnmatch
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from modular_agent.engine.tools.builtin.folder import Folder, in_thread
from modular_agent.engine.tools.builtin.read_file import FolderOptions, folder_of
from modular_agent.engine.tools.builtin.tool import BuiltinTool, Refused, Setup
from modular_agent.engine.tools.port import ToolContext

__all__ = ["SearchFilesOptions", "search_files"]

DESCRIPTION: Final = "Finds files by a name pattern, and with `text` the lines in them that contain it."
SEEN_PER_READ: Final = 20  # names looked at for each file that may be read
LINE: Final = 300  # characters shown of a line
PARAMETERS: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "minLength": 1, "maxLength": 500, "description": "What the lines contain"},
        "glob": {"type": "string", "maxLength": 200, "description": "A pattern of paths such as *.md or docs/**"},
        "case_sensitive": {"type": "boolean", "description": "false when left out"},
    },
    "additionalProperties": False,
}


class SearchFilesOptions(FolderOptions):
    """`max_results` bounds what is found; `max_files` and `max_bytes` (of one file) what is read."""

    max_results: int = Field(default=50, ge=1, le=1_000)
    max_files: int = Field(default=5_000, ge=1, le=100_000)
    max_bytes: int = Field(default=2_097_152, ge=1, le=67_108_864)


def search_files(options: SearchFilesOptions, setup: Setup) -> BuiltinTool:
    """The tool that searches a folder."""

    async def run(arguments: Mapping[str, Any], context: ToolContext) -> str:
        if not arguments.get("text") and not arguments.get("glob"):
            raise Refused("Give `text`, `glob` or both.")

        def work(stopped: Callable[[], bool]) -> str:
            folder = folder_of(options, setup.root, context)
            return _Search(folder, options, arguments, stopped).answer()

        return await in_thread(work)

    return BuiltinTool(setup, description=DESCRIPTION, parameters=PARAMETERS, run=run)


@dataclass(slots=True)
class _Search:
    folder: Folder
    options: SearchFilesOptions
    arguments: Mapping[str, Any]
    stopped: Callable[[], bool]
    read: int = 0
    seen: int = 0

    def answer(self) -> str:
        found: list[str] = []
        for hit in self._hits():
            if len(found) == self.options.max_results:
                return "\n".join([*found, f"[The first {len(found)}; there are more.]"])
            found.append(hit)
        cut = ["[There are more files than are looked at: name a narrower glob.]"] if self._is_enough() else []
        return "\n".join([*(found or ["Nothing was found."]), *cut])

    def _hits(self) -> Iterator[str]:
        text = self.arguments.get("text")
        for path in self._paths():
            if text is None:
                yield path
            else:
                yield from self._lines(path, text)

    def _paths(self) -> Iterator[str]:
        glob = self.arguments.get("glob") or "*"
        matches = re.compile(fnmatch.translate(glob.removeprefix("./").removeprefix("**/"))).match
        for place, folders, files in os.walk(self.folder.root):
            if self.stopped():
                return
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                self.seen += 1
                if self._is_enough():
                    return
                path = (Path(place) / name).relative_to(self.folder.root).as_posix()
                if not name.startswith(".") and (matches(path) or ("/" not in glob and matches(name))):
                    self.read += 1
                    yield path

    def _is_enough(self) -> bool:
        return (
            self.stopped() or self.read >= self.options.max_files or self.seen > SEEN_PER_READ * self.options.max_files
        )

    def _lines(self, path: str, text: str) -> Iterator[str]:
        try:
            with self.folder.open(path) as file:
                data = file.read(self.options.max_bytes)
        except Refused:
            return  # a link that leads out, a pipe
        if b"\x00" in data[:8_192]:
            return
        folded = not self.arguments.get("case_sensitive", False)
        wanted = text.casefold() if folded else text
        content = data.decode("utf-8", "replace")
        if wanted not in (content.casefold() if folded else content):
            return
        for number, line in enumerate(content.splitlines(), 1):
            if wanted in (line.casefold() if folded else line):
                yield f"{path}:{number}: {line.strip()[:LINE]}"

"""The fenced blocks of a document, as a reader would use them, in order.

```yaml title=PATH      is a file of the reader's project        ```yaml fragment   a part of a workflow file
```bash                 is typed there (`no-run`: needs what a test has not)
```text                 is what the commands before print: these lines in this order, `...` for what varies
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is where it starts. `title` is the file that it is, `printed` what a command prints."""

    document: str
    line: int
    language: str
    info: str
    text: str
    printed: str | None = None

    @property
    def title(self) -> str | None:
        found = re.search(r"title=(\S+)", self.info)
        return found[1] if found else None

    @property
    def runs(self) -> bool:
        return self.language == "bash" and "no-run" not in self.info

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks(document: str) -> list[Block]:
    """All blocks of a document; what commands print is part of their block."""
    merged: list[Block] = []
    for block in _blocks(document):
        if block.language == "text" and merged and merged[-1].language == "bash":
            merged[-1] = replace(merged[-1], printed=block.text)
        else:
            merged.append(block)
    return merged


def _blocks(document: str) -> Iterator[Block]:
    text = (ROOT / document).read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Block(document, line, match["language"], match["info"].strip(), match["text"])


def missing(printed: str, output: str) -> list[str]:
    """The expected lines that do not follow one another in `output`."""
    lines = iter(output.splitlines())
    absent: list[str] = []
    for wanted in printed.splitlines():
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in wanted.split("...")))
        if wanted.strip() and not any(pattern.search(line) for line in lines):
            absent.append(wanted)
            lines = iter(output.splitlines())
    return absent

"""Where a command writes: results to standard output, everything else to standard error, plain where nobody watches.

Colours are used in a terminal only, and never where `NO_COLOR` is set (https://no-color.org).
"""

import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from modular_agent.cli.language import language_of
from modular_agent.errors import AgentError, InvalidInput, Language
from modular_agent.kit.dataclass import dataclass

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Terminal", "clean", "open_terminal"]

# All but tab and newline: they move the cursor or set the title, and a model or a tool may have been told to.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """`text` without control characters."""
    return _CONTROL.sub("", text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """A command's two streams and its language."""

    out: "Console"
    err: "Console"
    language: Language
    debug: bool = False

    def text(self, english: str, chinese: str, **parameters: object) -> str:
        """The text in the person's language."""
        return (chinese if self.language == "zh" else english).format(**parameters)

    def say(self, text: str, *, style: str = "") -> None:
        """One line (or more) for the person, on standard error."""
        self.err.print(clean(text), style=style or None, markup=False, highlight=False, soft_wrap=True)

    def show(self, text: str, *, style: str = "") -> None:
        """A line of the command's result, on standard output."""
        self.out.print(clean(text), style=style or None, markup=False, highlight=False, soft_wrap=True)

    def write(self, text: str) -> None:
        """A piece of the command's result as it is, at once."""
        self.out.file.write(clean(text))
        self.out.file.flush()

    def json(self, value: Any) -> None:  # any JSON value
        """One JSON value on a line of its own, on standard output."""
        import orjson

        sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()

    def error(self, error: AgentError, *, root: str | None = None) -> None:
        """An error with its code and every place it names; `root` is put in front of their files."""
        self.err.print(_labelled(f"error[{error.code}]", clean(error.message(self.language))), soft_wrap=True)
        if isinstance(error, InvalidInput):
            for fault in error.faults:
                prefix = f"{root}/" if root not in (None, ".") and fault.file else ""
                self.say(f"  {prefix}{fault.told(self.language)}")


def _labelled(label: str, text: str) -> Any:  # a rich.text.Text
    from rich.text import Text

    return Text.assemble((label, "bold red"), f": {text}")


def open_terminal(environment: Mapping[str, str], *, debug: bool = False) -> Terminal:
    """The terminal of this process. Raises nothing: what cannot be encoded is replaced."""
    from rich.console import Console

    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    return Terminal(
        out=Console(file=sys.stdout),
        err=Console(file=sys.stderr),
        language=language_of(environment),
        debug=debug,
    )

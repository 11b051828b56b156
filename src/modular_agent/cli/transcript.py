"""What a person sees of a run: the conversation on standard output, tools and notes on standard error.

An answer is streamed while it is written when somebody watches; into a file or a pipe it goes when it is finished, so
that what a failed attempt had begun never gets there.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final, cast

import orjson

from modular_agent.cli.figures import Spent, duration
from modular_agent.cli.terminal import Terminal

__all__ = ["Transcript"]

BRIEF: Final = 300  # characters of a tool's input or output that are shown

Fields = Mapping[str, Any]  # a record's fields: JSON values


class Transcript:
    """Shows the events of one session. `speakers` are the nodes whose answers belong to the conversation."""

    def __init__(self, terminal: Terminal, *, speakers: Collection[str]) -> None:
        self.spent = Spent()
        self.path: list[str] = []
        self._terminal = terminal
        self._speakers = speakers
        self._streams = terminal.out.is_terminal
        self._open: str | None = None  # the message that is being streamed
        self._written = 0  # characters of it
        self._begun: dict[str, str] = {}  # what other messages have begun with meanwhile, by their ids
        self._waiting: list[Fields] = []  # messages that were finished meanwhile
        self._held: list[tuple[str, str]] = []  # notes that wait for the end of that message, with their styles
        self._called: str | None = None  # the tool call that was shown last

    def take(self, kind: str, envelope: bytes) -> None:
        """An event of the session: its type and its envelope."""
        show = {
            "message_delta": self._delta,
            "message": self._message,
            "tool_call": self._tool_call,
            "llm_call": self._llm_call,
            "log": self._log,
            "error_event": self._error,
            "workflow_state": self._step,
        }.get(kind)
        if show is not None:
            data: Fields = orjson.loads(envelope)["data"]
            show(data)

    def close(self) -> None:
        """No more events: ends a line that was begun, and shows what was held back for it."""
        self._break()

    # -- the conversation --------------------------------------------------------------------------------------

    def _delta(self, data: Fields) -> None:
        message_id = str(data["message_id"])
        if data.get("abandoned"):
            self._begun.pop(message_id, None)
            if message_id == self._open:
                self._break()
                self._note(self._terminal.text("(broke off)", "（中断）"))
            return
        if not self._streams or data["channel"] != "content" or data["node"] not in self._speakers:
            return
        text, offset = str(data["text"]), int(data["offset"])
        if self._open is None:
            self._open, self._written = message_id, 0
            text, offset = self._begun.pop(message_id, "")[:offset] + text, 0
        if message_id == self._open:
            self._terminal.write(text[max(0, self._written - offset) :])
            self._written = offset + len(text)
        else:  # a model may begin before the last message is in the log, and branches speak at the same time
            self._begun[message_id] = self._begun.get(message_id, "")[:offset] + text

    def _message(self, data: Fields) -> None:
        if data["message_type"] != "assistant":
            return
        if self._open is not None and data["record_id"] != self._open:
            self._waiting.append(data)
            return
        self._say(data)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            self._say(each)

    def _say(self, data: Fields) -> None:
        self._begun.pop(str(data["record_id"]), None)
        text = _text(data["content"])
        if data["metadata"].get("in_conversation") is False:
            if text:
                self._note(f"{data['node']}: {_brief(text)}")
            return
        begun = self._written if data["record_id"] == self._open else 0
        self._open, self._written = None, 0
        if text:
            self._terminal.write(f"{text[begun:]}\n")
        self._release()

    def _break(self) -> None:
        """Gives up the answer that is being streamed."""
        if self._open is not None and self._written:
            self._terminal.write("\n")
        self._open, self._written = None, 0
        self._release()

    # -- what goes on beside it --------------------------------------------------------------------------------

    def _note(self, text: str, style: str = "dim") -> None:
        """A line beside the conversation; it waits for the end of a line of the conversation that was begun."""
        if self._open is not None and self._written:
            self._held.append((text, style))
        else:
            self._terminal.say(text, style=style)

    def _release(self) -> None:
        held, self._held = self._held, []
        for text, style in held:
            self._terminal.say(text, style=style)

    def _tool_call(self, data: Fields) -> None:
        name, call_id = data["tool_name"], data["tool_call_id"]
        if data["phase"] == "intent":
            self._called = call_id
            self._note(f"  → {name}({_arguments(data['tool_input'])})", style="cyan")
            return
        known = self._called == call_id
        self._called = None
        label = "" if known else f"{name}: "
        if data["phase"] == "interrupted":
            said = self._terminal.text("interrupted; whether it was done is not known", "已中断；是否已执行不得而知")
            self._note(f"  ✗ {label}{said}", style="yellow")
            return
        took = duration(data["execution_time"] or 0.0)
        if data["success"]:
            self._note(f"  ← {label}{_brief(_text(data['tool_output']))}  ({took})")
        else:
            self._note(f"  ✗ {label}{_brief(_text(data['tool_output']))}  ({took})", style="yellow")

    def _llm_call(self, data: Fields) -> None:
        if data["record_type"] == "token_usage":
            self.spent.prompt_tokens += data["prompt_tokens"]
            self.spent.completion_tokens += data["completion_tokens"]
            self._last_tokens = data["prompt_tokens"] + data["completion_tokens"]
        elif data["record_type"] == "cost":
            if data.get("amount") is None:
                self.spent.unpriced_tokens += self._last_tokens
            else:
                self.spent.cost_usd += float(data["amount"])

    def _log(self, data: Fields) -> None:
        serious = data["level"] in ("warning", "error", "critical")
        self._note(f"  {'!' if serious else '·'} {data['message']}", style="yellow" if serious else "dim")

    def _error(self, data: Fields) -> None:
        node = f" ({data['node']})" if data.get("node") else ""
        style = "yellow" if data["severity"] == "warning" else "red"
        self._note(f"  ✗ {data['error_type']}{node}: {_brief(data['error_message'])}", style=style)

    def _step(self, data: Fields) -> None:
        """Keeps the whole path: a record repeats its end only."""
        tail, length = list(data["execution_path"]), int(data["path_length"])
        if length > len(self.path):
            self.path += tail[len(tail) - (length - len(self.path)) :]


def _text(content: object) -> str:
    """Text as it is, content parts by their text, anything else as JSON."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list):
        parts = cast("list[Any]", content)
        if all(isinstance(part, dict) and "text" in part for part in parts):
            return "".join(str(part["text"]) for part in parts)
    return orjson.dumps(content).decode()


def _arguments(value: object) -> str:
    if not isinstance(value, dict):
        return _brief(_text(value))
    fields = cast("dict[str, Any]", value)
    return _brief(", ".join(f"{name}={orjson.dumps(each).decode()}" for name, each in fields.items()))


def _brief(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= BRIEF else f"{line[:BRIEF]}…"

"""A paused run in the hands of the person at the terminal: it goes on, does one step, is told or changed, or ends."""

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, Final

from modular_agent.cli.arguments import state_of
from modular_agent.cli.keyboard import Keyboard
from modular_agent.cli.terminal import Terminal
from modular_agent.errors import AgentError
from modular_agent.kit.dataclass import dataclass

if TYPE_CHECKING:
    from modular_agent.runtime import Runtime
    from modular_agent.storage.repositories.sessions import SessionRow

__all__ = ["BY", "Given", "Hold"]

BY: Final = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a paused run is given before it goes on: a `message` for the next model call, changes of its `state`.

    With `step` it goes on for one step.
    """

    message: str | None = None
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    step: bool = False


class Hold:
    """The verbs for a paused run of a session, and the lines by which a person asks for them."""

    def __init__(self, runtime: "Runtime", session: "SessionRow", *, terminal: Terminal, keyboard: Keyboard) -> None:
        self._runtime = runtime
        self._session = session
        self._terminal = terminal
        self._keyboard = keyboard

    async def give(self, given: Given) -> None:
        """Changes the state, and puts the message in front of the next model call."""
        if given.state:
            await self._runtime.interventions.edit(self._session, given.state, by=BY)
        if given.message is not None:
            await self._runtime.interventions.inject(self._session, given.message, by=BY)

    async def go_on(self, *, step: bool) -> None:
        """Has the run go on. Raises `NotPaused`, `QuestionsOpen`."""
        await self._runtime.control.resume(self._session, by=BY, step=step)

    async def ask(self) -> bool:
        """Has the person say what becomes of the run; whether it goes on, or has been stopped."""
        text = self._terminal.text
        self._terminal.say(
            text(
                "Paused. Enter: go on · s: one step · m TEXT: a message · e KEY=JSON: change the state · x: stop · "
                "q: leave it paused",
                "已暂停。回车：继续 · s：执行一步 · m 文本：添加消息 · e 键=JSON：修改状态 · x：停止 · "
                "q：保持暂停并退出",
            ),
            style="yellow",
        )
        while True:
            self._terminal.err.print("? ", end="", markup=False, highlight=False)
            line = await self._keyboard.line()
            if not self._keyboard.echoes:
                self._terminal.say("")
            if line is None and not self._keyboard.was_interrupted:
                return False
            word, _, rest = ("x" if line is None else line.strip()).partition(" ")
            if word == "q":
                return False
            try:
                if await self._carried_out(word, rest.strip()):
                    return True
            except AgentError as error:
                self._terminal.error(error)

    async def _carried_out(self, word: str, rest: str) -> bool:
        """Does what a line asks for; whether the run is under way again, or stopped."""
        if word == "x":
            await self._runtime.control.stop(self._session, by=BY)
            return True
        if word in {"", "s"} and not rest:
            await self.go_on(step=word == "s")
            return True
        if word == "m" and rest:
            await self.give(Given(message=rest))
        elif word == "e" and rest:
            await self.give(Given(state=state_of([rest])))
        else:
            shown = f"{word} {rest}".strip()
            self._terminal.say(self._terminal.text("  ✗ not known: {w}", "  ✗ 无法识别：{w}", w=shown), style="yellow")
        return False

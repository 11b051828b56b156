"""Questions of a run, put to the person at the terminal."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson

from modular_agent.cli.answers import Unusable, hint, parse
from modular_agent.cli.figures import duration, money
from modular_agent.cli.keyboard import Keyboard
from modular_agent.cli.terminal import Terminal, clean

if TYPE_CHECKING:
    from modular_agent.errors import Fault
    from modular_agent.storage.repositories.interrupts import InterruptRow

__all__ = ["ItsTimeIsOver", "NobodyAnswered", "Questions"]

MICROSECONDS: Final = 1_000_000

Fields = Mapping[str, Any]  # JSON values: a question, a form


class NobodyAnswered(Exception):
    """The input has ended, or Ctrl-C was pressed: the question stays open."""


class ItsTimeIsOver(Exception):
    """The question answers itself by its default."""


class Questions:
    """Asks by the form of each question, field by field, until the answer can be used."""

    def __init__(self, terminal: Terminal, keyboard: Keyboard) -> None:
        self._terminal = terminal
        self._keyboard = keyboard

    async def ask(self, row: "InterruptRow", *, now_us: int) -> Any:  # any JSON value
        """The answer to a question. Raises `NobodyAnswered`, `ItsTimeIsOver`."""
        left = None if row.due_at is None else max(0.0, (row.due_at - now_us) / MICROSECONDS)
        try:
            async with asyncio.timeout(left):
                self._introduce(row)
                return await self._answer(row)
        except TimeoutError:
            self._terminal.say(self._terminal.text("\n  (too late: the default counts)", "\n  （超时：采用默认回答）"))
            raise ItsTimeIsOver from None

    async def _answer(self, row: "InterruptRow") -> Any:  # any JSON value
        form: Fields = row.form or {"type": "string"}
        if row.kind == "approval":
            return await self._approval(form)
        if row.kind == "budget":
            return await self._raised(row.question, form)
        if form.get("type") == "object":
            return await self._object(form)
        return await self._value(">", form, required=True)

    async def _approval(self, form: Fields) -> dict[str, Any]:
        """Yes, perhaps with other arguments; or no, perhaps with a reason."""
        fields: Mapping[str, Fields] = form["properties"]
        text = self._terminal.text
        approve = await self._value(text("  approve", "  批准"), fields["approve"], required=True)
        name = "arguments" if approve else "reason"
        label = text("  other arguments", "  改用其他参数") if approve else text("  reason", "  原因")
        more = await self._value(label, fields[name], required=False) if name in fields else None
        return {"approve": approve} if more is None else {"approve": approve, name: more}

    async def _raised(self, asked: Fields, form: Fields) -> dict[str, Any]:
        """A higher limit; nothing ends the run."""
        limit = str(asked["limit"])
        label = self._terminal.text("  new {limit}", "  新的 {limit}", limit=limit)
        value = await self._value(label, form["properties"][limit], required=False)
        return {"stop": True} if value is None else {limit: value}

    def refused(self, faults: Iterable["Fault"]) -> None:
        """Says why an answer was not taken."""
        for fault in faults:
            self._terminal.say(f"  ✗ {fault.told(self._terminal.language)}", style="yellow")

    def _introduce(self, row: "InterruptRow") -> None:
        terminal, asked = self._terminal, row.question
        terminal.say("")
        if row.kind == "approval":
            text = terminal.text("May {tool} be called?", "允许调用 {tool} 吗？", tool=asked["tool_name"])
            terminal.say(f"? {text}", style="bold")
            terminal.say(f"  {orjson.dumps(asked['tool_input']).decode()}")
        elif row.kind == "budget":
            terminal.say(f"? {self._budget(asked)}", style="bold")
        else:
            terminal.say(f"? {asked.get('text') or row.node}", style="bold")
            if "tool_input" in asked:
                terminal.say(f"  {orjson.dumps(asked['tool_input']).decode()}")

    def _budget(self, asked: Fields) -> str:
        limit, maximum, used = asked["limit"], float(asked["maximum"]), float(asked["used"])
        show = {"max_cost_usd": money, "max_seconds": duration}.get(limit, _plain)
        figures = {"limit": limit, "maximum": show(maximum), "used": show(used)}
        if asked.get("period", "run") == "run":
            return self._terminal.text(
                "The limit {limit} of {maximum} is reached ({used} used). Give a higher one; Enter ends the run.",
                "已达到限制 {limit}（上限 {maximum}，已用 {used}）。请给出更高的限制；直接回车则结束运行。",
                **figures,
            )
        return self._terminal.text(
            "The limit {limit} of {maximum} of {budget} ({subject}) is used up ({used} used). "
            "Give one that this run alone may go up to; Enter ends the run.",
            "{budget}（{subject}）的限制 {limit}（上限 {maximum}）已用尽（已用 {used}）。"
            "请给出仅供本次运行使用的更高限制；直接回车则结束运行。",
            **figures,
            budget=asked["budget"],
            subject=asked.get("day") or asked["subject"] or "-",
        )

    async def _object(self, form: Fields) -> dict[str, Any]:
        required: list[str] = form.get("required") or []
        answer: dict[str, Any] = {}
        fields: Mapping[str, Fields] = form.get("properties") or {}
        for name, schema in fields.items():
            label = str(schema.get("title") or schema.get("description") or name)
            value = await self._value(f"  {label}", schema, required=name in required)
            if value is not None:
                answer[name] = value
        return answer

    async def _value(self, label: str, schema: Fields, *, required: bool) -> Any:  # any JSON value
        """One value; None where none was given and none is required."""
        terminal = self._terminal
        about = hint(schema, terminal.language)
        optional = "" if required else terminal.text("Enter for none", "回车跳过")
        default = f"[{orjson.dumps(schema['default']).decode()}]" if "default" in schema else ""
        more = ", ".join(part for part in (about, optional, default) if part)
        prompt = clean(f"{label} ({more}) " if more else f"{label} ")
        while True:
            terminal.err.print(prompt, end="", markup=False, highlight=False, soft_wrap=True)
            line = await self._keyboard.line()
            if not self._keyboard.echoes:
                terminal.say("")
            if line is None:
                raise NobodyAnswered
            if not line.strip() and "default" in schema:
                return schema["default"]
            if not line.strip() and not required:
                return None
            if line.strip():
                try:
                    return _checked(parse(line, schema), schema)
                except Unusable as error:
                    why = str(error)
                    terminal.say(
                        terminal.text("  ✗ cannot be used: {why}", "  ✗ 无法使用：{why}", why=why), style="yellow"
                    )


def _plain(amount: float) -> str:
    return f"{amount:g}"


def _checked(value: Any, schema: Fields) -> Any:  # any JSON value
    """`value`, if it fits the field's schema. Raises `Unusable`."""
    from jsonschema.exceptions import ValidationError
    from jsonschema.validators import Draft202012Validator

    validator: Any = Draft202012Validator(dict(schema))  # its methods are only partly typed
    try:
        validator.validate(value)
    except ValidationError as error:
        raise Unusable(error.message) from error
    return value

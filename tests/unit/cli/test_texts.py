from collections.abc import Callable

import pytest
import typer

from modular_agent.cli.app import make_app
from modular_agent.cli.exit_codes import ExitCode, exit_code_of, exit_code_of_run
from modular_agent.cli.figures import Spent, duration, money
from modular_agent.cli.help_texts import CHINESE, help_of, localise
from modular_agent.cli.language import language_of
from modular_agent.cli.terminal import Terminal
from modular_agent.errors import AgentError, Fault, InvalidInput, Text
from modular_agent.lifecycle import RunStatus


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LC_ALL": "zh_TW", "LANG": "en_US"}, "zh"),
        ({"LC_ALL": "C", "LANG": "zh_CN"}, "en"),
        ({"LC_ALL": "", "LC_MESSAGES": "zh", "LANG": "en"}, "zh"),
    ],
)
def test_the_language_is_that_of_the_locale(environment: dict[str, str], language: str) -> None:
    assert language_of(environment) == language


def test_every_help_text_has_a_chinese_one_and_no_other_is_kept() -> None:
    assert set(help_of(typer.main.get_command(make_app()))) == set(CHINESE)


def test_the_help_is_in_the_persons_language() -> None:
    texts = help_of(localise(typer.main.get_command(make_app()), "zh"))
    assert set(texts) == set(CHINESE.values())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.00042, "0.4 ms"), (0.25, "250 ms"), (3.24, "3.2 s"), (245, "4 min 05 s")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("usd", "text"), [(12.345, "$12.35"), (0.0012, "$0.0012"), (0.5, "$0.50"), (0.0, "$0.00")])
def test_small_amounts_keep_their_digits(usd: float, text: str) -> None:
    assert money(usd) == text


def test_nothing_used_costs_nothing_to_say(make_terminal: Callable[..., Terminal]) -> None:
    assert Spent().shown(make_terminal()) == ""
    assert Spent(prompt_tokens=3, unpriced_tokens=3).cost(make_terminal(language="zh")) == "费用未定价"


def test_each_status_has_its_exit_code() -> None:
    codes = {status: exit_code_of_run(status) for status in RunStatus}
    assert codes[RunStatus.COMPLETED] == 0
    assert codes[RunStatus.FAILED] == 1
    assert codes[RunStatus.PAUSED] == 3
    assert codes[RunStatus.STOPPED] == 4
    assert exit_code_of(AgentError()) is ExitCode.FAILED
    assert exit_code_of(InvalidInput([])) is ExitCode.USAGE


def test_an_error_is_shown_with_code_and_places(make_terminal: Callable[..., Terminal]) -> None:
    terminal = make_terminal(language="zh")
    text = Text("no node 'b'", "没有节点 'b'")
    fault = Fault(code="x", text=text, path="edges[0].to", file="workflows/a.yaml", line=3, column=7, suggestion="c")
    terminal.error(InvalidInput([fault]), root="configs")
    lines = terminal.err.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines == [
        "error[invalid_input]: 输入有 1 处错误。",
        "  configs/workflows/a.yaml:3:7 edges[0].to: 没有节点 'b'（是否想用 'c'？）",
    ]

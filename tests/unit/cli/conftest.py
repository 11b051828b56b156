"""A terminal whose two streams can be read."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from modular_agent.cli.terminal import Terminal
from modular_agent.errors import Language


@pytest.fixture
def make_terminal() -> Callable[..., Terminal]:
    def make(*, watched: bool = False, language: Language = "en") -> Terminal:
        return Terminal(
            out=Console(file=io.StringIO(), force_terminal=watched, no_color=True, width=80),
            err=Console(file=io.StringIO(), force_terminal=False, width=80),
            language=language,
        )

    return make

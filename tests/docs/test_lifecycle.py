"""docs/lifecycle.md says what lifecycle.py does."""

import re
from pathlib import Path

from modular_agent.lifecycle import RUN_TRANSITIONS, SESSION_STATUS_OF_RUN, RunStatus

TEXT = (Path(__file__).parents[2] / "docs" / "lifecycle.md").read_text(encoding="utf-8")


def _rows(heading: str) -> list[list[list[str]]]:
    table = TEXT.split(heading)[1].split("\n\n")[0].strip().splitlines()[1:]
    return [[re.findall(r"`(\w+)`", cell) for cell in line.strip("|").split("|")] for line in table]


def test_the_table_of_transitions_is_the_one_in_the_code() -> None:
    documented = {
        RunStatus(source[0]): {RunStatus(name) for name in targets} for source, targets in _rows("| may become |")
    }
    assert documented == RUN_TRANSITIONS


def test_the_session_status_of_each_run_status_is_the_one_in_the_code() -> None:
    documented = {RunStatus(name): target[0] for names, target in _rows("| the session is |") for name in names}
    assert documented == SESSION_STATUS_OF_RUN

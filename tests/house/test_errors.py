import re
import string
import sys
from collections import defaultdict
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from reference import error_classes, import_everything

from modular_agent.api.errors import status_of
from modular_agent.errors import AgentError, Kind

import_everything()
ERRORS = sorted(set(error_classes()), key=lambda error: error.__qualname__)
NAMES = [f"{error.__module__.removeprefix('modular_agent.')}.{error.__qualname__}" for error in ERRORS]
each_error = pytest.mark.parametrize("error", ERRORS, ids=NAMES)


def fields(text: str) -> set[str]:
    return {re.split(r"[.\[]", name)[0] for _, name, _, _ in string.Formatter().parse(text) if name}


def test_codes_are_unique() -> None:
    owners: dict[str, list[str]] = defaultdict(list)
    for error, name in zip(ERRORS, NAMES, strict=True):
        if "code" in vars(error):
            owners[error.code].append(name)
    assert {code: names for code, names in owners.items() if len(names) > 1} == {}


@each_error
def test_an_error_that_is_raised_has_a_code_of_its_own(error: type[AgentError]) -> None:
    is_a_family = any(child in ERRORS for child in error.__subclasses__())
    assert "code" in vars(error) or is_a_family
    assert re.fullmatch(r"[a-z][a-z0-9_]*", error.code)


@each_error
def test_an_error_speaks_english_and_chinese(error: type[AgentError]) -> None:
    assert error.english.strip()
    assert not re.search(r"[一-鿿]", error.english)
    assert re.search(r"[一-鿿]", re.sub(r"\{[^}]*\}", "", error.chinese)) or not re.sub(
        r"\{[^}]*\}|\W", "", error.english
    )


@each_error
def test_both_texts_tell_the_same_facts(error: type[AgentError]) -> None:
    assert fields(error.english) == fields(error.chinese)


@each_error
def test_an_error_has_a_status(error: type[AgentError]) -> None:
    assert isinstance(error.kind, Kind)
    assert 400 <= status_of(error) < 600


@each_error
def test_an_error_says_what_it_means(error: type[AgentError]) -> None:
    assert error.__doc__
    assert error.__doc__ != AgentError.__doc__ or error is AgentError

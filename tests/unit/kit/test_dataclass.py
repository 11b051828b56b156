"""Values that cost less to make are values as before."""

import copy
from collections import deque
from dataclasses import MISSING, Field, field, fields
from types import GenericAlias
from typing import Any

import pytest

from modular_agent.kit.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class _Frozen:
    number: int
    texts: list[str] = field(default_factory=list[str], compare=False)


@dataclass(slots=True)
class _Open:
    numbers: dict[str, int] = field(default_factory=dict[str, int])
    queue: deque[int] = field(default_factory=deque[int])


def _factory(each: "Field[Any]") -> object:
    assert each.default_factory is not MISSING
    return each.default_factory


def test_a_named_kind_of_container_is_made_as_the_plain_one() -> None:
    assert [_factory(each) for each in fields(_Open)] == [dict, deque]
    assert not isinstance(_factory(fields(_Frozen)[1]), GenericAlias)
    one, other = _Open(), _Open()
    one.numbers["a"] = 1
    assert (one.numbers, other.numbers, other.queue) == ({"a": 1}, {}, deque())


def test_a_frozen_one_is_equal_and_hashed_by_its_values() -> None:
    assert _Frozen(1) == _Frozen(1, ["x"]) != _Frozen(2)
    assert len({_Frozen(1), copy.copy(_Frozen(1)), _Frozen(2)}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(_Open())

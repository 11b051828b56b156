"""What the writer hands to the mirror."""

import pytest

from modular_agent.storage import fresh_lines
from modular_agent.storage.fresh_lines import FreshLines, Piece


def piece(data: bytes, *, lines: int = 1) -> Piece:
    return Piece("session", 202610, 0, lines, data)


def test_commits_that_follow_one_another_are_taken_once() -> None:
    fresh = FreshLines()
    fresh.give(2, [piece(b"a\nb\n", lines=2)])
    fresh.give(4, [piece(b"c\n"), piece(b"d\n")])
    assert fresh.take(0) == ([piece(b"a\nb\n", lines=2), piece(b"c\n"), piece(b"d\n")], 4)
    assert fresh.take(4) == ([], 4)


def test_nothing_is_taken_behind_a_gap_or_a_second_time() -> None:
    fresh = FreshLines()
    fresh.give(1, [piece(b"a\n")])
    fresh.give(2, [piece(b"b\n")])
    fresh.give(4, [piece(b"d\n")])  # the record 3 came another way
    assert fresh.take(1) == ([piece(b"b\n")], 2)
    fresh.give(5, [piece(b"e\n")])
    assert fresh.take(2) == ([], 2)


def test_what_nobody_takes_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_lines, "LIMIT", 4)
    fresh = FreshLines()
    for number in range(1, 10):
        fresh.give(number, [piece(b"ab\n")])
    assert fresh.take(0) == ([piece(b"ab\n"), piece(b"ab\n")], 2)
    fresh.give(10, [piece(b"ab\n")])
    assert fresh.take(9) == ([piece(b"ab\n")], 10)

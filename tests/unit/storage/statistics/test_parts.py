from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from modular_agent.storage.rollups import DAY, HOUR
from modular_agent.storage.statistics.parts import split
from modular_agent.storage.statistics.scope import Scope

TIMES = st.integers(0, 5 * DAY) | st.integers(0, 5 * 24).map(lambda hours: hours * HOUR)


@given(TIMES | st.none(), TIMES | st.none(), TIMES)
def test_the_parts_make_up_the_range_and_what_is_kept_has_passed(start: int | None, end: int | None, now: int) -> None:
    scope = Scope(start=start, end=end)
    kept, rest = split(scope, now_us=now)
    parts = sorted((part.first, part.last) for part in (*kept, *rest) if part.first < part.last)
    if scope.first < scope.last:
        assert (parts[0][0], parts[-1][1]) == (scope.first, scope.last)
        assert all(one[1] == other[0] for one, other in pairwise(parts))
    else:
        assert parts == []
    for part in kept:
        assert part.last <= now
        assert part.first % HOUR == part.last % HOUR == 0
    assert len(kept) <= 48
    assert len(rest) <= 2


def test_a_session_s_figures_are_in_one_part() -> None:
    scope = Scope(start=0, end=3 * DAY, session_n=1)
    assert split(scope, now_us=9 * DAY) == ([], [scope])

from hypothesis import given
from hypothesis import strategies as st

from modular_agent.storage.session_sets import members, set_of

NUMBERS = st.lists(st.integers(1, 400) | st.integers(1, 20_000))


@given(NUMBERS, NUMBERS)
def test_sets_as_numbers_are_sets(one: list[int], other: list[int]) -> None:
    both = set_of(one) & set_of(other)
    assert members(both) == sorted(set(one) & set(other), reverse=True)
    assert members(set_of(one) & ~set_of(other)) == sorted(set(one) - set(other), reverse=True)
    assert both.bit_count() == len(set(one) & set(other))

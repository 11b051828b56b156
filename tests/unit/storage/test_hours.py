from hypothesis import given
from hypothesis import strategies as st

from modular_agent.storage.hours import tags_of_hour, tags_of_hours

HOURS = st.integers(0, 2_000) | st.integers(0, 900_000)


@given(HOURS, st.integers(0, 3_000) | HOURS, HOURS | st.integers(-2, 2))
def test_a_range_and_an_hour_share_a_tag_exactly_if_the_hour_is_in_it(first: int, length: int, hour: int) -> None:
    for asked in (hour, first + hour, first + length + hour):
        if asked >= 0:
            within = first <= asked < first + length
            assert bool(set(tags_of_hours(first, first + length)) & set(tags_of_hour(asked))) == within


@given(HOURS, HOURS)
def test_a_range_has_few_tags(first: int, length: int) -> None:
    assert len(tags_of_hours(first, first + length)) <= 150

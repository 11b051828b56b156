import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from modular_agent.storage.rollups import bucket_value
from modular_agent.storage.statistics.histograms import counts_of, histogram_of, histograms_of, percentiles

BUCKETS = st.lists(st.integers(0, 2_300), max_size=60)


def packed(numbers: list[int]) -> int:
    counts = Counter(numbers)
    return histogram_of([*counts], [*counts.values()])


@given(BUCKETS, BUCKETS)
def test_histograms_are_added_and_taken_away_as_numbers(one: list[int], other: list[int]) -> None:
    together = packed(one) + packed(other)
    assert counts_of(together) == Counter(one + other)
    assert counts_of(together - packed(other)) == Counter(one)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1_200))))
def test_each_key_has_its_own(values: list[tuple[str, int]]) -> None:
    found = histograms_of([key for key, _ in values], [number for _, number in values])
    expected = {key: Counter(number for name, number in values if name == key) for key, _ in values}
    assert {key: counts_of(histogram) for key, histogram in found.items()} == expected


@given(BUCKETS)
def test_percentiles_are_those_of_the_sorted_values(numbers: list[int]) -> None:
    shares = (0.01, 0.5, 0.95, 1.0)
    ordered = sorted(numbers)
    expected = (
        [bucket_value(ordered[max(1, math.ceil(share * len(ordered))) - 1]) for share in shares] if ordered else None
    )
    assert percentiles(packed(numbers), shares) == expected

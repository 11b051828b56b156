import pytest

from modular_agent.engine.providers.remembered import MAX_REMEMBERED, Remembered


def test_each_value_is_gone_over_once_and_the_oldest_make_room() -> None:
    seen: list[str] = []
    remembered = Remembered(lambda value: seen.append(value[0]) or len(seen))
    values = [[str(number)] for number in range(MAX_REMEMBERED + 1)]
    made = [remembered.of(value) for value in values for _ in range(2)]
    assert made[::2] == made[1::2] == list(range(1, MAX_REMEMBERED + 2))
    assert remembered.of(values[1]) == 2
    assert remembered.of(values[0]) == MAX_REMEMBERED + 2


def test_values_that_are_only_equal_are_different_ones() -> None:
    remembered = Remembered(id)
    first, second = ["a"], ["a"]
    assert remembered.of(first) != remembered.of(second)


def test_what_could_not_be_made_is_tried_again() -> None:
    remembered = Remembered(lambda values: values[0])
    values: list[int] = []
    with pytest.raises(IndexError):
        remembered.of(values)
    values.append(1)
    assert remembered.of(values) == 1

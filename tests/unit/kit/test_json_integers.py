import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modular_agent.kit.json_integers import GREATEST, LEAST, first_too_large

INTEGERS = st.integers() | st.integers(LEAST - 3, LEAST + 3) | st.integers(GREATEST - 3, GREATEST + 3)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
KEYS = st.text(alphabet="a~/1", max_size=3)
VALUES = st.recursive(
    st.none() | st.text(alphabet="1234567890~/a", max_size=40) | FLOATS | INTEGERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_a_text_without_such_integers_is_read_as_it_was_written_and_any_other_is_found(value: object) -> None:
    text = json.dumps(value)
    place = first_too_large(text.encode())
    if place is None:
        assert orjson.loads(text) == value
        return
    found = value
    for key in place.split("/")[1:]:
        found = found[int(key)] if isinstance(found, list) else found[key.replace("~1", "/").replace("~0", "~")]  # pyright: ignore
    assert isinstance(found, int)
    assert not LEAST <= found <= GREATEST


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"a": [1, {"b/c": -9223372036854775809}]}', "/a/1/b~1c"),
        ("18446744073709551616", ""),
        ("1" * 6_000, ""),
        ('["' + "1" * 30 + '", 18446744073709551615, -9223372036854775808]', None),
        ("[1.00000000000000000000000000001, 100000000000000000000e3, 0.1e-7]", None),
    ],
)
def test_what_is_an_integer_is_told_from_what_is_not(text: str, place: str | None) -> None:
    assert first_too_large(text.encode()) == place

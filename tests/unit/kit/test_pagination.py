import pytest
from hypothesis import given
from hypothesis import strategies as st

from modular_agent.kit.pagination import InvalidCursor, Page, PageRequest, decode_cursor, encode_cursor


def test_the_offset_of_a_page_counts_the_items_before_it() -> None:
    assert PageRequest().offset == 0
    assert PageRequest(page=3, page_size=20).offset == 40


@pytest.mark.parametrize(("page", "page_size"), [(0, 20), (1, 0), (-1, 5)])
def test_pages_count_from_one(page: int, page_size: int) -> None:
    with pytest.raises(ValueError, match="from 1"):
        PageRequest(page=page, page_size=page_size)


def test_an_envelope_holds_the_items_under_their_name() -> None:
    page = Page.cut(["a", "b"], PageRequest(page_size=2), total=2)
    assert page.envelope("sessions") == {
        "sessions": ["a", "b"],
        "total": 2,
        "page": 1,
        "page_size": 2,
        "has_next": False,
        "cursor": None,
    }


def test_one_row_more_than_asked_for_means_a_next_page_and_is_not_shown() -> None:
    page = Page.cut(["a", "b", "c"], PageRequest(page_size=2), cursor="next")
    assert (page.items, page.has_next, page.cursor) == (["a", "b"], True, "next")


def test_the_last_page_has_no_cursor() -> None:
    assert Page.cut(["a"], PageRequest(page_size=2), cursor="next").cursor is None


@given(
    st.text(max_size=60),
    st.integers(-(2**63), 2**63 - 1),
    st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
)
def test_a_cursor_comes_back_as_it_was_made(text: str, number: int, rest: float | None) -> None:
    cursor = encode_cursor("list:asc", [text, number, rest])
    assert decode_cursor(cursor, "list:asc", ["str", "int", "float?"]) == [text, number, rest]
    assert cursor.isascii()
    assert not set(cursor) & set("+/=& ")


@given(st.text(max_size=50))
def test_whatever_a_client_sends_as_cursor_is_refused_or_decoded_but_never_crashes(text: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(text, "sessions", ["int"])


@pytest.mark.parametrize("values", [["x"], [True], [None], [1, 2], [], [2**63]])
def test_a_cursor_of_another_shape_is_refused(values: list[object]) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(encode_cursor("sessions", values), "sessions", ["int"])  # pyright: ignore[reportArgumentType]


def test_a_cursor_of_another_order_is_refused() -> None:
    with pytest.raises(InvalidCursor, match="another list"):
        decode_cursor(encode_cursor("sessions:asc", [1]), "sessions:desc", ["int"])


def test_a_cursor_has_a_limited_length() -> None:
    with pytest.raises(InvalidCursor, match="too long"):
        decode_cursor("a" * 5000, "sessions", ["int"])

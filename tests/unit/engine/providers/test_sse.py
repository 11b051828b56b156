"""Server-sent events arrive in chunks cut anywhere."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modular_agent.engine.providers.sse import EventTooLarge, SSEParser

texts = st.text(
    alphabet=st.characters(blacklist_characters="\r\n", blacklist_categories=("Cs",)), min_size=1, max_size=12
)
payloads = st.lists(st.lists(texts, min_size=1, max_size=3), min_size=1, max_size=6)


def run(chunks: list[bytes]) -> list[bytes]:
    parser = SSEParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.close()


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


@settings(deadline=None)  # the machine may be busy
@given(
    events=payloads,
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    noise=st.sampled_from(["", ": comment{e}", "event: delta{e}", "id: 7{e}retry: 10{e}", ":{e}"]),
    space=st.booleans(),
    places=st.lists(st.integers(min_value=0), max_size=12),
    tail=st.sampled_from(["{e}", ""]),
)
def test_any_cut_gives_the_same_events(events, end, noise, space, places, tail) -> None:
    gap = " " if space else ""
    # Without the space after the colon, one of the payload's own would be taken for it.
    events = [[line.lstrip(" ") or "x" for line in lines] for lines in events]
    blocks = [noise.format(e=end) + "".join(f"data:{gap}{line}{end}" for line in lines) for lines in events]
    stream = (end.join(blocks) + tail.format(e=end)).encode()
    expected = ["\n".join(lines).encode() for lines in events]
    assert run(cut(stream, places)) == expected
    assert run([stream[index : index + 1] for index in range(len(stream))]) == expected


def test_a_cut_inside_a_character_does_not_break_it() -> None:
    stream = "data: 你好\n\n".encode()
    assert run([stream[:7], stream[7:]]) == ["你好".encode()]


def test_an_event_without_data_is_no_event() -> None:
    assert run([b": ping\n\nevent: ping\n\n\n\ndata: 1\n\n"]) == [b"1"]


def test_an_empty_data_line_is_an_empty_event() -> None:
    assert run([b"data\n\ndata:\n\n"]) == [b"", b""]


def test_a_byte_order_mark_at_the_start_is_skipped() -> None:
    assert run([b"\xef\xbb", b"\xbfdata: 1\n\n"]) == [b"1"]


def test_an_event_without_end_does_not_fill_the_memory() -> None:
    parser = SSEParser(max_event=1000)
    for _ in range(70):
        assert parser.feed(b"data: xxxxxxxx") == []
    with pytest.raises(EventTooLarge):
        parser.feed(b"x" * 100)


def test_many_events_may_be_larger_than_one_is_allowed_to_be() -> None:
    parser = SSEParser(max_event=100)
    assert sum(len(parser.feed(b"data: 0123456789\n\n" * 4)) for _ in range(100)) == 400

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from modular_agent.engine.providers.folded import Folded
from modular_agent.engine.providers.port import Message


class Texts:
    """Joins the contents of messages, and notes which it was shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def __call__(self, before: bytes, messages: Sequence[Message]) -> bytes:
        self.shown += [str(message["content"]) for message in messages]
        return before + b"".join(str(message["content"]).encode() for message in messages)


def said(*texts: str) -> list[Message]:
    return [{"role": "user", "content": text} for text in texts]


def test_only_what_is_new_of_a_conversation_is_gone_over() -> None:
    texts = Texts()
    folded, messages = Folded(texts, b""), said("a", "b", "c", "d")
    assert [folded.of(messages[:length]) for length in (1, 2, 2, 4)] == [b"a", b"ab", b"ab", b"abcd"]
    assert texts.shown == ["a", "b", "c", "d"]
    assert folded.of([]) == b""


def test_one_that_was_edited_or_cut_is_gone_over_anew() -> None:
    texts = Texts()
    folded, messages = Folded(texts, b""), said("a", "b", "c")
    folded.of(messages)
    assert folded.of([messages[0], {**messages[1], "content": "x"}, messages[2]]) == b"axc"
    assert folded.of(messages[:1]) == b"a"


def test_memory_is_bounded_by_messages_and_by_bytes() -> None:
    for bounds in ({"max_messages": 4}, {"max_bytes": 4}):
        texts = Texts()
        folded = Folded(texts, b"", **bounds)
        first, second = said("a", "b"), said("c", "d", "e")
        for messages in (first, second, second, first):
            folded.of(messages)
        assert texts.shown == ["a", "b", "c", "d", "e", "a", "b"]
    assert Folded(Texts(), b"", max_bytes=1).of(said("a", "b")) == b"ab"


@given(st.lists(st.tuples(st.sampled_from(["add", "edit", "cut", "other"]), st.integers(0, 5)), max_size=30))
def test_it_is_always_what_going_over_all_gives(steps: list[tuple[str, int]]) -> None:
    folded, all_of_it = Folded(Texts(), b"", max_messages=9), Texts()
    conversations = [said("s"), said("t")]
    for step, place in steps:
        if step == "other":
            conversations.reverse()
        messages = conversations[0]
        if step == "add":
            messages = [*messages, *said(*map(str, range(place)))]
        elif step == "edit":
            messages = [*messages]
            messages[place % len(messages)] = said("edited")[0]
        elif step == "cut":
            messages = messages[: 1 + place % len(messages)]
        conversations[0] = messages
        assert folded.of(messages) == all_of_it(b"", messages)

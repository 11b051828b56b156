from modular_agent.engine.providers.port import Message
from modular_agent.engine.providers.wire_memo import WireMemo


class Encoder:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, message: Message) -> bytes:
        self.asked.append(str(message["content"]))
        return b'"%s"' % str(message["content"]).encode()


def test_a_message_is_encoded_once() -> None:
    memo, encode = WireMemo(), Encoder()
    messages: list[Message] = [{"role": "user", "content": text} for text in "abc"]
    for count in (1, 2, 3, 3):
        for message in messages[:count]:
            memo.fragment(message, encode)
    assert encode.asked == ["a", "b", "c"]


def test_an_edited_message_is_another_one_whatever_its_id() -> None:
    memo, encode = WireMemo(), Encoder()
    message: Message = {"role": "user", "content": "a", "id": "rec_1"}
    memo.fragment(message, encode)
    memo.fragment({**message, "content": "b"}, encode)
    assert encode.asked == ["a", "b"]


def test_it_forgets_those_not_sent_for_longest() -> None:
    memo, encode = WireMemo(max_messages=2), Encoder()
    messages: list[Message] = [{"role": "user", "content": text} for text in "abc"]
    for index in (0, 1, 0, 2, 0, 1):
        memo.fragment(messages[index], encode)
    assert encode.asked == ["a", "b", "c", "b"]


def test_its_memory_is_bounded_by_bytes() -> None:
    memo, encode = WireMemo(max_bytes=250), Encoder()
    messages: list[Message] = [{"role": "user", "content": text * 98} for text in "abc"]
    for message in [*messages, *messages[1:], messages[0]]:
        memo.fragment(message, encode)
    assert [text[0] for text in encode.asked] == ["a", "b", "c", "a"]

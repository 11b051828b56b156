"""What a client may say, and how exactly it is told what is wrong."""

import orjson
import pytest

from modular_agent.errors import IllegalTransition
from modular_agent.realtime.errors import InvalidMessage, UnknownMessageType
from modular_agent.realtime.ports import Control, Query
from modular_agent.realtime.protocol import (
    MAX_DEPTH,
    Ping,
    Pong,
    Subscribe,
    Unsubscribe,
    answer,
    error_answer,
    parse,
)


def faults(message: object) -> dict[str, str]:
    with pytest.raises(InvalidMessage) as caught:
        parse(orjson.dumps(message))
    return {fault.path: fault.code for fault in caught.value.faults}


@pytest.mark.parametrize(
    "message",
    [
        {"type": "subscribe", "session_id": "s-1", "after_seq": 7, "types": ["log"], "id": "a"},
        {"type": "subscribe", "session_id": "s-1", "data": {"after_seq": 7, "types": ["log"]}, "id": "a"},
        {"type": "subscribe", "session_id": "s-1", "data": {"after_seq": 7}, "types": ["log"], "id": "a"},
    ],
)
def test_fields_may_stand_in_data_or_beside_it(message: object) -> None:
    expected = Subscribe(id="a", session_id="s-1", after_seq=7, types=frozenset({"log"}))
    assert parse(orjson.dumps(message)) == expected
    assert parse(orjson.dumps(message).decode()) == expected


def test_every_message_of_the_protocol_is_understood() -> None:
    assert parse('{"type":"ping","id":3}') == Ping(id=3)
    assert parse('{"type":"pong"}') == Pong(id=None)
    assert parse('{"type":"unsubscribe","session_id":"*"}') == Unsubscribe(id=None, session_id="*")
    assert parse('{"type":"subscribe","session_id":"*"}') == Subscribe(id=None, session_id="*")
    assert parse('{"type":"subscribe","types":["performance_metrics","error_event"]}') == Subscribe(
        id=None, session_id=None, types=frozenset({"performance_metrics", "error_event"})
    )
    assert parse('{"type":"status","session_id":"s"}') == Query(id=None, query="status", session_id="s", data={})
    assert parse('{"type":"query","session_id":"s","data":{"query":"history","limit":5}}') == Query(
        id=None, query="history", session_id="s", data={"limit": 5}
    )
    assert parse('{"type":"control","session_id":"s","id":"x","data":{"action":"inject","message":"hi"}}') == Control(
        id="x", action="inject", session_id="s", data={"message": "hi"}
    )
    start = parse('{"type":"control","data":{"action":"start","workflow_id":"react"}}')
    assert start == Control(id=None, action="start", session_id=None, data={"workflow_id": "react"})


def test_all_faults_are_reported_with_their_places() -> None:
    message = {"type": "subscribe", "session_id": 5, "data": {"after_seq": -1, "types": ["log", "mesage"]}, "id": []}
    assert faults(message) == {
        "id": "invalid_field",
        "session_id": "invalid_field",
        "data.after_seq": "invalid_field",
        "data.types[1]": "invalid_field",
    }


@pytest.mark.parametrize(
    ("message", "path", "code"),
    [
        ({"type": "subscribe"}, "session_id", "missing"),
        ({"type": "subscribe", "session_id": "*", "after_seq": 3}, "after_seq", "invalid_field"),
        ({"type": "subscribe", "session_id": "s", "after_seq": True}, "after_seq", "invalid_field"),
        ({"type": "subscribe", "session_id": "s", "after_seq": 2**63}, "after_seq", "invalid_field"),
        ({"type": "subscribe", "session_id": "s", "types": []}, "types", "invalid_field"),
        ({"type": "subscribe", "session_id": "s", "types": ["performance_metrics"]}, "types[0]", "invalid_field"),
        (
            {"type": "subscribe", "session_id": "s", "after_seq": 1, "data": {"after_seq": 2}},
            "after_seq",
            "contradiction",
        ),
        ({"type": "subscribe", "session_id": "s", "data": {"after_sec": 1}}, "data.after_sec", "unknown_field"),
        ({"type": "control", "session_id": "s"}, "data.action", "missing"),
        ({"type": "control", "data": {"action": "pause"}}, "session_id", "missing"),
        ({"type": "control", "session_id": "s", "data": {"action": "pauze"}}, "data.action", "invalid_field"),
        ({"type": "query", "session_id": "s", "data": {"query": "everything"}}, "data.query", "invalid_field"),
        ({"type": "status"}, "session_id", "missing"),
        ({"type": "ping", "data": []}, "data", "invalid_field"),
        ({"session_id": "s"}, "type", "missing"),
        ({"type": 7}, "type", "missing"),
        ([], "", "invalid_message"),
    ],
)
def test_a_fault_names_its_place_and_its_kind(message: object, path: str, code: str) -> None:
    assert faults(message) == {path: code}


def test_a_typo_gets_the_likely_name() -> None:
    with pytest.raises(InvalidMessage) as caught:
        parse('{"type":"subscribe","session_id":"s","data":{"after_sec":1,"types":["mesage"]}}')
    assert {fault.suggestion for fault in caught.value.faults} == {"after_seq", "message"}


@pytest.mark.parametrize("payload", ["", "{", "nonsense", b"\xff\xfe", '{"type":"ping"', "NaN"])
def test_what_is_no_json_is_refused(payload: str | bytes) -> None:
    with pytest.raises(InvalidMessage) as caught:
        parse(payload)
    assert [fault.code for fault in caught.value.faults] == ["invalid_json"]


@pytest.mark.parametrize("as_bytes", [False, True])
def test_an_integer_beyond_64_bits_is_shown_where_it_is(as_bytes: bool) -> None:
    payload = '{"type":"control","data":{"action":"start","input":"x","state":{"n":[' + "9" * 20 + "]}}}"
    with pytest.raises(InvalidMessage) as caught:
        parse(payload.encode() if as_bytes else payload)
    assert [(fault.code, fault.path) for fault in caught.value.faults] == [("number_too_large", "data.state.n.0")]


def test_nesting_is_limited() -> None:
    def nested(depth: int) -> bytes:
        return b'{"type":"control","data":{"action":"start","x":' + b"[" * depth + b"]" * depth + b"}}"

    parse(nested(MAX_DEPTH - 2))
    parse(b'{"type":"control","data":{"action":"start","x":"' + b"[" * 500 + b'"}}')
    for depth in (MAX_DEPTH - 1, 500, 100_000):
        with pytest.raises(InvalidMessage):
            parse(nested(depth))


def test_the_id_of_a_refused_message_is_kept_for_the_answer() -> None:
    with pytest.raises(UnknownMessageType) as unknown:
        parse('{"type":"sing","id":"q7"}')
    assert unknown.value.message_id == "q7"
    assert "'sing'" in str(unknown.value)
    with pytest.raises(InvalidMessage) as invalid:
        parse('{"type":"subscribe","id":12}')
    assert invalid.value.message_id == 12


def test_answers_carry_the_clients_id_and_the_envelope() -> None:
    said = orjson.loads(answer("pong", message_id="p", now_us=0, data={}))
    assert said == {
        "type": "pong",
        "session_id": None,
        "seq": None,
        "timestamp": "1970-01-01T00:00:00.000000Z",
        "id": "p",
        "data": {},
    }


def test_an_error_answer_has_the_stable_code_in_the_clients_language() -> None:
    error = IllegalTransition(noun="run", status="completed", target="paused")
    said = orjson.loads(error_answer(error, message_id=1, now_us=0, language="zh", session_id="s"))
    assert said["type"] == "error"
    assert said["data"]["code"] == "illegal_transition"
    assert "不能变为" in said["data"]["message"]
    with pytest.raises(InvalidMessage) as caught:
        parse('{"type":"control"}')
    said = orjson.loads(error_answer(caught.value, message_id=None, now_us=0))
    assert [fault["path"] for fault in said["data"]["errors"]] == ["data.action"]

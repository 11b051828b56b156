from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modular_agent.kit.redaction import (
    _PATTERNS,
    MASK,
    Redactor,
    _mask,
    is_secret_name,
    secrets_of,
)

CREDENTIALS = [
    "sk-proj-Ab3dEf6hIj9kLmN0pQr",
    "Authorization: Bearer Ab3dEf6hIj9kLmN0pQr",
    "Authorization: Basic Ab3dEf6hIj9kLmN0pQr",
    "/ws/me?token=Ab3dEf6hIj9kLmN0pQr&after_seq=3",
    "OPENAI_API_KEY=Ab3dEf6hIj9kLmN0pQr",
    '{"api_key": "Ab3dEf6hIj9kLmN0pQr"}',
    "{'password': 'Ab3dEf6hIj9kLmN0pQr'}",
    "postgresql+asyncpg://agent:Ab3dEf6hIj9kLmN0pQr@db/agent",
    "eyJhbGciOiJI.Ab3dEf6hIj9kLmN0pQr.Ab3dEf6hIj9kLmN0pQr",
    "ghp_Ab3dEf6hIj9kLmN0pQr",
    "AIzaAb3dEf6hIj9kLmN0pQrAb3dEf6hIj9kLmN0pQr",
    "access_token=Ab3dEf6hIj9kLmN0pQr",
    "sk-ant-api03-Ab3dEf6hIj9kLmN0pQr",
]


@pytest.mark.parametrize("text", CREDENTIALS)
def test_what_looks_like_a_credential_is_masked(text: str) -> None:
    cleaned = Redactor().text(f"before {text} after")
    assert "Ab3dEf6hIj9kLmN0pQr" not in cleaned
    assert MASK in cleaned
    assert cleaned.startswith("before ")
    assert cleaned.endswith(" after")


def test_a_token_in_a_query_string_is_masked_however_short() -> None:
    line = '("127.0.0.1", 5) - "WebSocket /ws/me?token=t1&after_seq=3" [accepted]'
    assert Redactor().text(line) == '("127.0.0.1", 5) - "WebSocket /ws/me?token=***&after_seq=3" [accepted]'


@pytest.mark.parametrize(
    "text",
    [
        "the session react-251022-174800-1f73e8 used 1200 tokens",
        "total_tokens=123456 prompt_tokens: 1234567",
        "the key of the mapping is nodes.think.model",
        "http://127.0.0.1:8000/docs",
        "/work/task-queue-implementation/file.py",
        "密钥轮换的说明 token 用量",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert Redactor().text(text) == text


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "API_KEY",
        "OPENAI_API_KEY",
        "Authorization",
        "x-api-key",
        "Set-Cookie",
        "password",
        "secret",
        "SECRET_KEY",
        "access_token",
        "client-secret",
        "token",
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["total_tokens", "token_usage", "max_tokens", "key", "api_key_env", "author", "session_id", "cookies_eaten"]
)
def test_names_that_only_sound_like_secrets_are_not(name: str) -> None:
    assert not is_secret_name(name)


def test_values_under_secret_names_are_replaced_at_any_depth() -> None:
    value = {"a": [{"api_key": "short", "n": 3}], "headers": {"Authorization": "x", "Accept": "json"}, "token": None}
    assert Redactor().value(value) == {
        "a": [{"api_key": MASK, "n": 3}],
        "headers": {"Authorization": MASK, "Accept": "json"},
        "token": None,
    }


def test_the_environment_s_secrets_are_masked_wherever_they_stand() -> None:
    environment = {
        "OPENAI_API_KEY": "my-own-odd-value",
        "SECRET_KEY": "hunter2hunter2",
        "HOME": "/home/me",
        "A_API_KEY": "abc",
    }
    known = secrets_of(environment)
    assert known == {"my-own-odd-value", "hunter2hunter2"}
    assert Redactor(known).text("got my-own-odd-value and hunter2hunter2 in /home/me") == "got *** and *** in /home/me"


def test_a_secret_that_contains_another_is_masked_whole() -> None:
    assert Redactor(["abcdef", "abcdefghi"]).text("x abcdefghi y") == "x *** y"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_a_known_secret_never_survives(value: object) -> None:
    secret = "qzqzqzqz"
    cleaned = Redactor([secret]).value({"a": value, "b": [f"{value}{secret}"]})
    assert secret not in repr(cleaned)


@given(st.sampled_from(CREDENTIALS), st.text(max_size=20), st.sampled_from([str.lower, str.upper, str]))
def test_what_the_pattern_finds_is_looked_for(credential: str, before: str, spelled: Callable[[str], str]) -> None:
    """The quick look for hints misses nothing."""
    text = f"{before} {spelled(credential)}"
    assert Redactor().text(text) == _PATTERNS.sub(_mask, text)


@pytest.mark.parametrize("prefix", ["ghp_", "gho-", "ghs_", "ghu_", "glpat-", "xoxb-", "hf_", "gsk_", "tvly-", "pplx-"])
def test_every_known_prefix_is_a_hint(prefix: str) -> None:
    assert Redactor().text(prefix + "A" * 20) == MASK
    assert Redactor().text("AKIA" + "A" * 16) == Redactor().text("mak_0123abcd_" + "A" * 16) == MASK

"""Errors of providers say what happened, and never a key."""

import pytest

from modular_agent.engine.providers.errors import AllModelsFailed, ProviderError, ProviderErrorKind, clean
from modular_agent.engine.providers.refusals import read_refusal, reason_of_status

KEY = "sk-proj-abcdefGHIJKL123456"


def error(reason=ProviderErrorKind.RATE_LIMITED, **more) -> ProviderError:
    return ProviderError(reason, provider="openai", model="gpt-x", **more)


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: {KEY}.",
        f"headers: {{'Authorization': 'Bearer {KEY}'}}",
        f"Authorization: Bearer {KEY}",
        "authorization=Basic dXNlcjpwYXNzd29yZA==",
        "x-api-key: sk-ant-api03-verysecret",
        "https://host/v1?key=AIzaSyA1234567890abcdef&alt=sse",
        "token AIzaSyA1234567890abcdef is wrong",
    ],
)
def test_what_looks_like_a_key_is_blotted_out(text: str) -> None:
    cleaned = clean(text)
    assert "***" in cleaned
    for secret in (KEY, "dXNlcjpwYXNzd29yZA", "verysecret", "AIzaSyA1234567890abcdef"):
        assert secret not in cleaned


def test_the_keys_of_the_call_are_blotted_out_whatever_they_look_like() -> None:
    made = error(detail="the key hunter2 was refused", secrets=("hunter2",))
    for text in (str(made), made.message("zh"), made.detail, repr(made.parameters)):
        assert "hunter2" not in text


def test_a_message_is_one_line_and_bounded() -> None:
    cleaned = clean("a\n\n b\x00\t" + "x" * 10_000)
    assert cleaned.startswith("a b x")
    assert len(cleaned) == 500


def test_the_text_names_model_provider_reason_and_status_in_both_languages() -> None:
    made = error(detail="slow down.", status=429, retry_after=2.5)
    assert str(made) == "Model gpt-x at openai: too many requests (HTTP 429): slow down."
    assert made.message("zh") == "openai 的模型 gpt-x：请求过于频繁 (HTTP 429): slow down。"
    assert (made.retryable, made.retry_after, made.status) == (True, 2.5, 429)


def test_braces_in_what_a_provider_says_are_harmless() -> None:
    assert "{provider} {0}" in str(error(detail="bad {provider} {0}"))


@pytest.mark.parametrize(
    ("reason", "retryable"),
    [
        (kind, kind in {"rate_limited", "overloaded", "timeout", "connection", "bad_response"})
        for kind in ProviderErrorKind
    ],
)
def test_only_what_may_pass_is_retryable(reason: ProviderErrorKind, retryable: bool) -> None:
    assert error(reason).retryable is retryable


def test_when_all_fail_the_last_error_and_the_models_are_told() -> None:
    last = error(ProviderErrorKind.OVERLOADED, status=503, detail="down")
    made = AllModelsFailed(last, tried=["a at openai (3x, timeout)", "gpt-x at openai (1x, overloaded)"])
    assert made.last is last
    assert made.reason is ProviderErrorKind.OVERLOADED
    assert str(made) == f"{last} Tried: a at openai (3x, timeout); gpt-x at openai (1x, overloaded)."


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (401, b'{"error":{"message":"no","type":"invalid_request_error","code":"invalid_api_key"}}', "authentication"),
        (403, b'{"error":{"message":"no"}}', "permission"),
        (402, b'{"error":{"message":"Insufficient Balance"}}', "permission"),
        (404, b'{"error":"model \'x\' not found, try pulling it first"}', "not_found"),
        (400, b'{"object":"error","message":"bad","type":"BadRequestError","code":400}', "bad_request"),
        (400, b'{"error":{"code":"context_length_exceeded","message":"m"}}', "context_length"),
        (400, b'{"error":{"message":"This model\'s maximum context length is 8 tokens"}}', "context_length"),
        (
            400,
            b'{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 > 8"}}',
            "context_length",
        ),
        (400, b'{"error":{"code":"content_filter","message":"m"}}', "content_filter"),
        (400, b'[{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT"}}]', "authentication"),
        (429, b'{"error":{"message":"slow"}}', "rate_limited"),
        (529, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', "overloaded"),
        (503, b"<html>bad gateway</html>", "overloaded"),
        (504, b"", "timeout"),
        (422, b'{"detail":[{"msg":"field required"}]}', "bad_request"),
        (500, b"null", "overloaded"),
    ],
)
def test_refusals_of_all_servers_are_understood(status: int, body: bytes, reason: str) -> None:
    assert read_refusal(body, fallback=reason_of_status(status)).reason == reason


def test_a_quota_that_is_used_up_is_not_tried_again() -> None:
    refusal = read_refusal(b'{"error":{"code":"insufficient_quota","message":"m"}}', fallback=reason_of_status(429))
    assert refusal.retryable is False


def test_googles_wait_is_read_from_the_body() -> None:
    body = b'[{"error":{"code":429,"message":"m","details":[{"@type":"x"},{"retryDelay":"26.5s"}]}}]'
    assert read_refusal(body, fallback=reason_of_status(429)).retry_after == 26.5

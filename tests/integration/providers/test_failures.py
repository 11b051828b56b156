"""Whatever goes wrong on the wire becomes one kind of error, without keys and in time."""

import asyncio
import time
from email.utils import formatdate

import orjson
import pytest

from modular_agent.engine.providers.errors import ProviderError, ProviderErrorKind
from servers.model_server import Behaviour, Canned

PROVIDERS = ["openai", "anthropic", "google"]
TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'

BROKEN_OFF = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"insufficient_system_resource"}]}\n\n'


async def failure(caller, *canned: Canned, provider: str = "openai", timeout: float = 5.0, **more) -> ProviderError:
    model = caller(provider, **more)
    model.server.enqueue(*canned)
    with pytest.raises(ProviderError) as caught:
        await model.ask(timeout=timeout)
    assert (caught.value.provider, caught.value.model) == (provider, "test-model")
    return caught.value


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("status", "reason", "retryable"),
    [
        (400, "bad_request", False),
        (401, "authentication", False),
        (403, "permission", False),
        (404, "not_found", False),
        (408, "timeout", True),
        (429, "rate_limited", True),
        (500, "overloaded", True),
        (503, "overloaded", True),
        (529, "overloaded", True),
    ],
)
async def test_statuses(caller, server, provider: str, status: int, reason: str, retryable: bool) -> None:
    server.behaviour = Behaviour(fail_status=status)
    error = await failure(caller, provider=provider)
    assert (error.reason, error.retryable, error.status) == (reason, retryable, status)
    assert f"status {status}" in error.detail


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"Retry-After": "7"}, 7, 7),
        ({"Retry-After": "0.5"}, 0.5, 0.5),
        ({"retry-after-ms": "1500"}, 1.5, 1.5),
    ],
)
async def test_the_wait_a_provider_asks_for(caller, headers: dict, low: float, high: float) -> None:
    error = await failure(caller, Canned(status=429, headers=headers, content_type="application/json"))
    assert error.retry_after is not None
    assert low <= error.retry_after <= high


@pytest.mark.parametrize(("seconds", "low", "high"), [(90, 30, 90), (-30, 0, 0)])
async def test_the_time_until_which_a_provider_asks_to_wait(caller, seconds: int, low: float, high: float) -> None:
    headers = {"Retry-After": formatdate(time.time() + seconds, usegmt=True)}
    error = await failure(caller, Canned(status=429, headers=headers, content_type="application/json"))
    assert error.retry_after is not None
    assert low <= error.retry_after <= high


@pytest.mark.parametrize("value", ["soon", "-3", "nan", ""])
async def test_a_wait_that_is_none_is_ignored(caller, value: str) -> None:
    error = await failure(caller, Canned(status=429, headers={"Retry-After": value}))
    assert error.retry_after in (None, 0.0)


async def test_keys_are_in_no_text_of_an_error(caller, key: str) -> None:
    body = orjson.dumps({"error": {"message": f"Incorrect key {key}; you sent Authorization: Bearer {key}"}})
    error = await failure(caller, Canned(parts=[body], status=401, content_type="application/json"))
    texts = [str(error), error.message("zh"), repr(error), str(error.parameters), error.detail]
    assert not any(key in text for text in texts)


async def test_keys_in_configured_headers_are_in_no_text_of_an_error(caller) -> None:
    body = orjson.dumps({"error": {"message": "gateway token tok_0123456789abcd is refused, version 2 is needed"}})
    canned = Canned(parts=[body], status=403, content_type="application/json")
    error = await failure(caller, canned, headers={"gateway-token": "tok_0123456789abcd", "version": "2"})
    assert error.detail == "gateway token *** is refused, version 2 is needed"


@pytest.mark.parametrize(
    ("canned", "reason", "retryable"),
    [
        (Canned(parts=[TEXT]), "bad_response", True),
        (Canned(parts=[]), "bad_response", True),
        (Canned(parts=[b"data: [DONE]\n\n"]), "bad_response", True),
        (Canned(parts=[TEXT, b"data: {broken\n\n"]), "bad_response", True),
        (Canned(parts=[b"data: [1]\n\n"]), "bad_response", True),
        (Canned(parts=[b'data: {"choices":[{"delta":5}]}\n\n']), "bad_response", True),
        (Canned(parts=[TEXT, b'data: {"error":{"message":"no","code":429}}\n\n']), "rate_limited", True),
        (Canned(parts=[TEXT, b'data: {"error":{"message":"boom","type":"server_error"}}\n\n']), "overloaded", True),
        (Canned(parts=[TEXT, b'data: {"error":"CUDA out of memory"}\n\n']), "bad_response", True),
        (Canned(parts=[TEXT], end="eof"), "connection", True),
        (Canned(parts=[TEXT], end="reset", pause=0.02), "connection", True),
        (Canned(parts=[b"<html>Log in</html>"], content_type="text/html"), "bad_response", False),
        (Canned(parts=[b"{}"], content_type="application/json"), "bad_response", False),
        (Canned(parts=[b'{"error":{"message":"no such"}}'], content_type="application/json"), "bad_response", True),
        (Canned(parts=[b'{"choices":'], content_type="application/json"), "bad_response", True),
        (Canned(status=302, headers={"Location": "https://login"}), "bad_response", False),
        (Canned(parts=[BROKEN_OFF]), "overloaded", True),
    ],
    ids=str,
)
async def test_broken_answers(caller, canned: Canned, reason: str, retryable: bool) -> None:
    error = await failure(caller, canned)
    assert (error.reason, error.retryable) == (reason, retryable)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_stream_that_breaks_off(caller, server, provider: str) -> None:
    server.behaviour = Behaviour(tokens=5, cut_after=4)
    error = await failure(caller, provider=provider)
    assert (error.reason, error.retryable) == (ProviderErrorKind.BAD_RESPONSE, True)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_error_inside_the_stream(caller, server, provider: str) -> None:
    server.behaviour = Behaviour(error_event="out of memory")
    error = await failure(caller, provider=provider)
    assert "out of memory" in str(error)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    "behaviour", [Behaviour(hang=True), Behaviour(token_delay=0.05, tokens=100), Behaviour(delay=5)]
)
async def test_the_timeout_is_for_the_whole_call(caller, server, provider: str, behaviour: Behaviour) -> None:
    server.behaviour = behaviour
    begin = time.monotonic()
    error = await failure(caller, provider=provider, timeout=0.2)
    assert time.monotonic() - begin < 1.5
    assert (error.reason, error.retryable) == (ProviderErrorKind.TIMEOUT, True)
    async with asyncio.timeout(2):
        while not server.connections_lost:
            await asyncio.sleep(0.005)


async def test_nobody_listens(caller) -> None:
    error = await failure(caller, base_url="http://127.0.0.1:9/v1")
    assert (error.reason, error.retryable) == (ProviderErrorKind.CONNECTION, True)


async def test_the_connection_is_reset_before_an_answer(caller, server) -> None:
    server.behaviour = Behaviour(reset=True)
    error = await failure(caller)
    assert (error.reason, error.retryable) == (ProviderErrorKind.CONNECTION, True)


async def test_a_connection_that_is_not_made_in_time(caller) -> None:
    # A listener whose backlog is full leaves new connections waiting.
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        try:
            error = await failure(caller, base_url=f"http://127.0.0.1:{address[1]}/v1", connect_timeout=0.2)
        finally:
            for filler in fillers:
                filler.close()
    assert error.reason is ProviderErrorKind.TIMEOUT
    assert "0.2 s" in error.detail


async def test_a_url_that_is_none(caller) -> None:
    error = await failure(caller, base_url="http:///v1")
    assert (error.reason, error.retryable) == (ProviderErrorKind.BAD_REQUEST, False)


async def test_after_a_failure_the_next_call_works(caller, server) -> None:
    server.behaviour = Behaviour(fail_status=503, fail_times=1)
    model = caller()
    with pytest.raises(ProviderError):
        await model.ask()
    assert (await model.ask()).message["content"] == "You said: Hi"
    assert server.connections_made == 1

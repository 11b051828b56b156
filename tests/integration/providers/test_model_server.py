"""The model server of the tests can be told what to do, from outside too."""

import asyncio
import re
import sys
from pathlib import Path

import aiohttp
import orjson

from modular_agent.engine.providers.port import ChatRequest
from modular_agent.engine.providers.registry import ModelFactory, ModelSettings
from modular_agent.engine.providers.resilience import NoObserver, RetryPolicy, complete_with_fallback
from servers import model_server

HELLO = [{"role": "user", "content": "Hi"}]


async def test_it_runs_as_a_program() -> None:
    program = Path(model_server.__file__)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), "--port", "0", "--tokens", "3", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
        match = re.search(r"OpenAI: (\S+),", line)
        assert match is not None
        async with ModelFactory({}) as factory:
            model = factory.make(ModelSettings(name="m", provider="openai", model="m", base_url=match[1]))
            completion = await model.complete(ChatRequest(messages=HELLO), lambda *_: None)
        assert completion.message["content"] == "word word word"
    finally:
        process.terminate()
        await process.wait()


async def test_it_takes_orders_by_control_and_by_header(server, factory) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(server.url + "/control", json={"text": "ordered"}) as answer,
    ):
        assert answer.status == 200
    settings = ModelSettings(name="m", provider="openai", model="m", base_url=server.openai_url)
    plain = factory.make(settings)
    assert (await plain.complete(ChatRequest(messages=HELLO), lambda *_: None)).message["content"] == "ordered"
    headers = {"x-model-server": orjson.dumps({"text": "by header"}).decode()}
    headed = factory.make(
        ModelSettings(name="m", provider="anthropic", model="m", base_url=server.url, headers=headers)
    )
    assert (await headed.complete(ChatRequest(messages=HELLO), lambda *_: None)).message["content"] == "by header"


async def test_sub_questions_are_asked_for_in_words_or_by_schema(caller) -> None:
    model = caller()
    system = {"role": "system", "content": "Answer with a JSON list of sub-questions."}
    in_words = orjson.loads((await model.ask(system, {"role": "user", "content": "tea"})).message["content"])
    schema = {
        "type": "object",
        "properties": {"questions": {"type": "array", "items": {"type": "string"}, "maxItems": 2}},
    }
    completion = await model.ask({"role": "user", "content": "tea"}, response_schema=schema)
    by_schema = orjson.loads(completion.message["content"])["questions"]
    assert (len(in_words), len(by_schema)) == (3, 2)
    assert all("tea" in question for question in in_words + by_schema)


async def test_a_real_provider_that_recovers_and_one_that_does_not(caller, server) -> None:
    server.behaviour = model_server.Behaviour(fail_status=429, fail_times=2, retry_after="0")
    broken = caller(base_url="http://127.0.0.1:9/v1").model
    policy = RetryPolicy(max_attempts=3, backoff=0.001)
    completion = await complete_with_fallback(
        [broken, caller("anthropic").model],
        ChatRequest(messages=HELLO),
        observer=NoObserver(lambda *_: None),
        policy=policy,
    )
    assert completion.message["content"] == "You said: Hi"
    assert server.failures == 2

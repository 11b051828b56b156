"""Models are made of settings, and wrong settings say what is wrong."""

import pytest
from langchain_core.language_models import FakeListChatModel

from modular_agent.engine.providers.errors import (
    InvalidModelSettings,
    InvalidScript,
    MissingExtra,
    MissingKey,
    UnknownProvider,
)
from modular_agent.engine.providers.port import ChatRequest
from modular_agent.engine.providers.registry import ModelFactory, ModelSettings

SCRIPT = {"turns": [{"reply": "hi"}]}


def settings(**more) -> ModelSettings:
    return ModelSettings(**{"name": "main", "provider": "openai", "model": "m", **more})


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google"])
async def test_a_key_comes_from_the_given_environment(provider: str) -> None:
    async with ModelFactory({"KEY": "sekrit-value"}) as factory:
        made = factory.make(settings(provider=provider, api_key_env="KEY"))
        assert (made.provider, made.model) == (provider, "m")
        for environment in ({}, {"KEY": "  "}):
            with pytest.raises(MissingKey, match="KEY, which is not set"):
                ModelFactory(environment).make(settings(provider=provider, api_key_env="KEY"))


async def test_without_a_key_variable_none_is_needed() -> None:
    async with ModelFactory({}) as factory:
        assert factory.make(settings(base_url="http://127.0.0.1:11434/v1")).model == "m"


async def test_an_unknown_provider_lists_the_known_ones() -> None:
    async with ModelFactory({}) as factory:
        for act in (factory.make, factory.check):
            with pytest.raises(UnknownProvider) as caught:
                act(settings(provider="opanai"))
            text = str(caught.value)
            assert "did you mean openai?" in text
            assert "anthropic, google, openai, scripted, langchain:<provider>" in text


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": None},
        {"base_url": "localhost:8000"},
        {"base_url": "https://user:word@host/v1"},
        {"base_url": "https://host/v1?key=word"},
        {"provider": "scripted"},
        {"provider": "langchain:", "model": "m"},
        {"provider": "langchain:x", "model": None},
    ],
)
async def test_settings_that_cannot_work_are_refused_before_a_call(wrong: dict) -> None:
    async with ModelFactory({}) as factory:
        for act in (factory.make, factory.check):
            with pytest.raises(InvalidModelSettings, match="main") as caught:
                act(settings(**wrong))
            assert "word@" not in str(caught.value)
            assert "key=word" not in str(caught.value)


async def test_a_scripted_model_is_made_of_its_data() -> None:
    async with ModelFactory({}) as factory:
        made = factory.make(settings(provider="scripted", script=SCRIPT, script_source="s.yaml"))
        completion = await made.complete(ChatRequest(messages=[{"role": "user", "content": "x"}]), lambda *_: None)
        assert (completion.message["content"], completion.model) == ("hi", "m")
        with pytest.raises(InvalidScript):
            factory.check(settings(provider="scripted", script={"turns": 1}))


async def test_checking_needs_neither_key_nor_event_loop() -> None:
    ModelFactory({}).check(settings(api_key_env="NOT_SET"))


async def test_a_langchain_model_gets_what_its_package_takes() -> None:
    seen: list[tuple[str, dict]] = []

    def load(name: str, **parameters):
        seen.append((name, parameters))
        return FakeListChatModel(responses=["hello"])

    async with ModelFactory({"KEY": "k"}, langchain_loader=load) as factory:
        made = factory.make(
            settings(
                provider="langchain:mistralai", api_key_env="KEY", base_url="https://x/v1", parameters={"top_k": 3}
            )
        )
        completion = await made.complete(ChatRequest(messages=[{"role": "user", "content": "x"}]), lambda *_: None)
    assert (completion.message["content"], completion.served_by) == ("hello", "https://x/v1")
    assert made.provider == "langchain:mistralai"
    assert seen == [("mistralai:m", {"top_k": 3, "api_key": "k", "base_url": "https://x/v1"})]


async def test_without_langchain_the_error_names_the_extra() -> None:
    pytest.importorskip("langchain_core")
    try:
        import langchain  # noqa: F401
    except ImportError:
        async with ModelFactory({}) as factory:
            with pytest.raises(MissingExtra, match=r"install modular-agent\[langchain\]"):
                factory.make(settings(provider="langchain:mistralai"))
    else:
        pytest.skip("langchain is installed here")


async def test_a_closed_factory_opens_anew() -> None:
    factory = ModelFactory({})
    async with factory:
        factory.make(settings())
    async with factory:
        assert factory.make(settings()).model == "m"

"""A model server and a factory of models for each test."""

from collections.abc import AsyncIterator

import pytest

from modular_agent.engine.providers.port import ChatModel, ChatRequest, Completion, ToolSchema
from modular_agent.engine.providers.registry import ModelFactory, ModelSettings
from servers.model_server import ModelServer

KEY = "sk-test-0123456789abcdef"
CALCULATOR = ToolSchema(
    name="calculator",
    description="Calculates.",
    parameters={"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
)


class Caller:
    """One model and what streamed from it."""

    def __init__(self, model: ChatModel, server: ModelServer) -> None:
        self.model = model
        self.server = server
        self.pieces: list[tuple[str, str]] = []

    async def ask(self, *messages: dict, tools=(), timeout: float = 5.0, **parameters) -> Completion:
        given = messages or ({"role": "user", "content": "Hi"},)
        request = ChatRequest(messages=given, tools=tools, parameters=parameters, timeout=timeout)
        return await self.model.complete(request, lambda channel, text: self.pieces.append((channel, text)))

    def text(self, channel: str = "content") -> str:
        return "".join(text for at, text in self.pieces if at == channel)

    @property
    def sent(self) -> dict:
        """The body of the last request."""
        return self.server.requests[-1].body


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as running:
        yield running


@pytest.fixture
async def factory() -> AsyncIterator[ModelFactory]:
    async with ModelFactory({"KEY": KEY}) as made:
        yield made


@pytest.fixture
def caller(server: ModelServer, factory: ModelFactory):
    """Makes a caller of a provider on the server."""

    def make(provider: str = "openai", **more) -> Caller:
        url = server.anthropic_url if provider == "anthropic" else server.openai_url
        settings = {"name": "main", "model": "test-model", "base_url": url, "api_key_env": "KEY", **more}
        return Caller(factory.make(ModelSettings(provider=provider, **settings)), server)

    return make


@pytest.fixture
def calculator() -> ToolSchema:
    return CALCULATOR


@pytest.fixture
def key() -> str:
    return KEY

"""Gemini, through Google's endpoint for OpenAI clients (https://ai.google.dev/gemini-api/docs/openai).

Its quirks: tool calls stream without `index` and end with `stop`; each carries a thought signature under
`extra_content.google` without which the next request is refused; completion tokens leave the thoughts out; thoughts
come as content marked `extra_content.google.thought`; errors come inside a list; some JSON Schema keywords are refused.
"""

from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from modular_agent.engine.providers.openai import Dialect, OpenAIModel
from modular_agent.kit.clock import Clock

__all__ = ["DEFAULT_BASE_URL", "GOOGLE_DIALECT", "GoogleModel"]

DEFAULT_BASE_URL: Final = "https://generativelanguage.googleapis.com/v1beta/openai"

GOOGLE_DIALECT: Final = Dialect(
    echo_extra="google",
    thoughts_apart=True,
    dropped_keywords=frozenset({"$schema", "$id", "$comment", "additionalProperties", "patternProperties"}),
)


class GoogleModel(OpenAIModel):
    """A Gemini model; see `OpenAIModel`."""

    def __init__(
        self,
        model: str,
        *,
        session: aiohttp.ClientSession,
        base_url: str = DEFAULT_BASE_URL,
        key: str | None = None,
        parameters: Mapping[str, Any] | None = None,  # any JSON: the provider's own
        headers: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        connect_timeout: float = 10.0,
    ) -> None:
        super().__init__(
            model.removeprefix("models/"),
            session=session,
            base_url=base_url,
            key=key,
            provider="google",
            parameters=parameters,
            headers=headers,
            dialect=GOOGLE_DIALECT,
            served_by="" if base_url == DEFAULT_BASE_URL else base_url,
            clock=clock,
            connect_timeout=connect_timeout,
        )

"""Making models of their settings, over one shared HTTP session."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import field
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from modular_agent.engine.providers.errors import InvalidModelSettings, MissingKey, UnknownProvider
from modular_agent.engine.providers.port import ChatModel
from modular_agent.kit.clock import Clock, SystemClock
from modular_agent.kit.dataclass import dataclass

if TYPE_CHECKING:
    import aiohttp

    from modular_agent.engine.providers.anthropic import AnthropicModel
    from modular_agent.engine.providers.google import GoogleModel
    from modular_agent.engine.providers.langchain import ChatModelLoader
    from modular_agent.engine.providers.openai import OpenAIModel
    from modular_agent.engine.providers.script import Script

__all__ = ["PROVIDERS", "ModelFactory", "ModelSettings"]

PROVIDERS: Final = ("anthropic", "google", "openai", "scripted")
LANGCHAIN: Final = "langchain:"
_URL_SCHEMES: Final = ("http://", "https://")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """One model as configuration describes it, everything resolved.

    `name` is its name in the configuration. `api_key_env` names the environment variable with the key; None: no key is
    sent. `timeout` is in seconds, for a whole call: whoever makes the requests puts it into them. `script` is the
    parsed data of the script `script_source`, for the scripted provider. `headers` go with every request.
    """

    name: str
    provider: str
    model: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])  # any JSON: the provider's own
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    timeout: float = 60.0
    connect_timeout: float = 10.0
    script: Any = None  # parsed YAML
    script_source: str = ""


class ModelFactory:
    """Makes `ChatModel`s; owns the HTTP session they share.

    `environment` is where keys come from, and the only place. `max_connections` bounds open connections in all; a call
    beyond it waits. `trust_env` takes a proxy from HTTP_PROXY, HTTPS_PROXY and NO_PROXY of the process. Models may be
    made by many tasks. Closing ends every call still under way.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        clock: Clock | None = None,
        max_connections: int = 512,
        max_connections_per_host: int = 256,
        trust_env: bool = False,
        langchain_loader: "ChatModelLoader | None" = None,
    ) -> None:
        self._environment = environment
        self._clock = clock or SystemClock()
        self._max_connections = max_connections
        self._max_connections_per_host = max_connections_per_host
        self._trust_env = trust_env
        self._langchain_loader = langchain_loader
        self._session: aiohttp.ClientSession | None = None
        self._makers: dict[str, Callable[[ModelSettings], ChatModel]] = {
            "anthropic": self._anthropic,
            "google": self._google,
            "openai": self._openai,
            "scripted": self._scripted,
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def prepare(self) -> None:
        """Imports what calls over the network take, if there is a key for any: slow, so for a thread."""
        if any(value and name.endswith("_API_KEY") for name, value in self._environment.items()):
            import_module("modular_agent.engine.providers.openai")  # with aiohttp, most of what any provider takes

    async def close(self) -> None:
        """Closes the session and every connection; models made so far are dead, the factory can make new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def make(self, settings: ModelSettings) -> ChatModel:
        """The model of `settings`. Call it inside the event loop.

        Raises `UnknownProvider`, `MissingKey`, `MissingExtra`, `InvalidModelSettings` or `InvalidScript`.
        """
        if settings.provider.startswith(LANGCHAIN):
            return self._langchain(settings)
        maker = self._makers.get(settings.provider)
        if maker is None:
            raise self._unknown(settings)
        return maker(settings)

    def check(self, settings: ModelSettings) -> None:
        """What `make` would raise, without a session, an event loop or a key (whose absence it does not notice)."""
        if settings.provider.startswith(LANGCHAIN):
            self._model_name(settings)
        elif settings.provider == "scripted":
            self._script(settings)
        elif settings.provider not in self._makers:
            raise self._unknown(settings)
        else:
            self._model_name(settings)
            self._base_url(settings, default="https://")

    def _openai(self, settings: ModelSettings) -> ChatModel:
        from modular_agent.engine.providers.openai import DEFAULT_BASE_URL, OpenAIModel

        return self._over_network(OpenAIModel, settings, default_url=DEFAULT_BASE_URL)

    def _google(self, settings: ModelSettings) -> ChatModel:
        from modular_agent.engine.providers.google import DEFAULT_BASE_URL, GoogleModel

        return self._over_network(GoogleModel, settings, default_url=DEFAULT_BASE_URL)

    def _anthropic(self, settings: ModelSettings) -> ChatModel:
        from modular_agent.engine.providers.anthropic import DEFAULT_BASE_URL, AnthropicModel

        return self._over_network(AnthropicModel, settings, default_url=DEFAULT_BASE_URL)

    def _over_network(
        self,
        kind: "type[OpenAIModel | GoogleModel | AnthropicModel]",
        settings: ModelSettings,
        *,
        default_url: str,
    ) -> ChatModel:
        name, url, key = self._address(settings, default_url=default_url)
        return kind(
            name,
            session=self._open_session(),
            base_url=url,
            key=key,
            parameters=settings.parameters,
            headers=settings.headers,
            clock=self._clock,
            connect_timeout=settings.connect_timeout,
        )

    def _scripted(self, settings: ModelSettings) -> ChatModel:
        from modular_agent.engine.providers.scripted import ScriptedModel

        source = settings.script_source or settings.name
        return ScriptedModel(self._script(settings), source=source, model=settings.model or settings.name)

    def _script(self, settings: ModelSettings) -> "Script":
        from modular_agent.engine.providers.script import parse_script

        if settings.script is None:
            raise InvalidModelSettings(name=settings.name, detail="the scripted provider needs a script")
        return parse_script(settings.script, source=settings.script_source or settings.name)

    def _langchain(self, settings: ModelSettings) -> ChatModel:
        from modular_agent.engine.providers.langchain import LangChainModel, load_chat_model

        provider = settings.provider.removeprefix(LANGCHAIN)
        name = self._model_name(settings)
        parameters: dict[str, Any] = dict(settings.parameters)  # the provider package's own
        key = self._key(settings)
        if key is not None:
            parameters["api_key"] = key
        if settings.base_url:
            parameters["base_url"] = self._base_url(settings, default="")
        if settings.headers:
            parameters["default_headers"] = dict(settings.headers)
        chat_model = (self._langchain_loader or load_chat_model)(f"{provider}:{name}", **parameters)
        return LangChainModel(
            chat_model,
            provider=settings.provider,
            model=name,
            secrets=(key,) if key else (),
            served_by=settings.base_url or "",
        )

    def _address(self, settings: ModelSettings, *, default_url: str) -> tuple[str, str, str | None]:
        """The model's name, the URL and the key: all that can be wrong, before a session is opened."""
        return self._model_name(settings), self._base_url(settings, default=default_url), self._key(settings)

    def _model_name(self, settings: ModelSettings) -> str:
        if settings.provider == LANGCHAIN:
            raise InvalidModelSettings(name=settings.name, detail="write the provider after langchain:")
        if not settings.model:
            raise InvalidModelSettings(
                name=settings.name, detail="`model`, the provider's name of the model, is missing"
            )
        return settings.model

    def _base_url(self, settings: ModelSettings, *, default: str) -> str:
        url = settings.base_url or default
        if not url.startswith(_URL_SCHEMES):
            raise InvalidModelSettings(name=settings.name, detail="base_url must start with http:// or https://")
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.query or parts.fragment:  # it is logged as it stands: it must hold no key
            detail = "base_url may hold no user, password, query or fragment; keys go into api_key_env"
            raise InvalidModelSettings(name=settings.name, detail=detail)
        return url.rstrip("/")

    def _key(self, settings: ModelSettings) -> str | None:
        variable = settings.api_key_env
        if variable is None:
            return None
        key = self._environment.get(variable, "").strip()
        if not key:
            raise MissingKey(name=settings.name, provider=settings.provider, variable=variable)
        return key

    def _unknown(self, settings: ModelSettings) -> UnknownProvider:
        known = ", ".join((*PROVIDERS, f"{LANGCHAIN}<provider>"))
        close = difflib.get_close_matches(settings.provider, PROVIDERS, n=1)
        suggestion = f" (did you mean {close[0]}?)" if close else ""
        return UnknownProvider(name=settings.name, provider=f"{settings.provider}{suggestion}", known=known)

    def _open_session(self) -> "aiohttp.ClientSession":
        """The shared session, opened by the first model that needs one."""
        if self._session is None or self._session.closed:
            import aiohttp

            from modular_agent.engine.providers.poster import Connector

            connector = Connector(
                limit=self._max_connections,
                limit_per_host=self._max_connections_per_host,
                ttl_dns_cache=300,
                keepalive_timeout=20,
            )
            # No time limits here: each call has its own. Cookies would join calls that have nothing in common.
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=self._trust_env,
            )
        return self._session

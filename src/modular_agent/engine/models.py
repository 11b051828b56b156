"""The models of one workflow version: what a node's `model` means, with the session's overrides applied."""

import re
from collections.abc import Mapping
from dataclasses import field
from difflib import get_close_matches
from typing import Any, Final, Protocol

from modular_agent.engine.errors import AgentConfigInvalid
from modular_agent.engine.providers.chain import ModelChain
from modular_agent.engine.providers.errors import MissingKey, ProviderError, ProviderErrorKind
from modular_agent.engine.providers.port import ChatModel, ChatRequest, Completion, DeltaSink
from modular_agent.engine.providers.registry import ModelFactory, ModelSettings
from modular_agent.engine.providers.resilience import RetryPolicy
from modular_agent.engine.spec.loader import LoadedWorkflow
from modular_agent.engine.spec.model import ModelSpec
from modular_agent.errors import Fault, Text
from modular_agent.kit.dataclass import dataclass

__all__ = [
    "OVERRIDES",
    "ConfiguredModel",
    "ConfiguredModels",
    "ModelDirectory",
    "check_overrides",
    "request_parameters",
]

_HASH: Final = re.compile(r"[0-9a-f]{64}")
_PARAMETERS: Final = ("temperature", "top_p", "max_tokens")
OVERRIDES: Final = frozenset({"agent", "agent_version", "model", "prompt", "limits", "parameters", *_PARAMETERS})


def check_overrides(overrides: Mapping[str, Any]) -> None:
    """Raises `AgentConfigInvalid` for every key of `agent_config` that means nothing, or whose value cannot be used."""
    faults: list[Fault] = []
    for key, value in overrides.items():
        path = f"agent_config.{key}"
        if key not in OVERRIDES:
            likely = get_close_matches(key, OVERRIDES, n=1)
            known = ", ".join(sorted(OVERRIDES))
            text = Text(f"there is no key {key!r}; known are {known}", f"没有键 {key!r}；可用的有 {known}")
            faults.append(Fault(code="unknown_key", text=text, path=path, suggestion=likely[0] if likely else None))
        elif (wanted := _wanted(key, value)) is not None:
            faults.append(Fault(code="override_value", text=wanted, path=path))
    if faults:
        raise AgentConfigInvalid(faults)


def _wanted(key: str, value: Any) -> Text | None:
    """What the value of an override should be; None when it is that, or null (the workflow's own)."""
    number: float | None = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    kinds: Mapping[str, tuple[bool, Text]] = {
        "agent": (
            isinstance(value, str) and bool(value.strip()),
            Text("must be the name of an agent", "必须是智能体的名称"),
        ),
        "agent_version": (
            isinstance(value, str) and bool(_HASH.fullmatch(value)),
            Text("must be the hash of a version (64 hex digits)", "必须是版本的哈希（64 位十六进制数字）"),
        ),
        "model": (
            isinstance(value, str) and bool(value.strip()),
            Text("must be the name of a model", "必须是模型的名称"),
        ),
        "prompt": (isinstance(value, str), Text("must be text", "必须是文本")),
        "temperature": (
            number is not None and number >= 0,
            Text("must be a number from 0 on", "必须是不小于 0 的数字"),
        ),
        "top_p": (
            number is not None and 0 <= number <= 1,
            Text("must be a number from 0 to 1", "必须是 0 到 1 之间的数字"),
        ),
        "max_tokens": (
            type(value) is int and value >= 1,
            Text("must be a whole number from 1 on", "必须是不小于 1 的整数"),
        ),
        "parameters": (isinstance(value, Mapping), Text("must be an object", "必须是对象")),
        "limits": (isinstance(value, Mapping), Text("must be an object", "必须是对象")),
    }
    fits, wanted = kinds[key]
    return None if value is None or fits else wanted


def request_parameters(node: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a node's calls: the node's own, then the session's overrides."""
    merged: dict[str, Any] = {**node, **(overrides.get("parameters") or {})}
    merged |= {key: overrides[key] for key in _PARAMETERS if overrides.get(key) is not None}
    return merged


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredModel:
    """A model of `llms/` as it stands now. `models` are it and those it falls back on; `digest` names their content."""

    name: str
    digest: str
    models: Mapping[str, ModelSpec]
    scripts: Mapping[str, Any]


class ConfiguredModels(Protocol):
    """The models of `llms/`, for sessions that name one in their `agent_config`."""

    def find(self, name: str) -> ConfiguredModel | None:
        """The model of that name, without waiting; None if there is none, or it cannot be used."""
        ...


@dataclass(slots=True)
class ModelDirectory:
    """Makes chains of models by the names a workflow gives them; each is made once."""

    workflow: LoadedWorkflow
    factory: ModelFactory
    configured: ConfiguredModels | None = None
    _chains: dict[tuple[str, str | None], ModelChain] = field(default_factory=dict[tuple[str, str | None], ModelChain])

    def chain(self, name: str | None, overrides: Mapping[str, Any]) -> ModelChain:
        """The chain of a node whose `model` is `name` (None: the workflow's only or first one).

        `overrides["model"]` is a model of the workflow, else a configured one as it stands now, else a model id at the
        provider of the node's own.
        """
        workflow = self.workflow
        specs = workflow.spec.models
        own = name or next(iter(specs))
        wanted: str | None = overrides.get("model")
        if wanted in specs:
            own, wanted = wanted, None
        elif wanted is not None and self.configured is not None:
            found = self.configured.find(wanted)
            if found is not None:
                key = (found.name, f"configured {found.digest}")
                return self._kept(key, found.name, None, found.models, found.scripts)
        return self._kept((own, wanted), own, wanted, specs, workflow.scripts)

    def _kept(
        self,
        key: tuple[str, str | None],
        name: str,
        model_id: str | None,
        specs: Mapping[str, ModelSpec],
        scripts: Mapping[str, Any],
    ) -> ModelChain:
        if key not in self._chains:
            self._chains[key] = self._make(name, model_id, specs, scripts)
        return self._chains[key]

    def _make(
        self, name: str, model_id: str | None, specs: Mapping[str, ModelSpec], scripts: Mapping[str, Any]
    ) -> ModelChain:
        spec = specs[name]
        made: list[ChatModel] = []
        keyless: list[tuple[ChatModel, str]] = []
        for each, wanted in ((name, model_id), *((other, None) for other in spec.fallback)):
            settings = _settings(each, specs[each], wanted, scripts)
            try:
                made.append(self.factory.make(settings))
            except MissingKey as error:
                keyless.append((_Keyless(settings, error), str(error)))
        return ModelChain(
            models=made or [model for model, _ in keyless],
            policy=RetryPolicy(
                max_attempts=spec.retry.max_attempts, backoff=spec.retry.backoff, max_backoff=spec.retry.max_backoff
            ),
            timeout=spec.timeout,
            notes=tuple(f"{note} Using {made[0].model} instead." for _, note in keyless) if made else (),
        )


def _settings(name: str, spec: ModelSpec, model_id: str | None, scripts: Mapping[str, Any]) -> ModelSettings:
    return ModelSettings(
        name=name,
        provider=spec.provider,
        model=model_id or spec.model,
        base_url=spec.base_url,
        api_key_env=spec.api_key_env,
        parameters={**spec.parameters, **{key: v for key in _PARAMETERS if (v := getattr(spec, key)) is not None}},
        timeout=spec.timeout,
        script=scripts.get(spec.script) if spec.script else None,
        script_source=spec.script or "",
    )


class _Keyless:
    """A model whose key is not set: it fails when it is called, not when the workflow is loaded."""

    def __init__(self, settings: ModelSettings, error: MissingKey) -> None:
        self.provider = settings.provider
        self.model = settings.model or settings.name
        self._error = error

    async def complete(self, request: ChatRequest, on_delta: DeltaSink) -> Completion:
        raise ProviderError(
            ProviderErrorKind.AUTHENTICATION, provider=self.provider, model=self.model, detail=str(self._error)
        ) from self._error

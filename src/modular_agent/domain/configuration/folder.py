"""The models, agents and global values below the configs root: read, checked, and read again when they change."""

import asyncio
import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import field
from decimal import Decimal
from pathlib import Path
from typing import Final, TypeVar

import structlog

from modular_agent.engine.models import ConfiguredModel
from modular_agent.engine.providers.pricing import TokenPrices
from modular_agent.engine.spec.configured import (
    AGENTS,
    GLOBAL_FILE,
    LLMS,
    AgentFile,
    GlobalFile,
    PriceSpec,
    agent_path,
    is_configured_name,
)
from modular_agent.engine.spec.document import read_document
from modular_agent.engine.spec.errors import FileNotFound, WorkflowInvalid
from modular_agent.engine.spec.known import Known
from modular_agent.engine.spec.llms import ConfiguredLlm, load_llm
from modular_agent.engine.spec.loader import PROVIDERS
from modular_agent.engine.spec.model import ModelSpec
from modular_agent.engine.spec.source import DirectorySource
from modular_agent.engine.spec.typed import read_typed
from modular_agent.errors import AgentError
from modular_agent.kit.dataclass import dataclass

__all__ = ["ConfiguredFolder", "Snapshot"]

_File = TypeVar("_File", AgentFile, GlobalFile)
MAX_FILES: Final = 1_000
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What stood in the files when they were read last. `broken` tells what is wrong with each that cannot be used."""

    llms: Mapping[str, ConfiguredLlm] = field(default_factory=dict[str, ConfiguredLlm])
    agents: Mapping[str, AgentFile] = field(default_factory=dict[str, AgentFile])
    values: GlobalFile | None = None
    broken: Mapping[str, AgentError] = field(default_factory=dict[str, AgentError])


class ConfiguredFolder:
    """Reads `llms/`, `agents/` and `global.yaml`. A broken edit keeps the last good content and is told in `broken`."""

    def __init__(self, root: Path, *, environment: Mapping[str, str], providers: Collection[str] = PROVIDERS) -> None:
        self._root = root
        self._environment = environment
        self._known = Known(providers=tuple(providers), builtin_tools=None, models=(), references=None)
        self._snapshot = Snapshot()
        self._found: dict[str, ConfiguredModel | None] = {}
        self._listeners: list[Callable[[], None]] = []
        self._reading = asyncio.Lock()

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Has `listener` called after each reading."""
        self._listeners.append(listener)

    async def reload(self) -> Snapshot:
        """Reads the files again."""
        async with self._reading:
            before = self._snapshot
            self._snapshot = await asyncio.to_thread(self._read, before)
            self._found.clear()
        for path, error in self._snapshot.broken.items():
            if str(error) != str(before.broken.get(path)):
                _log.warning("configuration file cannot be used", config_path=path, error=str(error))
        for listener in self._listeners:
            listener()
        return self._snapshot

    def find(self, name: str) -> ConfiguredModel | None:
        """The model of that name, as the engine takes it; None also when what it falls back on is not there."""
        if name not in self._snapshot.llms:
            return None
        if name not in self._found:
            self._found[name] = self._with_fallbacks(name)
        return self._found[name]

    def _with_fallbacks(self, name: str) -> ConfiguredModel | None:
        taken: dict[str, ConfiguredLlm] = {}
        waiting = [name]
        while waiting:
            each = waiting.pop()
            found = self._snapshot.llms.get(each)
            if found is None:
                return None
            if each not in taken:
                taken[each] = found
                waiting += found.file.fallback
        texts = sorted((path, text) for each in taken.values() for path, text in each.bundle.items())
        models: dict[str, ModelSpec] = {each: found.spec for each, found in taken.items()}
        return ConfiguredModel(
            name=name,
            digest=hashlib.sha256(repr(texts).encode()).hexdigest()[:16],
            models=models,
            scripts={written: data for found in taken.values() for written, data in found.scripts.items()},
        )

    def prices(self) -> dict[str, TokenPrices]:
        """The prices of the models that have one, by `provider/model`."""
        return {
            f"{llm.file.provider}/{llm.file.model or llm.name}": _prices(llm.file.price)
            for llm in self._snapshot.llms.values()
            if llm.file.price is not None
        }

    def _read(self, before: Snapshot) -> Snapshot:
        broken: dict[str, AgentError] = {}
        source = DirectorySource(self._root)
        llms: dict[str, ConfiguredLlm] = {}
        for name in self._names(LLMS):
            try:
                llms[name] = load_llm(source, name, environment=self._environment, known=self._known)
            except AgentError as error:
                broken[f"{LLMS}/{name}.yaml"] = error
                if name in before.llms:
                    llms[name] = before.llms[name]
        agents: dict[str, AgentFile] = {}
        for name in self._names(AGENTS):
            try:
                agents[name] = self._typed(source, f"{AGENTS}/{name}.yaml", AgentFile)
            except AgentError as error:
                broken[f"{AGENTS}/{name}.yaml"] = error
                if name in before.agents:
                    agents[name] = before.agents[name]
        values: GlobalFile | None = None
        try:
            values = self._typed(source, GLOBAL_FILE, GlobalFile)
        except FileNotFound:
            values = None
        except AgentError as error:
            broken[GLOBAL_FILE] = error
            values = before.values
        return Snapshot(llms=llms, agents=agents, values=values, broken=broken)

    def _names(self, folder: str) -> list[str]:
        usable = is_configured_name if folder == LLMS else agent_path
        try:
            files = sorted(file for file in (self._root / folder).iterdir() if file.suffix == ".yaml")
        except OSError:
            return []
        return [file.stem for file in files if usable(file.stem)][:MAX_FILES]

    def _typed(self, source: DirectorySource, path: str, model: type[_File]) -> _File:
        document = read_document(source.read(path), file=path, environment=self._environment)
        found, faults = read_typed(document, model)
        if found is None:
            raise WorkflowInvalid(faults)
        return found


def _prices(price: PriceSpec) -> TokenPrices:
    given = {key: Decimal(str(value)) for key, value in price.model_dump(exclude_none=True).items()}
    return TokenPrices(**given)

"""The configuration: what counts, where it comes from, and what was stored over it."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Final, Literal, Self, TypeAlias

import orjson
import structlog

from modular_agent.domain.configuration.errors import ConfigKeyFixed, ConfigKeyUnknown, ConfigValueInvalid
from modular_agent.domain.configuration.folder import ConfiguredFolder
from modular_agent.domain.configuration.values import KEYS, LiveValues, ProcessValue, checked_value, description_of
from modular_agent.engine.spec.configured import AgentFile, agent_path, agent_workflow_name, llm_path
from modular_agent.engine.spec.llms import ConfiguredLlm
from modular_agent.errors import Fault, Text
from modular_agent.kit.clock import Clock, rfc3339
from modular_agent.storage.database import Database
from modular_agent.storage.repositories.configurations import (
    ConfigurationRepository,
    StoredValue,
    delete_value,
    put_value,
)
from modular_agent.storage.unit_of_work import UnitOfWork

__all__ = ["ConfigType", "ConfigurationService"]

ConfigType: TypeAlias = Literal["system", "user"]

MAX_PREFERENCE_BYTES: Final = 16 * 1024
MAX_PREFERENCES: Final = 200  # of one owner
_PREFERENCE: Final = re.compile(r"[a-z][a-z0-9_.-]{0,99}")
_SYSTEM: Final = ""  # the owner of the system's values
_log = structlog.stdlib.get_logger(__name__)


class ConfigurationService:
    """The verbs about configuration. An async context manager: entering reads the files and what was stored.

    Values of type `system` belong to a table of keys and count at once; those of type `user` are somebody's own
    preferences, any JSON, and change nothing in the server.
    """

    def __init__(
        self,
        database: Database,
        *,
        folder: ConfiguredFolder,
        live: LiveValues,
        process: Sequence[ProcessValue],
        clock: Clock,
    ) -> None:
        self._writer = database.writer
        self._rows = ConfigurationRepository(database.readers)
        self._folder = folder
        self._live = live
        self._process = process
        self._variables = {each.key: each.variable for each in process if each.key in KEYS}
        self._clock = clock
        self._storing = asyncio.Lock()
        self._stored: dict[str, StoredValue] = {}

    async def __aenter__(self) -> Self:
        self._folder.subscribe(lambda: self._live.take(file=self._folder.snapshot.values))
        await self._folder.reload()
        await self._take_stored()
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    @property
    def live(self) -> LiveValues:
        return self._live

    async def _take_stored(self) -> None:
        rows = await self._rows.all(config_type="system", owner=_SYSTEM)
        usable: dict[str, StoredValue] = {}
        for key, row in rows.items():
            try:
                if key in KEYS:
                    checked_value(key, row.value)
                    usable[key] = row
            except ConfigValueInvalid as error:  # stored by another version of the program
                _log.warning("a stored value cannot be used", key=key, error=str(error))
        self._stored = usable
        self._live.take(stored={key: checked_value(key, row.value) for key, row in usable.items()})

    # -- looking -----------------------------------------------------------------------------------------------

    def effective(self) -> dict[str, Any]:
        """Every value with its source; secrets are masked. `broken` are the files that cannot be used."""
        values = [self._changeable(key) for key in KEYS]
        values += [_fixed(each) for each in self._process if each.key not in KEYS]
        return {"values": sorted(values, key=lambda each: each["key"]), "broken": self.broken()}

    def broken(self) -> list[dict[str, Any]]:
        """The files that cannot be used, each with its code, text and faults."""
        return [
            {"config_path": path, "code": error.code, "error": error}
            for path, error in sorted(self._folder.snapshot.broken.items())
        ]

    def value(self, key: str) -> dict[str, Any]:
        """One value. Raises `ConfigKeyUnknown`."""
        for each in self.effective()["values"]:
            if each["key"] == key:
                return each
        raise ConfigKeyUnknown(key=key)

    def _changeable(self, key: str) -> dict[str, Any]:
        value, source = self._live.of(key)
        row = self._stored.get(key)
        return {
            "key": key,
            "value": value,
            "source": source,
            "config_type": "system",
            "changeable": True,
            "variable": self._variables.get(key),
            "description": description_of(key),
            "updated_at": None if row is None else rfc3339(row.updated_at),
            "updated_by": None if row is None else row.updated_by,
        }

    def models(self) -> list[dict[str, Any]]:
        """The configured models by name."""
        return [_llm_view(llm) for _, llm in sorted(self._folder.snapshot.llms.items())]

    def agents(self) -> list[dict[str, Any]]:
        """The agents by name."""
        return [_agent_view(name, agent) for name, agent in sorted(self._folder.snapshot.agents.items())]

    async def reload(self) -> dict[str, Any]:
        """Reads `llms/`, `agents/` and `global.yaml` again; answers what there is."""
        snapshot = await self._folder.reload()
        return {"models": sorted(snapshot.llms), "agents": sorted(snapshot.agents), "broken": self.broken()}

    # -- changing ----------------------------------------------------------------------------------------------

    async def put(self, key: str, value: Any, *, by: str) -> dict[str, Any]:
        """Stores a value; it counts at once. Raises `ConfigKeyUnknown`, `ConfigKeyFixed`, `ConfigValueInvalid`."""
        self._must_change(key)
        checked = checked_value(key, value)
        async with self._storing:
            step = put_value(
                config_type="system", owner=_SYSTEM, key=key, value=checked, now_us=self._clock.now_us(), by=by
            )
            await self._writer.commit(UnitOfWork(then=step))
            await self._take_stored()
        _log.info("configuration stored", key=key, by=by)
        return self.value(key)

    async def delete(self, key: str, *, by: str) -> dict[str, Any]:
        """Takes a stored value away; answers what counts from then on. Raises `ConfigKeyUnknown`, `ConfigKeyFixed`."""
        self._must_change(key)
        async with self._storing:
            await self._writer.commit(UnitOfWork(then=delete_value(config_type="system", owner=_SYSTEM, key=key)))
            await self._take_stored()
        _log.info("stored configuration deleted", key=key, by=by)
        return self.value(key)

    def _must_change(self, key: str) -> None:
        if key in KEYS:
            return
        fixed = self.value(key)
        raise ConfigKeyFixed(key=key, variable=fixed["variable"])

    # -- preferences -------------------------------------------------------------------------------------------

    async def preferences(self, owner: str) -> list[dict[str, Any]]:
        """Everything that `owner` has stored."""
        rows = await self._rows.all(config_type="user", owner=owner)
        return [_preference(row) for row in rows.values()]

    async def preference(self, key: str, *, owner: str) -> dict[str, Any]:
        """One of them. Raises `ConfigKeyUnknown`."""
        row = (await self._rows.all(config_type="user", owner=owner)).get(key)
        if row is None:
            raise ConfigKeyUnknown(key=key)
        return _preference(row)

    async def put_preference(self, key: str, value: Any, *, owner: str) -> dict[str, Any]:
        """Stores one. Raises `ConfigKeyUnknown` for what cannot be a key, `ConfigValueInvalid`."""
        if _PREFERENCE.fullmatch(key) is None:
            raise ConfigKeyUnknown(key=key)
        if len(orjson.dumps(value)) > MAX_PREFERENCE_BYTES:
            limit = MAX_PREFERENCE_BYTES
            text = Text(f"must have at most {limit} bytes as JSON", f"作为 JSON 最多 {limit} 字节")
            raise ConfigValueInvalid([Fault(code="too_long", text=text, path="value")])
        async with self._storing:
            held = await self._rows.all(config_type="user", owner=owner)
            if key not in held and len(held) >= MAX_PREFERENCES:
                limit = MAX_PREFERENCES
                text = Text(f"there are {limit} values already; delete one first", f"已有 {limit} 个值；请先删除一个")
                raise ConfigValueInvalid([Fault(code="too_many", text=text, path="key")])
            now = self._clock.now_us()
            step = put_value(config_type="user", owner=owner, key=key, value=value, now_us=now, by=owner)
            await self._writer.commit(UnitOfWork(then=step))
        return await self.preference(key, owner=owner)

    async def delete_preference(self, key: str, *, owner: str) -> None:
        """Deletes one. Raises `ConfigKeyUnknown`."""
        step = delete_value(config_type="user", owner=owner, key=key)
        if not (await self._writer.commit(UnitOfWork(then=step))).result:
            raise ConfigKeyUnknown(key=key)


def _fixed(each: ProcessValue) -> dict[str, Any]:
    return {
        "key": each.key,
        "value": each.value,
        "source": each.source,
        "config_type": "system",
        "changeable": False,
        "variable": each.variable,
        "description": each.description,
        "updated_at": None,
        "updated_by": None,
    }


def _preference(row: StoredValue) -> dict[str, Any]:
    return {
        "key": row.key,
        "value": row.value,
        "source": "stored",
        "config_type": "user",
        "changeable": True,
        "variable": None,
        "description": "",
        "updated_at": rfc3339(row.updated_at),
        "updated_by": row.updated_by,
    }


def _llm_view(llm: ConfiguredLlm) -> dict[str, Any]:
    file = llm.file
    return {
        "name": llm.name,
        "config_path": llm_path(llm.name),
        "description": file.description,
        "provider": file.provider,
        "model": file.model,
        "api_key_env": file.api_key_env,
        "temperature": file.temperature,
        "max_tokens": file.max_tokens,
        "timeout": file.timeout,
        "fallback": list(file.fallback),
        "price": None if file.price is None else file.price.model_dump(),
    }


def _agent_view(name: str, agent: AgentFile) -> dict[str, Any]:
    return {
        "name": name,
        "config_path": agent_path(name),
        "workflow_id": agent_workflow_name(name),
        "description": agent.description,
        "version": agent.version,
        "model": agent.model,
        "tools": sorted(agent.tools),
        "limits": agent.limits.model_dump(exclude_unset=True),
    }

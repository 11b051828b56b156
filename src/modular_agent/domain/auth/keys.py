"""API keys: made, shown once, found again by their hash, revoked.

A secret is `mak_`, eight digits that may be shown, and 256 random bits. Only its SHA-256 is stored: so much randomness
cannot be guessed, so a slow hash would protect nothing and cost every request.
"""

import asyncio
import contextlib
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Self

from modular_agent.domain.auth.errors import ApiKeyInvalid, ApiKeyUnknown
from modular_agent.engine.limits import KeyLimits, checked_limits
from modular_agent.events import SessionRef
from modular_agent.kit.clock import MICROSECONDS, Clock, rfc3339
from modular_agent.kit.ids import new_id
from modular_agent.storage.database import Database
from modular_agent.storage.errors import StorageBusy
from modular_agent.storage.repositories.api_keys import (
    ApiKeyRepository,
    ApiKeyRow,
    note_key_use,
    put_key,
    revoke_key,
)
from modular_agent.storage.unit_of_work import UnitOfWork

__all__ = ["ApiKeys", "checked_key_limits", "key_view"]

_SECRET: Final = re.compile(r"(mak_[0-9a-f]{8})_[A-Za-z0-9_-]{43}")
_NO_HASH: Final = hashlib.sha256(b"").hexdigest()
NOTED_EVERY: Final = 60 * MICROSECONDS  # how far `last_used_at` may be behind


class ApiKeys:
    """The keys of the installation. An async context manager: entering reads them.

    They are kept in memory, so that identifying a request reads nothing. One process owns the data path.
    """

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._writer = database.writer
        self._rows = ApiKeyRepository(database.readers)
        self._clock = clock
        self._by_id: dict[str, ApiKeyRow] = {}
        self._by_prefix: dict[str, ApiKeyRow] = {}
        self._noted: dict[str, int] = {}
        self._noting: set[asyncio.Future[Any]] = set()  # units of work under way

    async def __aenter__(self) -> Self:
        for row in await self._rows.all():
            self._keep(row)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self._noting, return_exceptions=True)

    def _keep(self, row: ApiKeyRow) -> None:
        self._by_id[row.key_id] = self._by_prefix[row.prefix] = row

    # -- the keys ----------------------------------------------------------------------------------------------

    def all(self) -> list[ApiKeyRow]:
        """Every key, oldest first, those that were revoked too."""
        return list(self._by_id.values())

    def get(self, key_id: str) -> ApiKeyRow:
        """A key by its id or its prefix. Raises `ApiKeyUnknown`."""
        row = self._by_id.get(key_id) or self._by_prefix.get(key_id)
        if row is None:
            raise ApiKeyUnknown(key_id=key_id)
        return row

    async def create(self, name: str, *, limits: Mapping[str, Any], tenant: str = "default") -> tuple[ApiKeyRow, str]:
        """A new key and its secret, which nobody can find out again. `limits` were checked."""
        while (prefix := f"mak_{secrets.token_hex(4)}") in self._by_prefix:
            pass
        secret = f"{prefix}_{secrets.token_urlsafe(32)}"
        row = ApiKeyRow(
            *(new_id("key"), tenant, prefix, _hash(secret), name),
            *(dict(limits), self._clock.now_us(), None, None),
        )
        await self._writer.commit(UnitOfWork(then=put_key(row), touches=("api_keys",)))
        self._keep(row)
        return row, secret

    async def revoke(self, key_id: str) -> ApiKeyRow:
        """Revokes a key by its id or prefix, from the next request on; runs in progress go on. Twice does nothing.

        Raises `ApiKeyUnknown`.
        """
        row, now = self.get(key_id), self._clock.now_us()
        if row.revoked_at is None:
            await self._writer.commit(UnitOfWork(then=revoke_key(row.key_id, now_us=now), touches=("api_keys",)))
            row = replace(self.get(key_id), revoked_at=now)
            self._keep(row)
        return row

    # -- who asks ----------------------------------------------------------------------------------------------

    def identify(self, secret: str) -> ApiKeyRow:
        """The key that a request presents. Raises `ApiKeyInvalid`; how long it takes says nothing about why."""
        found = _SECRET.fullmatch(secret)
        row = self._by_prefix.get(found[1]) if found else None
        matches = hmac.compare_digest(_hash(secret), row.secret_hash if row else _NO_HASH)
        if row is None or not matches or row.revoked_at is not None:
            raise ApiKeyInvalid
        self._note_use(row)
        return row

    def _note_use(self, row: ApiKeyRow) -> None:
        now = self._clock.now_us()
        if now - self._noted.get(row.key_id, 0) < NOTED_EVERY:
            return
        self._noted[row.key_id] = now
        self._keep(replace(row, last_used_at=max(now, row.last_used_at or 0)))
        unit: UnitOfWork[None] = UnitOfWork(then=note_key_use(row.key_id, now_us=now), touches=("api_keys",))
        with contextlib.suppress(StorageBusy):  # the next use is noted again
            noting = self._writer.submit(unit)
            self._noting.add(noting)
            noting.add_done_callback(self._has_noted)

    def _has_noted(self, noting: "asyncio.Future[Any]") -> None:
        self._noting.discard(noting)
        if not noting.cancelled():
            noting.exception()  # a full disk is told to those who wait for what they write

    async def charged(self, session: SessionRef, run_id: str | None = None) -> ApiKeyRow | None:
        """The key that a run is charged to, or the session without a run of its own."""
        if not self._by_id:
            return None
        key_id = await self._rows.charged(session, run_id)
        return None if key_id is None else self._by_id.get(key_id)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def checked_key_limits(limits: Mapping[str, Any]) -> dict[str, Any]:
    """The limits of a key as they are kept. Raises `LimitsInvalid` with every fault."""
    return checked_limits(limits, KeyLimits)


def key_view(row: ApiKeyRow) -> dict[str, Any]:
    """A key as it is shown: never its secret."""
    return {
        "key_id": row.key_id,
        "prefix": row.prefix,
        "name": row.name,
        "limits": row.limits,
        "created_at": rfc3339(row.created_at),
        "last_used_at": None if row.last_used_at is None else rfc3339(row.last_used_at),
        "revoked_at": None if row.revoked_at is None else rfc3339(row.revoked_at),
    }

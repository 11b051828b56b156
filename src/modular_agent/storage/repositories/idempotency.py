"""`Idempotency-Key`s, remembered in the transaction of what they made."""

import sqlite3
from collections.abc import Callable

from modular_agent.events import SessionRef
from modular_agent.storage.errors import IdempotencyKeyReused, RequestRepeated
from modular_agent.storage.readers import Readers

__all__ = ["IdempotencyRepository", "claim_key", "forget_keys", "release_key"]


def claim_key(
    *, tenant: str, key: str, fingerprint: str, subject: str, now_us: int
) -> Callable[[sqlite3.Connection], None]:
    """The step that ties a key to `subject`, the id of what the same unit makes; put it before the creation.

    Of two requests with a key only one commits. Raises `RequestRepeated` (answer with its `subject`), or
    `IdempotencyKeyReused` when the key came with another request (`fingerprint`).
    """

    def step(connection: sqlite3.Connection) -> None:
        done = connection.execute(
            "INSERT INTO idempotency_keys VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (tenant, key, fingerprint, subject, now_us),
        )
        if done.rowcount == 1:
            return
        known, made = connection.execute(
            'SELECT fingerprint, subject FROM idempotency_keys WHERE tenant = ? AND "key" = ?', (tenant, key)
        ).fetchone()
        if known != fingerprint:
            raise IdempotencyKeyReused
        raise RequestRepeated(subject=made)

    return step


def forget_keys(*, before_us: int) -> Callable[[sqlite3.Connection], int]:
    """The step that forgets keys older than `before_us`; its result is their number."""

    def step(connection: sqlite3.Connection) -> int:
        return connection.execute("DELETE FROM idempotency_keys WHERE created_at < ?", (before_us,)).rowcount

    return step


def release_key(*, tenant: str, key: str) -> Callable[[sqlite3.Connection], None]:
    """The step that frees a key whose request was not carried out after all."""

    def step(connection: sqlite3.Connection) -> None:
        connection.execute('DELETE FROM idempotency_keys WHERE tenant = ? AND "key" = ?', (tenant, key))

    return step


class IdempotencyRepository:
    """Looks keys up."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def subject(self, *, tenant: str, key: str, fingerprint: str) -> str | None:
        """What the key's first request made, if there was one. Raises `IdempotencyKeyReused`."""
        rows = await self._readers.query(
            'SELECT fingerprint, subject FROM idempotency_keys WHERE tenant = ? AND "key" = ?', (tenant, key)
        )
        if not rows:
            return None
        if rows[0][0] != fingerprint:
            raise IdempotencyKeyReused
        return rows[0][1]

    async def of_session(self, session: SessionRef) -> list[tuple[str, str]]:
        """Tenant and key of every request that made the session, or a run that it has or that waits in its queue."""
        rows = await self._readers.query(
            'SELECT tenant, "key" FROM idempotency_keys WHERE subject = ?1'
            " OR subject IN (SELECT run_id FROM runs WHERE session_n = ?2)"
            " OR subject IN (SELECT message ->> 'run_id' FROM run_inbox WHERE session_n = ?2)",
            (session.session_id, session.n),
        )
        return [(tenant, key) for tenant, key in rows]

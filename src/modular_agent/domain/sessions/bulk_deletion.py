"""Many sessions deleted in one call: each as if alone, and told of by itself."""

import asyncio
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import structlog

from modular_agent.domain.sessions.errors import SessionNotDeleted
from modular_agent.domain.sessions.service import SessionsService
from modular_agent.errors import AgentError
from modular_agent.kit.dataclass import dataclass
from modular_agent.storage.errors import SessionUnknown
from modular_agent.storage.repositories.session_lists import SessionFilter

__all__ = ["BulkDeletion", "Chosen", "Deletion", "Outcome"]

AT_ONCE: Final = 8  # each may wait for its run to stop
Outcome: TypeAlias = Literal["deleted", "would_delete", "not_found", "failed"]
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deletion:
    """What became of one session; `error` says why it was not deleted."""

    session_id: str
    outcome: Outcome
    error: AgentError | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The sessions that a filter lets through, the oldest first, and how many more there are."""

    session_ids: Sequence[str]
    remaining: int


class BulkDeletion:
    """Deletes sessions, a few at a time. Done again, it finds nothing more to do."""

    def __init__(self, sessions: SessionsService) -> None:
        self._sessions = sessions

    async def choose(self, chosen: SessionFilter, *, limit: int) -> Chosen:
        """The sessions that a deletion of the first `limit` would be about."""
        page = await self._sessions.page(
            chosen, sort_by="created_at", descending=False, page=1, page_size=limit, cursor=None
        )
        return Chosen([row.session_id for row in page.sessions], page.total - len(page.sessions))

    async def delete(self, session_ids: Sequence[str], *, by: str, dry_run: bool = False) -> list[Deletion]:
        """Deletes sessions, their runs stopped first; one that cannot be deleted does not keep the others.

        An id that is named twice is told of once. With `dry_run`, tells which would be deleted.
        """
        places = asyncio.Semaphore(AT_ONCE)

        async def one(session_id: str) -> Deletion:
            async with places:
                return await self._one(session_id, by=by, dry_run=dry_run)

        return await asyncio.gather(*(one(session_id) for session_id in dict.fromkeys(session_ids)))

    async def _one(self, session_id: str, *, by: str, dry_run: bool) -> Deletion:
        try:
            session = await self._sessions.get(session_id)
            if dry_run:
                return Deletion(session_id, "would_delete")
            await self._sessions.delete(session, by=by)
        except SessionUnknown as error:
            return Deletion(session_id, "not_found", error)
        except AgentError as error:
            return Deletion(session_id, "failed", error)
        except Exception:  # noqa: BLE001 - told of one by one, and listed among the server's errors
            _log.exception("session not deleted", session_id=session_id)
            return Deletion(session_id, "failed", SessionNotDeleted(session_id=session_id))
        return Deletion(session_id, "deleted")

"""Whether the server takes work: its database, its log files, its event loop."""

import asyncio
from typing import Any, Final

from modular_agent.api.errors import NotReady
from modular_agent.errors import AgentError, Fault, Text
from modular_agent.runtime import Runtime

__all__ = ["readiness"]

DATABASE_LIMIT: Final = 2.0  # seconds
NAP: Final = 0.005
SLOW_LOOP: Final = 0.5


async def readiness(runtime: Runtime) -> dict[str, Any]:
    """How the parts stand, `{status, checks}`. Raises `NotReady` when the server cannot take work.

    Log files or a search index that fail make the status `degraded` only: the database is the log, and both are made
    again from it.
    """
    latency, lag = await asyncio.gather(_database(runtime), _lag(runtime))
    state = runtime.database.mirror.state
    index = await runtime.search.state()
    checks = {
        "database": {"status": "ok", "latency": latency},
        "log": {"status": state.status, "error": state.error},
        "search_index": {"status": index.status, "behind": index.behind, "error": index.error},
        "event_loop": {"status": "slow" if lag > SLOW_LOOP else "ok", "lag": lag},
    }
    degraded = "failing" in (state.status, index.status) or lag > SLOW_LOOP
    return {"status": "degraded" if degraded else "ready", "checks": checks}


async def _database(runtime: Runtime) -> float:
    """How long the database took to answer, in seconds."""
    start = runtime.clock.monotonic()
    try:
        await runtime.database.probe(limit=DATABASE_LIMIT)
    except TimeoutError:
        limit = f"{DATABASE_LIMIT:g}"
        text = Text(f"did not answer within {limit} seconds", f"在 {limit} 秒内没有响应")
        raise NotReady([Fault(code="database_slow", text=text, path="database")]) from None
    except AgentError as error:
        raise NotReady([Fault(code=error.code, text=error.text, path="database")]) from error
    return round(runtime.clock.monotonic() - start, 6)


async def _lag(runtime: Runtime) -> float:
    """How late a nap ended, in seconds."""
    start = runtime.clock.monotonic()
    await asyncio.sleep(NAP)
    return round(max(0.0, runtime.clock.monotonic() - start - NAP), 6)

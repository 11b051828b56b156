"""Notices changes below a folder while files are being written."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog
from watchfiles import (
    Change,
    awatch,  # pyright: ignore[reportUnknownVariableType] - its stop event may be of a library that is not installed
)

from modular_agent.errors import AgentError

__all__ = ["is_watched", "watch_folder"]

DEBOUNCE_MS: Final = 400  # the longest time that changes are gathered
STEP_MS: Final = 50  # a pause of this length ends it
PERIOD_MS: Final = 5_000
RETRY: Final = 2.0  # seconds
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json", ".md", ".txt", ".j2", ".jinja", ".jinja2", ".prompt", ".py"})
_log = structlog.stdlib.get_logger(__name__)


def is_watched(path: Path) -> bool:
    """Whether a change of the file `path`, relative to the folder, means anything: no hidden, cached or scratch one."""
    hidden = any(part.startswith((".", "__pycache__", "#")) or part.endswith("~") for part in path.parts)
    return not hidden and path.suffix.lower() in _SUFFIXES


async def watch_folder(root: Path, changed: Callable[[], Awaitable[None]], *, stop: asyncio.Event) -> None:
    """Awaits `changed` after each burst of changes below `root`, until `stop` is set.

    It is awaited every `PERIOD_MS` too, for changes that nobody told of (a network folder, the moments before this
    began). A root that is missing or cannot be watched is tried again. What `changed` raises is logged.
    """
    place = await asyncio.to_thread(root.resolve)

    def chosen(_: Change, path: str) -> bool:
        try:
            return is_watched(Path(path).relative_to(place))
        except ValueError:
            return False

    failed = False
    while not stop.is_set():
        try:
            async for _ in awatch(
                place,
                watch_filter=chosen,
                debounce=DEBOUNCE_MS,
                step=STEP_MS,
                stop_event=stop,
                rust_timeout=PERIOD_MS,
                yield_on_timeout=True,
            ):
                failed = False
                await _call(changed)
        except (OSError, RuntimeError) as error:
            if not failed:
                _log.warning("the configs root cannot be watched", root=str(root), error=str(error))
            failed = True
            await _sleep(stop, RETRY)


async def _call(changed: Callable[[], Awaitable[None]]) -> None:
    try:
        await changed()
    except AgentError as error:  # a database that has too much to do, or no room: the next period tries again
        _log.warning("reloading changed files failed", code=error.code, error=str(error))
    except Exception:  # noqa: BLE001 - one bad moment must not end the watching
        _log.exception("reloading changed files failed")


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return

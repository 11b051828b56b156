"""The shapes of answers about the server itself."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from modular_agent.kit.late_model import LateModel

__all__ = ["HealthAnswer", "InfoAnswer", "ReadyAnswer"]


def _example(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class HealthAnswer(LateModel):
    """The process answers."""

    model_config = _example({"status": "ok", "timestamp": "2025-10-22T17:48:00.000000Z"})

    status: Literal["ok"]
    timestamp: str


class DatabaseCheck(LateModel):
    """Whether the database can be read and written; `latency` in seconds."""

    status: Literal["ok"]
    latency: float


class LogCheck(LateModel):
    """How the log files stand. While they fail, runs go on: the database holds every record."""

    status: Literal["ok", "starting", "failing", "closed"]
    error: str | None = Field(description="The operating system's name of the fault, such as ENOSPC.")


class IndexCheck(LateModel):
    """How the search index stands. What it does not hold yet is scanned, so that searches find it too."""

    status: Literal["ok", "failing"]
    behind: int = Field(description="Records committed since the index was last complete.")
    error: str | None


class LoopCheck(LateModel):
    """How late, in seconds, the event loop wakes somebody up."""

    status: Literal["ok", "slow"]
    lag: float


class Checks(LateModel):
    """What was looked at."""

    database: DatabaseCheck
    log: LogCheck
    search_index: IndexCheck
    event_loop: LoopCheck


class ReadyAnswer(LateModel):
    """The server takes work; `degraded`: not everything is as it should be."""

    model_config = _example(
        {
            "status": "ready",
            "checks": {
                "database": {"status": "ok", "latency": 0.0012},
                "log": {"status": "ok", "error": None},
                "search_index": {"status": "ok", "behind": 0, "error": None},
                "event_loop": {"status": "ok", "lag": 0.0002},
            },
        }
    )

    status: Literal["ready", "degraded"]
    checks: Checks


class CacheInfo(LateModel):
    """How the cache in front of hot reads does; `hit_rate` from 0 to 1, null before the first read."""

    entries: int
    max_entries: int
    hit_rate: float | None


class InfoAnswer(LateModel):
    """What this server is, what it can do, and its limits (bytes, seconds, counts)."""

    model_config = _example(
        {
            "name": "Modular Agent",
            "version": "0.1.0",
            "environment": "development",
            "workflow_schema": "modular-agent/v1",
            "languages": ["en", "zh"],
            "features": {"sessions": True, "workflows": True, "history": True, "websocket": True, "analytics": False},
            "builtin_tools": ["builtin.calculator"],
            "limits": {"max_body_bytes": 10485760, "max_page_size": 100, "max_parallel_runs": 64},
            "cache": {"entries": 12, "max_entries": 1000, "hit_rate": 0.93},
        }
    )

    name: str
    version: str
    environment: Literal["development", "production"]
    workflow_schema: str
    languages: list[str]
    features: dict[str, bool]
    builtin_tools: list[str]
    limits: dict[str, int | float]
    cache: CacheInfo

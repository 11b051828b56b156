"""Examples for the description of the API, of operations whose shapes bring none along."""

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["ANSWERS", "REQUESTS", "with_examples"]

_SESSION: Final = "react-251022-174800-1f73e8"
_RUN: Final = "run_1f73e8c09ab45d1e22f0"
_NO_PAGE: Final[dict[str, Any]] = {"total": 0, "page": 1, "page_size": 20, "has_next": False, "cursor": None}
_TIMES: Final[dict[str, Any]] = {
    "request_count": 12,
    "failed_requests": 1,
    "error_rate": 8.333,
    "avg_response_time": 1.204,
    "min_response_time": 0.611,
    "max_response_time": 3.92,
    "p50": 1.02,
    "p95": 3.51,
    "p99": 3.9,
    "time_to_first_token": {"count": 12, "avg": 0.41, "p50": 0.38, "p95": 0.9, "p99": 0.97},
    "total_tokens": 2440,
}
_TOKENS: Final[dict[str, Any]] = {
    "prompt_tokens": 2110,
    "completion_tokens": 330,
    "total_tokens": 2440,
    "cached_tokens": 512,
    "cache_write_tokens": 0,
    "reasoning_tokens": 64,
    "unpriced_tokens": 0,
    "request_count": 12,
}
_ALWAYS: Final[dict[str, Any]] = {"session_id": None, "start_time": None, "end_time": None}
_USED: Final[dict[str, Any]] = {
    **_ALWAYS,
    **_TOKENS,
    "by_model": {"gpt-4.1-mini": _TOKENS},
    "by_workflow": {"react": _TOKENS},
    "by_session": {
        _SESSION: {
            name: _TOKENS[name]
            for name in ("prompt_tokens", "completion_tokens", "total_tokens", "unpriced_tokens", "request_count")
        }
    },
    "by_day": [{"date": "2025-10-22", **_TOKENS}],
}
_RESULTS: Final[dict[str, Any]] = {
    "total_runs": 12,
    "ended_runs": 11,
    "success_rate": 90.909,
    "tokens": 2440,
    "unpriced_tokens": 0,
    "cost": 0.00183,
}
_REPORT: Final[dict[str, Any]] = {
    "text/markdown": "# Report 2025-10-15 to 2025-10-22\n\n| Summary | |\n| --- | --- |\n| Runs started | 12 |\n",
    "text/html": "<!doctype html>\n<title>Report 2025-10-15 to 2025-10-22</title>\n",
    "text/csv": "section,name,figure,value\r\nSummary,Runs started,value,12\r\n",
    "application/json": {"title": "Report 2025-10-15 to 2025-10-22", "runs": {"started": 12}},
}

# By operation id, then by media type.
ANSWERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "get_sessions_statistics": {
        "application/json": {
            "total_sessions": 7,
            "active_sessions": 1,
            "by_status": {"active": 1, "completed": 6},
            "avg_duration": 2.413,
            "error_count": 1,
            **_RESULTS,
        }
    },
    "get_session_statistics": {
        "application/json": {
            "session_id": _SESSION,
            "total_messages": 31,
            "total_tool_calls": 9,
            "total_errors": 1,
            "duration_seconds": 26.543,
            **_RESULTS,
        }
    },
    "list_waiting": {
        "application/json": {
            "interrupts": [],
            "total": 0,
            "page": 1,
            "page_size": 20,
            "has_next": False,
            "cursor": None,
        }
    },
    "list_checkpoints": {
        "application/json": {
            "checkpoints": [
                {
                    "checkpoint_id": "1f1e4d2c-ba87-6f35-8003-51c57f56b020",
                    "parent_id": "1f1e4d2c-b7f1-60f5-8002-a3a7dd2f54a9",
                    "run_id": _RUN,
                    "step": 3,
                    "source": "loop",
                    "created_at": "2025-10-22T17:48:03.955487Z",
                    "saved_name": "before the change",
                    "size": 372,
                    "diff": {"changed": ["messages"], "items": {"messages": 1}},
                }
            ],
            "has_next": False,
            "cursor": None,
        }
    },
    "inject_message": {
        "application/json": {"inbox_id": "inb_1f73e8c09ab45d1e22f0", "status": "waiting", "run_id": None}
    },
    "export_session": {
        "application/json": {
            "session_id": _SESSION,
            "export_time": "2025-10-22T18:00:00.000000Z",
            "total_records": 0,
            "records": [],
        },
        "text/csv": (
            f"seq,timestamp,session_id,record_type,message_type,content\r\n"
            f"2,2025-10-22T17:48:00.000000Z,{_SESSION},message,user,Hello!\r\n"
        ),
        "text/markdown": f"# {_SESSION}\n\n**user** (2025-10-22T17:48:00.000000Z)\n\nHello!\n",
    },
    "list_bookmarks": {
        "application/json": [
            {
                "bookmark_id": "bkm_1f73e8c09ab45d1e22f0",
                "session_id": _SESSION,
                "message_id": "rec_09dcc93275372b3ed2af",
                "note": "Shown on Monday.",
                "created_at": "2025-10-22T17:49:00.000000Z",
                "updated_at": "2025-10-22T17:49:00.000000Z",
            }
        ]
    },
    "delete_bookmark": {"application/json": {"message": "Bookmark bkm_1f73e8c09ab45d1e22f0 deleted."}},
    "get_performance": {
        "application/json": {
            **_ALWAYS,
            **_TIMES,
            "throughput": 0.2,
            "by_model": {"gpt-4.1-mini": _TIMES},
            "by_node": {"think": {**_TIMES, "time_to_first_token": {"count": 12, "avg": 0.41}}},
            "resource_usage": {"cpu_percent": 30.6, "memory_bytes": 169357312, "threads": 16},
        }
    },
    "get_tokens": {"application/json": _USED},
    "get_session_tokens": {"application/json": {**_USED, "session_id": _SESSION, "by_session": {}}},
    "get_error_statistics": {
        "application/json": {
            **_ALWAYS,
            "error_count": 1,
            "error_by_type": {"ModelTimeout": 1},
            "error_by_severity": {"error": 1},
            "error_by_session": {_SESSION: 1},
            "error_trends": [],
        }
    },
    "get_trend": {
        "application/json": {
            "session_id": None,
            "metric": "tokens",
            "time_range": "1h",
            "bucket": "minute",
            "points": [
                {"timestamp": "2025-10-22T17:47:00.000000Z", "value": 0, "count": 0},
                {"timestamp": "2025-10-22T17:48:00.000000Z", "value": 244, "count": 1},
            ],
            "total": {"value": 244, "count": 1},
            "change": {"current": 244, "previous": 122, "percent": 100.0},
        }
    },
    "get_report": _REPORT,
    "get_kept_report": _REPORT,
    "list_reports": {
        "application/json": {
            "reports": [
                {
                    "report_id": "rep_1f73e8c09ab45d1e22f0",
                    "title": "October, first week",
                    "created_at": "2025-10-22T17:48:00.000000Z",
                    "start_time": "2025-10-01T00:00:00.000000Z",
                    "end_time": "2025-10-08T00:00:00.000000Z",
                }
            ],
            "total": 1,
            "page": 1,
            "page_size": 20,
            "has_next": False,
            "cursor": None,
        }
    },
    "list_errors": {
        "application/json": {"errors": [], **_NO_PAGE},
    },
    "list_error_groups": {
        "application/json": {"groups": [], **_NO_PAGE},
    },
}
REQUESTS: Final[Mapping[str, Any]] = {
    "save_session": {"name": "before the change"},
    "restore_session": {"checkpoint_id": None},
    "migrate_session": {"workflow_version": None},
}


def with_examples(operation: dict[str, Any], schemas: Mapping[str, Any]) -> None:
    """Gives an operation of the description the examples that neither it nor its shapes (`schemas`) have."""
    name = operation.get("operationId", "")
    for status, answer in operation.get("responses", {}).items():
        if status < "300":
            for media_type, value in ANSWERS.get(name, {}).items():
                content: Any = answer.get("content", {}).get(media_type)
                if content is not None and not _has_any(content, schemas):
                    content["example"] = value
    body: Any = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None and name in REQUESTS and not _has_any(body, schemas):
        body["example"] = REQUESTS[name]


def _has_any(content: Mapping[str, Any], schemas: Mapping[str, Any]) -> bool:
    if "example" in content or "examples" in content:
        return True
    reference = str(content.get("schema", {}).get("$ref", ""))
    return "examples" in schemas.get(reference.rpartition("/")[2], {})

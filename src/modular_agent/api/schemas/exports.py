"""The shapes of exports."""

from typing import Any, Final

__all__ = ["EXPORTS"]

_RECORD: Final = (
    '{"seq":1,"timestamp":"2025-10-22T17:48:00.125000Z","record_id":"rec_5d1c0f6b2e9a47d38c10",'
    '"session_id":"react-251022-174800-1f73e8","run_id":null,"record_type":"message","node":null,"metadata":{},'
    '"message_type":"user","content":"Hello!"}\n'
)

# What OpenAPI says of the answer; any JSON value.
EXPORTS: Final[dict[str, Any]] = {
    "description": "The log as a file.",
    "headers": {
        "Content-Disposition": {"schema": {"type": "string"}, "description": "A file name."},
        "X-Total-Count": {"schema": {"type": "integer"}, "description": "How many records."},
    },
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["session_id", "export_time", "total_records", "records"],
                "properties": {
                    "session_id": {"type": "string"},
                    "export_time": {"type": "string", "format": "date-time"},
                    "total_records": {"type": "integer"},
                    "records": {"type": "array", "items": {"$ref": "#/components/schemas/RecordAnswer"}},
                },
            }
        },
        "application/x-ndjson": {"schema": {"type": "string"}, "example": _RECORD},
        "text/csv": {"schema": {"type": "string"}},
        "text/markdown": {"schema": {"type": "string"}},
    },
}

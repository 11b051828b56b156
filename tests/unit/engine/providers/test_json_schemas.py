"""Schemas are shaped for a provider without losing what they describe."""

from modular_agent.engine.providers.json_schemas import close_objects, drop_keywords, is_closed

CLOSED = {
    "type": "object",
    "properties": {
        "a": {"type": "array", "items": {"type": "object", "properties": {}, "additionalProperties": False}}
    },
    "required": ["a"],
    "additionalProperties": False,
}


def test_only_schemas_closed_at_every_depth_are_strict() -> None:
    assert is_closed(CLOSED)
    assert not is_closed({**CLOSED, "required": []})
    assert not is_closed({**CLOSED, "additionalProperties": True})
    assert not is_closed({**CLOSED, "properties": {"a": {"anyOf": [{"type": "object"}, {"type": "null"}]}}})


def test_closing_reaches_every_object_and_tells_what_it_cannot_enforce() -> None:
    schema = {
        "type": "object",
        "properties": {
            "score": {"type": "number", "minimum": 0, "maximum": 1, "description": "How good"},
            "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}},
        },
        "$defs": {"part": {"type": "object", "properties": {"minimum": {"type": "string"}}}},
    }
    closed = close_objects(schema, unsupported=frozenset({"minimum", "maximum"}))
    assert closed["additionalProperties"] is False
    assert closed["$defs"]["part"]["additionalProperties"] is False
    assert "minimum" in closed["$defs"]["part"]["properties"]
    assert closed["properties"]["score"] == {"type": "number", "description": "How good\nminimum: 0; maximum: 1"}


def test_a_dropped_keyword_may_still_name_a_property() -> None:
    schema = {
        "$schema": "x",
        "properties": {"$schema": {"type": "string", "$schema": "y"}},
        "additionalProperties": False,
    }
    dropped = drop_keywords(schema, keywords=frozenset({"$schema", "additionalProperties"}))
    assert dropped == {"properties": {"$schema": {"type": "string"}}}

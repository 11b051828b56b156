import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from modular_agent.engine.schema_faults import schema_faults

# What a keyword says by itself; the others of the draft only lead to schemas inside of them.
EXAMPLES: dict[str, tuple[Any, Any, str]] = {
    "type": ({"type": ["string", "null"]}, 5, "5 必须是字符串或 null"),
    "required": ({"required": ["it's", "b"]}, {"b": 1}, '缺少必填字段 "it\'s"'),
    "enum": ({"enum": ["a", "b"]}, "c", "'c' 必须是以下之一：['a', 'b']"),
    "const": ({"const": 1}, 2, "必须是 1"),
    "minimum": ({"minimum": 3}, 2, "2 不得小于 3"),
    "maximum": ({"maximum": 3}, 4, "4 不得大于 3"),
    "exclusiveMinimum": ({"exclusiveMinimum": 3}, 3, "3 必须大于 3"),
    "exclusiveMaximum": ({"exclusiveMaximum": 3}, 3, "3 必须小于 3"),
    "multipleOf": ({"multipleOf": 2}, 3, "3 必须是 2 的倍数"),
    "minLength": ({"minLength": 2}, "a", "'a' 至少须有 2 个字符"),
    "maxLength": ({"maxLength": 2}, "abc", "'abc' 最多可有 2 个字符"),
    "pattern": ({"pattern": "^{a}$"}, "b", "'b' 必须匹配 '^{a}$'"),
    "minItems": ({"minItems": 1}, [], "[] 至少须有 1 项"),
    "maxItems": ({"maxItems": 1}, [1, 2], "[1, 2] 最多可有 1 项"),
    "uniqueItems": ({"uniqueItems": True}, [1, 1], "[1, 1] 有重复的项"),
    "contains": ({"contains": {"type": "string"}}, [1], "[1] 中没有符合要求的项"),
    "items": ({"prefixItems": [{}], "items": False}, [1, 2], "[1, 2] 的项太多"),
    "unevaluatedItems": ({"prefixItems": [{}], "unevaluatedItems": False}, [1, 2], "[1, 2] 的项太多"),
    "minProperties": ({"minProperties": 1}, {}, "{} 至少须有 1 个字段"),
    "maxProperties": ({"maxProperties": 1}, {"a": 1, "b": 2}, "{'a': 1, 'b': 2} 最多可有 1 个字段"),
    "additionalProperties": (
        {"properties": {"a": {}}, "patternProperties": {"^x": {}}, "additionalProperties": False},
        {"a": 1, "x1": 1, "b": 1, "c": 1},
        "不允许有其他字段：'b'、'c'",
    ),
    "unevaluatedProperties": ({"unevaluatedProperties": False}, {"a": 1}, "{'a': 1} 有不允许的字段"),
    "dependentRequired": ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "缺少其他字段所要求的字段 'b'"),
    "anyOf": ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1, "1 不符合任何一种允许的形式"),
    "oneOf": ({"oneOf": [{"minimum": 1}, {"minimum": 2}]}, 3, "3 必须恰好符合一种允许的形式"),
    "not": ({"not": {"type": "integer"}}, 3, "3 是不允许的值"),
}
LEADING = {"$dynamicRef", "$ref", "allOf", "dependentSchemas", "if", "patternProperties", "prefixItems", "properties"}
LEADING |= {"propertyNames"}
UNCHECKED = {"format"}  # without a format checker it refuses nothing


def test_every_keyword_of_the_draft_has_its_words() -> None:
    assert set(EXAMPLES) | LEADING | UNCHECKED == set(Draft202012Validator.VALIDATORS)


@pytest.mark.parametrize("keyword", EXAMPLES)
def test_what_a_keyword_refuses_is_told_in_both_languages(keyword: str) -> None:
    schema, value, chinese = EXAMPLES[keyword]
    validator: Any = Draft202012Validator(schema)
    (error,) = validator.iter_errors(value)
    (fault,) = schema_faults(validator, value, code="x", path="answer")
    assert fault.text.message("en") == error.message
    assert fault.text.message("zh") == chinese


@pytest.mark.parametrize(
    ("schema", "value", "chinese"),
    [
        ({"contains": {"type": "string"}, "minContains": 2}, ["a"], "['a'] 中符合要求的项太少"),
        ({"contains": {"type": "string"}, "maxContains": 1}, ["a", "b"], "['a', 'b'] 中符合要求的项太多"),
        (False, 1, "1 是不允许的值"),
    ],
)
def test_what_has_no_keyword_of_its_own_is_told_too(schema: Any, value: Any, chinese: str) -> None:
    (fault,) = schema_faults(Draft202012Validator(schema), value, code="x", path="answer")
    assert fault.text.chinese == chinese


def test_the_place_is_inside_of_the_value_and_a_long_value_is_cut() -> None:
    schema = {"properties": {"a": {"items": {"maxLength": 3}}}}
    (fault,) = schema_faults(Draft202012Validator(schema), {"a": ["b", "c" * 1000]}, code="x", path="answer")
    assert fault.path == "answer.a.1"
    assert len(fault.text.english) == 300
    assert re.fullmatch(r"'c{98}… 最多可有 3 个字符", fault.text.chinese)

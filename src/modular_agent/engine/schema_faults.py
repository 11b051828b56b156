"""What a JSON Schema finds wrong with a value: in the library's English, in Chinese by the schema's keyword."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from modular_agent.errors import Fault, Text

__all__ = ["schema_faults", "schema_text"]

_LONGEST: Final = 300
_SHOWN: Final = 100  # of a value inside of a text

_TYPES: Final[Mapping[str, str]] = {
    "string": "字符串",
    "integer": "整数",
    "number": "数字",
    "boolean": " true 或 false",
    "array": "列表",
    "object": "对象",
    "null": " null",
}
# The keyword: what is said of `given` (the value), `wanted` (what the keyword holds), `names` (the fields it is about).
_CHINESE: Final[Mapping[str | None, str]] = {
    "type": "{given} 必须是{names}",
    "required": "缺少必填字段 {names}",
    "enum": "{given} 必须是以下之一：{wanted}",
    "const": "必须是 {wanted}",
    "minimum": "{given} 不得小于 {wanted}",
    "maximum": "{given} 不得大于 {wanted}",
    "exclusiveMinimum": "{given} 必须大于 {wanted}",
    "exclusiveMaximum": "{given} 必须小于 {wanted}",
    "multipleOf": "{given} 必须是 {wanted} 的倍数",
    "minLength": "{given} 至少须有 {wanted} 个字符",
    "maxLength": "{given} 最多可有 {wanted} 个字符",
    "pattern": "{given} 必须匹配 {wanted}",
    "format": "{given} 必须符合格式 {wanted}",
    "minItems": "{given} 至少须有 {wanted} 项",
    "maxItems": "{given} 最多可有 {wanted} 项",
    "uniqueItems": "{given} 有重复的项",
    "contains": "{given} 中没有符合要求的项",
    "minContains": "{given} 中符合要求的项太少",
    "maxContains": "{given} 中符合要求的项太多",
    "items": "{given} 的项太多",
    "unevaluatedItems": "{given} 的项太多",
    "minProperties": "{given} 至少须有 {wanted} 个字段",
    "maxProperties": "{given} 最多可有 {wanted} 个字段",
    "additionalProperties": "不允许有其他字段：{names}",
    "unevaluatedProperties": "{given} 有不允许的字段",
    "dependentRequired": "缺少其他字段所要求的字段 {names}",
    "anyOf": "{given} 不符合任何一种允许的形式",
    "oneOf": "{given} 必须恰好符合一种允许的形式",
    "not": "{given} 是不允许的值",
    None: "{given} 是不允许的值",  # the schema `false`
}
_OTHERWISE: Final = "{given} 不符合 {keyword} 的要求"


def schema_faults(validator: Any, value: object, *, code: str, path: str) -> list[Fault]:  # a jsonschema validator
    """Every fault that the validator finds in `value`, which stands at the key `path`."""
    return [
        Fault(code=code, text=schema_text(error), path=".".join([path, *(str(part) for part in error.absolute_path)]))
        for error in validator.iter_errors(value)
    ]


def schema_text(error: Any) -> Text:  # a jsonschema ValidationError or SchemaError: partly typed
    """What is wrong, in both languages."""
    keyword: str | None = error.validator
    names = _NAMES.get(keyword or "", lambda _: [])(error)
    chinese = _CHINESE.get(keyword, _OTHERWISE).format(
        given=_short(error.instance), wanted=_short(error.validator_value), keyword=keyword, names="、".join(names)
    )
    return Text(str(error.message)[:_LONGEST], chinese[:_LONGEST])


def _types(error: Any) -> list[str]:
    wanted: Any = error.validator_value
    kinds = [wanted] if isinstance(wanted, str) else cast("list[str]", wanted)
    return ["或".join(_TYPES.get(kind, kind) for kind in kinds)]


def _missing(error: Any) -> list[str]:
    """The name that the library's text begins with: it reports each one, and keeps it nowhere else."""
    found = re.match(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", str(error.message))
    return [found[0]] if found else []


def _unexpected(error: Any) -> list[str]:
    schema = cast("Mapping[str, Any]", error.schema)
    patterns = cast("Mapping[str, Any]", schema.get("patternProperties") or {})
    known = cast("Mapping[str, Any]", schema.get("properties") or {})
    return [
        _short(name)
        for name in cast("Mapping[str, Any]", error.instance)
        if name not in known and not any(re.search(pattern, name) for pattern in patterns)
    ]


_NAMES: Final[Mapping[str, Callable[[Any], list[str]]]] = {
    "type": _types,
    "required": _missing,
    "dependentRequired": _missing,
    "additionalProperties": _unexpected,
}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"

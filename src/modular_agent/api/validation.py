"""What is wrong with a request, told in the API's own words instead of the validator's."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from modular_agent.errors import Fault, Language

__all__ = ["request_faults"]

# The validator's error type (or its beginning, up to "*"): our code, English, Chinese; texts format over the context.
_TEXTS: Final[Mapping[str, tuple[str, str, str]]] = {
    "missing": ("missing", "is required", "必填"),
    "missing_argument": ("missing", "is required", "必填"),
    "extra_forbidden": ("unknown_field", "is not a known field", "未知字段"),
    "greater_than_equal": ("out_of_range", "must be at least {ge}", "不得小于 {ge}"),
    "greater_than": ("out_of_range", "must be greater than {gt}", "必须大于 {gt}"),
    "less_than_equal": ("out_of_range", "must be at most {le}", "不得大于 {le}"),
    "less_than": ("out_of_range", "must be less than {lt}", "必须小于 {lt}"),
    "multiple_of": ("out_of_range", "must be a multiple of {multiple_of}", "必须是 {multiple_of} 的倍数"),
    "finite_number": ("out_of_range", "must be a finite number", "必须是有限的数字"),
    "string_too_short": ("too_short", "must have at least {min_length} characters", "至少 {min_length} 个字符"),
    "string_too_long": ("too_long", "must have at most {max_length} characters", "最多 {max_length} 个字符"),
    "too_short": ("too_short", "must have at least {min_length} items", "至少 {min_length} 项"),
    "too_long": ("too_long", "must have at most {max_length} items", "最多 {max_length} 项"),
    "string_pattern_mismatch": ("invalid_format", "must match {pattern}", "必须匹配 {pattern}"),
    "literal_error": ("invalid_choice", "must be one of {expected}", "必须是以下之一：{expected}"),
    "enum": ("invalid_choice", "must be one of {expected}", "必须是以下之一：{expected}"),
    "union_tag_invalid": ("invalid_choice", "must be one of {expected_tags}", "必须是以下之一：{expected_tags}"),
    "union_tag_not_found": ("missing", "does not say its kind", "缺少类型说明"),
    "string_unicode": ("invalid_format", "must be valid Unicode", "必须是有效的 Unicode 文本"),
    "string*": ("wrong_type", "must be a string", "必须是字符串"),
    "int*": ("wrong_type", "must be a whole number", "必须是整数"),
    "float*": ("wrong_type", "must be a number", "必须是数字"),
    "decimal*": ("wrong_type", "must be a number", "必须是数字"),
    "bool*": ("wrong_type", "must be true or false", "必须是 true 或 false"),
    "list*": ("wrong_type", "must be a list", "必须是列表"),
    "tuple*": ("wrong_type", "must be a list", "必须是列表"),
    "set*": ("wrong_type", "must be a list", "必须是列表"),
    "dict*": ("wrong_type", "must be an object", "必须是对象"),
    "mapping*": ("wrong_type", "must be an object", "必须是对象"),
    "model*": ("wrong_type", "must be an object", "必须是对象"),
    "dataclass*": ("wrong_type", "must be an object", "必须是对象"),
    "none*": ("wrong_type", "must be null", "必须是 null"),
    "datetime*": ("invalid_format", "must be a time such as 2025-10-22T17:48:00Z", "须为时间，如 2025-10-22T17:48:00Z"),
    "timezone*": ("invalid_format", "must be a time with its offset", "必须是带时区的时间"),
    "date*": ("invalid_format", "must be a date such as 2025-10-22", "必须是日期，例如 2025-10-22"),
    "time*": ("invalid_format", "must be a duration in seconds", "必须是以秒为单位的时长"),
    "url*": ("invalid_format", "must be a URL", "必须是 URL"),
    "uuid*": ("invalid_format", "must be a UUID", "必须是 UUID"),
    "json*": ("invalid_format", "must be valid JSON", "必须是有效的 JSON"),
}  # fmt: skip
_UNKNOWN: Final = ("invalid_value", "is not valid", "无效")


def request_faults(errors: Iterable[Mapping[str, Any]], body: object, language: Language) -> list[Fault]:
    """The faults behind a validator's errors (mappings of `type`, `loc`, `msg`, `ctx`), each place and text once.

    A validator of ours may raise `PydanticCustomError(code, english, {"zh": chinese})`: its code and texts are kept.
    """
    faults: dict[tuple[str, str], Fault] = {}
    for error in errors:
        path = _path(error["loc"], body, missing=error["type"] == "missing")
        code, message = _text(error, language)
        faults.setdefault((path, message), Fault(code=code, message=message, path=path))
    return list(faults.values())


def _text(error: Mapping[str, Any], language: Language) -> tuple[str, str]:
    kind = str(error["type"])
    context: Mapping[str, Any] = error.get("ctx") or {}
    if kind in ("value_error", "assertion_error"):
        return "invalid_value", str(context.get("error") or error["msg"])
    if "zh" in context:
        return kind, str(context["zh"] if language == "zh" else error["msg"])
    code, english, chinese = _TEXTS.get(kind) or _TEXTS.get(kind.split("_", maxsplit=1)[0] + "*", _UNKNOWN)
    shown = {name: str(value).replace(" or ", ", ").replace("'", "") for name, value in context.items()}
    return code, (chinese if language == "zh" else english).format_map(shown)


def _path(loc: Sequence[str | int], body: object, *, missing: bool) -> str:
    """`loc` as a JSON pointer (RFC 6901) behind the part of the request, without the names of the validator's types."""
    part, *keys = loc
    if part != "body":
        return "/".join(["", str(part), *(_escape(key) for key in keys[:1])])
    steps: list[str] = []
    place = body
    for number, key in enumerate(keys):
        held, inner = _inside(place, key)
        if held:
            place = inner
        if held or (missing and number == len(keys) - 1):
            steps.append(_escape(key))
    return "/".join(["", "body", *steps])


def _inside(place: object, key: str | int) -> tuple[bool, object]:
    """Whether `place` of the body holds `key`, and what is there."""
    if isinstance(place, dict):
        mapping = cast(dict[str | int, object], place)
        return key in mapping, mapping.get(key)
    if isinstance(place, list) and isinstance(key, int):
        items = cast(list[object], place)
        return key < len(items), items[key] if key < len(items) else None
    return False, None


def _escape(key: str | int) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")

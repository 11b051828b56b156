"""What is wrong with a value, told in the product's own words instead of the validator's."""

from collections.abc import Mapping
from typing import Any, Final

from modular_agent.errors import Text

__all__ = ["own_words", "validation_text"]

# The validator's error type (or its beginning, up to "*"): our code and text; texts format over the context.
_TEXTS: Final[Mapping[str, tuple[str, Text]]] = {
    "missing": ("missing", Text("is required", "必填")),
    "missing_argument": ("missing", Text("is required", "必填")),
    "extra_forbidden": ("unknown_field", Text("is not a known field", "未知字段")),
    "greater_than_equal": ("out_of_range", Text("must be at least {ge}", "不得小于 {ge}")),
    "greater_than": ("out_of_range", Text("must be greater than {gt}", "必须大于 {gt}")),
    "less_than_equal": ("out_of_range", Text("must be at most {le}", "不得大于 {le}")),
    "less_than": ("out_of_range", Text("must be less than {lt}", "必须小于 {lt}")),
    "multiple_of": ("out_of_range", Text("must be a multiple of {multiple_of}", "必须是 {multiple_of} 的倍数")),
    "finite_number": ("out_of_range", Text("must be a finite number", "必须是有限的数字")),
    "string_too_short": ("too_short", Text("must have at least {min_length} characters", "至少 {min_length} 个字符")),
    "string_too_long": ("too_long", Text("must have at most {max_length} characters", "最多 {max_length} 个字符")),
    "too_short": ("too_short", Text("must have at least {min_length} items", "至少 {min_length} 项")),
    "too_long": ("too_long", Text("must have at most {max_length} items", "最多 {max_length} 项")),
    "string_pattern_mismatch": ("invalid_format", Text("must match {pattern}", "必须匹配 {pattern}")),
    "literal_error": ("invalid_choice", Text("must be one of {expected}", "必须是以下之一：{expected}")),
    "enum": ("invalid_choice", Text("must be one of {expected}", "必须是以下之一：{expected}")),
    "union_tag_invalid": ("invalid_choice", Text("must be one of {expected_tags}", "必须是以下之一：{expected_tags}")),
    "union_tag_not_found": ("missing", Text("does not say its kind", "缺少类型说明")),
    "string_unicode": ("invalid_format", Text("must be valid Unicode", "必须是有效的 Unicode 文本")),
    "string*": ("wrong_type", Text("must be a string", "必须是字符串")),
    "int*": ("wrong_type", Text("must be a whole number", "必须是整数")),
    "float*": ("wrong_type", Text("must be a number", "必须是数字")),
    "decimal*": ("wrong_type", Text("must be a number", "必须是数字")),
    "bool*": ("wrong_type", Text("must be true or false", "必须是 true 或 false")),
    "list*": ("wrong_type", Text("must be a list", "必须是列表")),
    "tuple*": ("wrong_type", Text("must be a list", "必须是列表")),
    "set*": ("wrong_type", Text("must be a list", "必须是列表")),
    "dict*": ("wrong_type", Text("must be an object", "必须是对象")),
    "mapping*": ("wrong_type", Text("must be an object", "必须是对象")),
    "model*": ("wrong_type", Text("must be an object", "必须是对象")),
    "dataclass*": ("wrong_type", Text("must be an object", "必须是对象")),
    "none*": ("wrong_type", Text("must be null", "必须是 null")),
    "datetime*": (
        "invalid_format",
        Text("must be a time such as 2025-10-22T17:48:00Z", "须为时间，如 2025-10-22T17:48:00Z"),
    ),
    "timezone*": ("invalid_format", Text("must be a time with its offset", "必须是带时区的时间")),
    "date*": ("invalid_format", Text("must be a date such as 2025-10-22", "必须是日期，例如 2025-10-22")),
    "time*": ("invalid_format", Text("must be a duration in seconds", "必须是以秒为单位的时长")),
    "url*": ("invalid_format", Text("must be a URL", "必须是 URL")),
    "uuid*": ("invalid_format", Text("must be a UUID", "必须是 UUID")),
    "json*": ("invalid_format", Text("must be valid JSON", "必须是有效的 JSON")),
}  # fmt: skip
_UNKNOWN: Final = ("invalid_value", Text("is not valid", "无效"))


def validation_text(error: Mapping[str, Any]) -> tuple[str, Text]:
    """Our code and text for one of Pydantic's errors (`type`, `msg`, `ctx`).

    A validator of ours raises `PydanticCustomError(code, english, {"zh": chinese})`: its code and texts are kept
    (`value_error` stands for `invalid_value`).
    """
    kind = str(error["type"])
    context: Mapping[str, Any] = error.get("ctx") or {}
    if "zh" in context:
        return _UNKNOWN[0] if kind == "value_error" else kind, Text(str(error["msg"]), str(context["zh"]))
    if kind in ("value_error", "assertion_error"):
        said = str(context.get("error") or error["msg"])
        return _UNKNOWN[0], Text(said, f"无效：{said}")
    code, text = _TEXTS.get(kind) or _TEXTS.get(kind.split("_", maxsplit=1)[0] + "*", _UNKNOWN)
    return code, text.filled(**{name: _shown(value) for name, value in context.items()})


def own_words(error: Mapping[str, Any]) -> Text:
    """Pydantic's words in English, ours in Chinese."""
    return Text(str(error["msg"]), validation_text(error)[1].chinese)


def _shown(value: object) -> str:
    return str(value).replace(" or ", ", ").replace("'", "")

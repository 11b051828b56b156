"""The language of scripts for the scripted model.

A script is YAML. Of its `turns`, the first whose conditions all hold answers the call:

```yaml
model: demo-1                        # the name reported (default: the one the workflow gives)
prices: {input: 0.5, output: 1.5}    # USD per million tokens; also cached, cache_write. Left out: unpriced
defaults: {delay: 200ms, token_delay: 20ms}
turns:
  - when: {last_role: user, last_user: {regex: '(\\d+ \\* \\d+)'}, has_tool: calculator}
    tool_calls:
      - {name: calculator, arguments: {expression: "{{ match[1] }}"}}
  - when: {last_role: tool}
    reply: "The answer is {{ tool_results[-1].content }}."
otherwise:
  reply: "You said: {{ input }}"
```

Conditions (`when`; all must hold; none given: always):

- `last_user`, `last_message`, `system`, `tool_result` (any of the results since the last answer): a text they contain
  (without regard to case), or `{contains: ..}`, `{equals: ..}`, `{regex: ..}`, or a list of which one must hold;
- `last_role`: user, assistant, tool, system; `has_tool`: the name of a tool the model was offered;
- `tool`: the name of the tool whose result came last; `schema: true`: an answer by JSON Schema is asked for;
- `nth`: this is the nth call in the conversation (one more than the answers in it), a number or a list;
- `nth_in_turn`: the same, counted since the last user message.

Answer (`turns[]` and `otherwise`):

- `reply`: text; or `json`: any value, answered as JSON; and/or `tool_calls`: `[{name, arguments, id?}]`, where
  `arguments` is an object, or text to be sent as it is; `reasoning`: text that comes first;
- texts are Jinja2 in a sandbox, over `input` (the last user message), `last_message`, `tool_results` (each `name`,
  `content`, `tool_call_id`), `messages`, `system`, `nth` and `match` (the groups of the first regex in `when`);
  in `json` and `arguments`, a text that is one `{{ expression }}` keeps the type of its value;
- `delay` before the first piece, `token_delay` between pieces (seconds, or text such as 20ms), `chunk` characters a
  piece (default: a word);
- `usage`: `{prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens}`; left out, tokens
  are counted from the text, always the same for the same text; `finish_reason`: stop, length, content_filter, ...;
- `fail`: `{kind, status, message, retry_after, times, after_chunks}` fails instead, `times` times (default: always),
  after so many pieces (default: at once); `rate_limit: {retry_after, times}` is short for a 429; `hang: true` never
  answers.

`recorded` is a list of answers of an earlier run, in order: messages, or `llm_response` records of a log. The answer
after n assistant messages is the one at index n; `turns` and `otherwise` come into play when they run out.

Which turn answers depends on the request alone, so a process that starts again in the middle gets the same answers;
only `times` counts, per model object.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, LiteralString, TypeAlias, cast

from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from modular_agent.engine.providers.errors import InvalidScript, ProviderErrorKind
from modular_agent.engine.providers.port import FinishReason
from modular_agent.errors import Fault, Text
from modular_agent.kit.late_model import LateModel
from modular_agent.validation import own_words

__all__ = [
    "Failure",
    "Pace",
    "RateLimit",
    "RecordedAnswer",
    "RecordedUsage",
    "Reply",
    "Script",
    "ScriptPrices",
    "ScriptUsage",
    "ScriptedCall",
    "TextTest",
    "Turn",
    "When",
    "parse_script",
]

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0}


def _refused(english: LiteralString, chinese: str, **context: str) -> PydanticCustomError:
    """For a validator to raise; `context` fills the English text."""
    return PydanticCustomError("value_error", english, {**context, "zh": chinese})


def _seconds(value: object) -> object:
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise _refused(
                "a duration is a number of seconds or text such as 20ms, 1.5s, 2m",
                "时长是秒数，或 20ms、1.5s、2m 这样的文本",
            )
        return float(match[1]) * _UNITS[match[2]]
    return value


def _as_tuple(value: object) -> object:
    return tuple(cast("list[object]", value)) if isinstance(value, list) else value


def _pattern(value: object) -> object:
    if isinstance(value, str):
        try:
            re.compile(value)
        except re.error as error:
            raise _refused(
                "not a regular expression: {reason}", f"不是正则表达式：{error}", reason=str(error)
            ) from error
    return value


def _member(value: object) -> object:
    """Strict validation takes no text for an enumeration; files have nothing else."""
    if not isinstance(value, str):
        return value
    for enumeration in (ProviderErrorKind, FinishReason):
        if value in set(enumeration):
            return enumeration(value)
    return value


Seconds: TypeAlias = Annotated[
    float, BeforeValidator(_seconds, json_schema_input_type=float | str), Field(ge=0, allow_inf_nan=False)
]
Count: TypeAlias = Annotated[int, Field(ge=0)]
Ordinal: TypeAlias = Annotated[int, Field(ge=1)]
Price: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(LateModel):
    """Unknown keys are errors, nothing is coerced, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TextTest(_Strict):
    """A condition on a text; exactly one of the three."""

    contains: str | None = None
    equals: str | None = None
    regex: Annotated[str | None, BeforeValidator(_pattern)] = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "TextTest":
        if sum(part is not None for part in (self.contains, self.equals, self.regex)) != 1:
            raise _refused("give exactly one of contains, equals, regex", "须恰好给出 contains、equals、regex 之一")
        return self


def _tests(value: object) -> object:
    """A text means `contains`; one condition means a list of one."""
    values = cast("list[object]", value) if isinstance(value, list) else [value]
    return tuple({"contains": item} if isinstance(item, str) else item for item in values)


def _ordinals(value: object) -> object:
    return tuple(cast("list[object]", value)) if isinstance(value, list) else (value,)


TextTests: TypeAlias = Annotated[
    tuple[TextTest, ...],
    BeforeValidator(_tests, json_schema_input_type=str | TextTest | list[str | TextTest]),
    Field(min_length=1),
]
Ordinals: TypeAlias = Annotated[
    tuple[Ordinal, ...], BeforeValidator(_ordinals, json_schema_input_type=int | list[int]), Field(min_length=1)
]


class When(_Strict):
    """The conditions of a turn; all that are given must hold."""

    last_user: TextTests | None = None
    last_message: TextTests | None = None
    system: TextTests | None = None
    tool_result: TextTests | None = None
    last_role: Literal["user", "assistant", "tool", "system"] | None = None
    tool: str | None = None
    has_tool: str | None = None
    schema_: Annotated[bool | None, Field(alias="schema")] = None
    nth: Ordinals | None = None
    nth_in_turn: Ordinals | None = None


class ScriptedCall(_Strict):
    """A tool call of an answer. `arguments` is any JSON object (its texts are templates), or text sent as it is."""

    name: Annotated[str, Field(min_length=1)]
    arguments: dict[str, Any] | str = Field(default={})
    id: str | None = None


class ScriptUsage(_Strict):
    """The token counts an answer reports."""

    prompt_tokens: Count
    completion_tokens: Count
    cached_tokens: Count = 0
    cache_write_tokens: Count = 0
    reasoning_tokens: Count = 0

    @model_validator(mode="after")
    def _parts_fit(self) -> "ScriptUsage":
        if self.cached_tokens + self.cache_write_tokens > self.prompt_tokens:
            raise _refused("more cached tokens than prompt tokens", "缓存的 token 多于提示的 token")
        if self.reasoning_tokens > self.completion_tokens:
            raise _refused("more reasoning tokens than completion tokens", "推理的 token 多于生成的 token")
        return self


class Failure(_Strict):
    """A failure instead of an answer; `times` None means always."""

    kind: Annotated[ProviderErrorKind, BeforeValidator(_member)]
    status: Annotated[int, Field(ge=100, le=599)] | None = None
    message: str = "a failure by script"
    retry_after: Seconds | None = None
    times: Ordinal | None = None
    after_chunks: Count = 0


class RateLimit(_Strict):
    """Short for a failure with status 429."""

    retry_after: Seconds | None = None
    times: Ordinal | None = None


class Pace(_Strict):
    """How fast an answer comes; seconds, and characters a piece (None: a word)."""

    delay: Seconds | None = None
    token_delay: Seconds | None = None
    chunk: Ordinal | None = None


class Reply(Pace):
    """An answer."""

    reply: str | None = None
    json_: Annotated[Any, Field(alias="json")] = None  # any JSON; texts in it are templates
    tool_calls: Annotated[tuple[ScriptedCall, ...], BeforeValidator(_as_tuple)] = ()
    reasoning: str | None = None
    usage: ScriptUsage | None = None
    finish_reason: Annotated[FinishReason | None, BeforeValidator(_member)] = None
    fail: Failure | None = None
    rate_limit: RateLimit | None = None
    hang: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> "Reply":
        has_json = "json_" in self.model_fields_set
        if self.reply is not None and has_json:
            raise _refused("give reply or json, not both", "只能给出 reply、json 之一")
        if self.fail is not None and self.rate_limit is not None:
            raise _refused("give fail or rate_limit, not both", "只能给出 fail、rate_limit 之一")
        answers = self.reply is not None or has_json or bool(self.tool_calls) or self.hang
        failure = self.failure
        if not answers and not (failure is not None and failure.times is None):
            raise _refused(
                "a turn needs one of reply, json, tool_calls, fail, rate_limit, hang",
                "一轮须给出 reply、json、tool_calls、fail、rate_limit、hang 之一",
            )
        return self

    @property
    def failure(self) -> Failure | None:
        """`fail`, or what `rate_limit` is short for."""
        if self.rate_limit is None:
            return self.fail
        return Failure(
            kind=ProviderErrorKind.RATE_LIMITED,
            status=429,
            message="rate limited by script",
            retry_after=self.rate_limit.retry_after,
            times=self.rate_limit.times,
        )


class Turn(Reply):
    """An answer and when it is given."""

    when: When = When()


class RecordedUsage(ScriptUsage):
    """The token counts of a recorded answer; other keys are left unread."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class RecordedAnswer(LateModel):
    """An answer of an earlier run: a message, or an `llm_response` record. Other keys are left unread."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    message: Annotated[dict[str, Any], Field(validation_alias=AliasChoices("message", "response"))]  # a port.Message
    model: str | None = None
    finish_reason: Annotated[FinishReason | None, BeforeValidator(_member)] = None
    usage: Annotated[RecordedUsage | None, Field(validation_alias=AliasChoices("usage", "token_usage"))] = None

    @model_validator(mode="before")
    @classmethod
    def _bare_message(cls, value: object) -> object:
        if isinstance(value, str):
            return {"message": {"role": "assistant", "content": value}}
        if not isinstance(value, dict):
            return value
        entry = cast("dict[str, Any]", value)
        inner = entry.get("response")
        if isinstance(inner, str):
            return {**entry, "response": {"role": "assistant", "content": inner, "tool_calls": entry.get("tool_calls")}}
        if "message" in entry or inner is not None or not ("content" in entry or "tool_calls" in entry):
            return entry
        return {**{key: entry[key] for key in ("usage", "model", "finish_reason") if key in entry}, "message": entry}


class ScriptPrices(_Strict):
    """USD per million tokens."""

    input: Price
    output: Price
    cached: Price | None = None
    cache_write: Price | None = None


class Script(_Strict):
    """A whole script."""

    name: str | None = None
    description: str | None = None
    model: str | None = None
    prices: ScriptPrices | None = None
    defaults: Pace = Pace()
    turns: Annotated[tuple[Turn, ...], BeforeValidator(_as_tuple)] = ()
    otherwise: Reply | None = None
    recorded: Annotated[tuple[RecordedAnswer, ...], BeforeValidator(_as_tuple)] = ()

    @model_validator(mode="after")
    def _not_empty(self) -> "Script":
        if not (self.turns or self.otherwise or self.recorded):
            raise _refused("a script needs turns, otherwise or recorded", "脚本需要 turns、otherwise 或 recorded")
        return self


def parse_script(data: Any, *, source: str) -> Script:  # parsed YAML: any value
    """The script in `data`; `source` is the file's name. Raises `InvalidScript` with every fault and its key path."""
    if not isinstance(data, Mapping):
        raise InvalidScript(
            [Fault(code="script_shape", text=Text("a script is a mapping", "脚本必须是映射"), file=source)]
        )
    try:
        return Script.model_validate(dict(cast("Mapping[str, Any]", data)))
    except ValidationError as error:
        faults = [
            Fault(code=f"script_{each['type']}", text=_fault_text(each), path=_path(each["loc"]), file=source)
            for each in error.errors(include_url=False)
        ]
        raise InvalidScript(faults) from error


def _fault_text(fault: Mapping[str, Any]) -> Text:
    if fault["type"] == "extra_forbidden":
        key = fault["loc"][-1]
        return Text(f"unknown key {key!r}", f"未知的键 {key!r}")
    return own_words(fault)


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part not in ("dict[str,any]", "str"):  # the arms of a union are not in the file
            path += f".{part}" if path else part
    return path

"""What goes wrong between the engine and a model.

    AgentError
    ├── ProviderError          one call of a model failed; `reason` says why, `retryable` whether another try may help
    │   └── AllModelsFailed    every attempt at every model failed; carries the last error and the list of attempts
    ├── UnknownProvider        a workflow names a provider that does not exist
    ├── MissingKey             the variable that holds the provider's key is not set
    ├── MissingExtra           the provider needs an optional part of the installation
    ├── InvalidModelSettings   a model's configuration cannot be used
    └── InvalidInput
        ├── InvalidScript      a script of the scripted model, with the place of each fault
        └── InvalidPrices      a price file, with the place of each fault

No text here holds a key: what a provider says goes through `clean` first.
"""

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

from modular_agent.errors import AgentError, InvalidInput, Kind, Language

__all__ = [
    "AllModelsFailed",
    "InvalidModelSettings",
    "InvalidPrices",
    "InvalidScript",
    "MissingExtra",
    "MissingKey",
    "ProviderError",
    "ProviderErrorKind",
    "UnknownProvider",
    "clean",
]

MAX_DETAIL: Final = 500

_SECRET = re.compile(
    r"(?i)(?:(?:proxy-)?authorization|x-api-key|x-goog-api-key|api[-_]?key)[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic)\s+)?[^\s\"',;&}]+"
    r"|\b(?:bearer|basic)\s+[a-z0-9._~+/=-]{8,}"
    r"|\b(?:sk|pk|rk|gsk|xai|key)-[a-z0-9_*.-]{6,}"
    r"|\bAIza[a-z0-9_-]{10,}"
    r"|(?<=[?&]key=)[^&\s\"']+"
)
_BLANK = re.compile(r"[\s\x00-\x1f\x7f]+")


class ProviderErrorKind(StrEnum):
    """Why a call of a model failed, in one vocabulary for all providers."""

    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"  # any 5xx
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    NOT_FOUND = "not_found"
    BAD_REQUEST = "bad_request"
    CONTEXT_LENGTH = "context_length"
    CONTENT_FILTER = "content_filter"
    BAD_RESPONSE = "bad_response"


_RETRYABLE: Final = frozenset(
    {
        ProviderErrorKind.RATE_LIMITED,
        ProviderErrorKind.OVERLOADED,
        ProviderErrorKind.TIMEOUT,
        ProviderErrorKind.CONNECTION,
        ProviderErrorKind.BAD_RESPONSE,
    }
)

_ENGLISH: Final[dict[ProviderErrorKind, str]] = {
    ProviderErrorKind.RATE_LIMITED: "too many requests",
    ProviderErrorKind.OVERLOADED: "the provider is failing or overloaded",
    ProviderErrorKind.TIMEOUT: "no complete answer in time",
    ProviderErrorKind.CONNECTION: "the connection failed",
    ProviderErrorKind.AUTHENTICATION: "the key was refused",
    ProviderErrorKind.PERMISSION: "the key may not do this",
    ProviderErrorKind.NOT_FOUND: "the model or address does not exist",
    ProviderErrorKind.BAD_REQUEST: "the provider refused the request",
    ProviderErrorKind.CONTEXT_LENGTH: "the conversation is too long for the model",
    ProviderErrorKind.CONTENT_FILTER: "the provider's content filter refused",
    ProviderErrorKind.BAD_RESPONSE: "the answer could not be understood",
}

_CHINESE: Final[dict[ProviderErrorKind, str]] = {
    ProviderErrorKind.RATE_LIMITED: "请求过于频繁",
    ProviderErrorKind.OVERLOADED: "服务方出错或过载",
    ProviderErrorKind.TIMEOUT: "未能及时得到完整回答",
    ProviderErrorKind.CONNECTION: "连接失败",
    ProviderErrorKind.AUTHENTICATION: "密钥被拒绝",
    ProviderErrorKind.PERMISSION: "密钥没有权限",
    ProviderErrorKind.NOT_FOUND: "模型或地址不存在",
    ProviderErrorKind.BAD_REQUEST: "服务方拒绝了请求",
    ProviderErrorKind.CONTEXT_LENGTH: "对话超出模型的长度限制",
    ProviderErrorKind.CONTENT_FILTER: "被服务方的内容过滤拒绝",
    ProviderErrorKind.BAD_RESPONSE: "无法理解服务方的回答",
}


def clean(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` on one line, at most 500 characters, with `secrets` and whatever looks like a key replaced by `***`."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    text = _SECRET.sub("***", text[: 8 * MAX_DETAIL])
    text = _BLANK.sub(" ", text).strip()
    return text if len(text) <= MAX_DETAIL else text[: MAX_DETAIL - 1] + "…"


class ProviderError(AgentError):
    """One call of a model failed.

    `reason` is the kind of failure and `retryable` says whether the same request may succeed later; `retry_after` is in
    seconds when the provider said how long to wait. `status` is the HTTP status, None where there was none. `detail` is
    what the provider said, cleaned; pass the call's keys as `secrets`.
    """

    code = "provider_error"
    kind = Kind.UNAVAILABLE
    english = "Model {model} at {provider}: {what}{status_text}{detail_text}."
    chinese = "{provider} 的模型 {model}：{what}{status_text}{detail_text}。"

    def __init__(
        self,
        reason: ProviderErrorKind,
        *,
        provider: str,
        model: str,
        detail: str = "",
        status: int | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        detail = clean(detail, secrets)
        super().__init__(
            retry_after=retry_after,
            reason=reason.value,
            provider=provider,
            model=model,
            status=status,
            detail=detail,
            status_text=f" (HTTP {status})" if status else "",
            detail_text=f": {detail.rstrip('.。')}" if detail else "",
        )
        self.reason = reason
        self.provider = provider
        self.model = model
        self.detail = detail
        self.status = status
        self.retryable = reason in _RETRYABLE if retryable is None else retryable

    def message(self, language: Language = "en") -> str:
        self.parameters["what"] = (_CHINESE if language == "zh" else _ENGLISH)[self.reason]
        return super().message(language)


class AllModelsFailed(ProviderError):
    """Every attempt at every model failed. `last` is the last error; `tried` has one line per model."""

    code = "all_models_failed"
    english = "{last_text} Tried: {tried_text}."
    chinese = "{last_text}已尝试：{tried_text}。"

    def __init__(self, last: ProviderError, *, tried: Sequence[str]) -> None:
        super().__init__(
            last.reason,
            provider=last.provider,
            model=last.model,
            detail=last.detail,
            status=last.status,
            retry_after=last.retry_after,
            retryable=last.retryable,
        )
        self.last = last
        self.tried = tuple(tried)

    def message(self, language: Language = "en") -> str:
        self.parameters["last_text"] = self.last.message(language)
        self.parameters["tried_text"] = ("；" if language == "zh" else "; ").join(self.tried)
        return super().message(language)


class UnknownProvider(AgentError):
    """A model names a provider that does not exist."""

    code = "unknown_provider"
    kind = Kind.INVALID
    english = "Model {name}: there is no provider {provider!s}. Known are: {known}."
    chinese = "模型 {name}：没有名为 {provider} 的服务方。可用的有：{known}。"


class MissingKey(AgentError):
    """The environment variable that should hold a provider's key is not set, or empty."""

    code = "missing_api_key"
    kind = Kind.INVALID
    english = "Model {name} ({provider}) takes its key from the environment variable {variable}, which is not set."
    chinese = "模型 {name}（{provider}）从环境变量 {variable} 读取密钥，但该变量没有设置。"


class MissingExtra(AgentError):
    """A provider needs a package that is not installed."""

    code = "missing_extra"
    kind = Kind.INVALID
    english = "{provider} needs a package that is not installed; install modular-agent[{extra}]{hint}."
    chinese = "{provider} 需要的软件包没有安装；请安装 modular-agent[{extra}]{hint}。"


class InvalidModelSettings(AgentError):
    """A model's configuration cannot be used; `detail` says what is wrong with it."""

    code = "invalid_model"
    kind = Kind.INVALID
    english = "Model {name}: {detail}."
    chinese = "模型 {name} 的配置无效：{detail}。"


class InvalidScript(InvalidInput):
    """A script of the scripted model cannot be used; `faults` say where and why."""

    code = "invalid_script"
    english = "The script has {count} fault(s)."
    chinese = "脚本有 {count} 处错误。"


class InvalidPrices(InvalidInput):
    """A price file cannot be used; `faults` say where and why."""

    code = "invalid_prices"
    english = "The price file has {count} fault(s)."
    chinese = "价格文件有 {count} 处错误。"

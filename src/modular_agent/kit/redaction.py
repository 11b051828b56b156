"""Secrets taken out of texts and values before they leave the process: logs, error answers, exports."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, cast

__all__ = ["MASK", "Redactor", "is_secret_name", "secrets_of"]

MASK: Final = "***"
MINIMUM_SECRET_LENGTH: Final = 6  # a shorter value would blank ordinary words

_NAMES: Final = frozenset(
    {
        "apikey", "authorization", "authtoken", "clientsecret", "cookie", "credentials", "passphrase", "passwd",
        "password", "privatekey", "proxyauthorization", "pwd", "secret", "secretkey", "setcookie", "token",
        "xapikey", "xauthtoken",
    }
)  # fmt: skip
_SUFFIXES: Final = (
    "api_key", "_secret", "_password", "_token", "secret_key", "private_key", "access_key", "_credentials",
)  # fmt: skip

# Each alternative keeps what tells a reader which kind of secret stood there (group "keep", where there is one).
_PATTERNS: Final = re.compile(
    r"""
      (?P<scheme>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}                             # HTTP credentials
    | (?P<query>[?&](?:(?:access_|auth_)?token|api_?key|key|ticket|secret|password)=)[^\s"'&#]+   # in a query string
    | (?P<pair>["']?\b(?:[\w-]*api[_-]?key|[\w-]*secret(?:[_-]key)?|(?:[\w-]+[_-])?token|passw(?:or)?d|authorization)
        ["']?\s*[=:]\s*["']?)(?!(?:Bearer|Basic)\s)[^\s"'&,;<>(){}\[\]]{6,}                # name=value, "name": "value"
    | (?P<user>://[^\s/:@]*:)[^\s/@]+(?=@)                                                # password in a URL
    | \bmak_[0-9a-f]{8}_[A-Za-z0-9_-]{16,}                                                # this product's API keys
    | \bsk-[A-Za-z0-9_-]{8,}                                                              # OpenAI, Anthropic, DeepSeek
    | \bAIza[A-Za-z0-9_-]{30,}                                                            # Google
    | \b(?:ghp|gho|ghs|ghu|glpat|xox[abprs]|hf|gsk|tvly|pplx)[_-][A-Za-z0-9_-]{16,}       # other well-known prefixes
    | \bAKIA[A-Z0-9]{16}\b                                                                # AWS
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*                           # JSON Web Token
    """,
    re.VERBOSE | re.IGNORECASE,
)
# What matches has one of these in it and is no shorter: looking for them costs a hundredth of what the pattern does.
_HINTS: Final = (
    "bearer", "basic", "key", "secret", "token", "passw", "authoriz", "://", "mak_", "sk-", "aiza", "akia", "eyj",
    "ghp", "gho", "ghs", "ghu", "glpat", "xox", "hf_", "hf-", "gsk", "tvly", "pplx",
)  # fmt: skip
_SHORTEST: Final = 6


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Whether a field, header or variable of this name holds a secret (`api_key` does, `total_tokens` does not)."""
    lower = name.lower().replace("-", "_")
    return lower.replace("_", "") in _NAMES or lower.endswith(_SUFFIXES)


def secrets_of(environment: Mapping[str, str]) -> frozenset[str]:
    """The values of variables whose names say that they are secret, such as `OPENAI_API_KEY`."""
    return frozenset(
        value
        for name, value in environment.items()
        if len(value) >= MINIMUM_SECRET_LENGTH and (is_secret_name(name) or name.upper().endswith("_KEY"))
    )


class Redactor:
    """Replaces secrets by `***`: the given values wherever they stand, and whatever looks like a credential."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # A longer one first, because it may contain another.
        self._known = sorted({s for s in secrets if len(s) >= MINIMUM_SECRET_LENGTH}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """`text` without secrets."""
        if len(text) < _SHORTEST:
            return text
        for secret in self._known:
            if secret in text:
                text = text.replace(secret, MASK)
        return _PATTERNS.sub(_mask, text) if _may_match(text) else text

    def value(self, value: Any) -> Any:  # any JSON value, or what a log call was given
        """A copy of `value` without secrets: texts cleaned, values under secret names replaced, other types kept."""
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, (int, float)):
            return value
        if isinstance(value, Mapping):
            return self.mapping(cast(Mapping[Any, Any], value))
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.value(item) for item in cast(Iterable[Any], value)]
        return value

    def mapping(self, values: Mapping[Any, Any]) -> dict[Any, Any]:
        """As `value`, for a mapping."""
        return {
            key: MASK if item and isinstance(key, str) and is_secret_name(key) else self.value(item)
            for key, item in values.items()
        }


def _may_match(text: str) -> bool:
    if not text.isascii():
        return True  # letters beyond ASCII count as their likes within it
    lower = text.lower()
    for hint in _HINTS:  # noqa: SIM110 - any() costs as much as all of these
        if hint in lower:
            return True
    return False


def _mask(found: re.Match[str]) -> str:
    return (found["scheme"] or found["query"] or found["pair"] or found["user"] or "") + MASK

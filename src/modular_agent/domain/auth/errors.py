"""What can be wrong with a key, and with a request that presents one."""

from modular_agent.errors import AgentError, Kind

__all__ = ["ApiKeyInvalid", "ApiKeyUnknown", "KeyNotForKeys"]


class ApiKeyInvalid(AgentError):
    """A request presents a key that does not exist or was revoked; which of the two is nobody's business."""

    code = "api_key_invalid"
    kind = Kind.UNAUTHENTICATED
    english = "The API key is not valid: it is unknown, or it was revoked."
    chinese = "API 密钥无效：该密钥不存在或已被撤销。"


class ApiKeyUnknown(AgentError):
    """No key has that id."""

    code = "api_key_not_found"
    kind = Kind.NOT_FOUND
    english = "There is no API key {key_id}."
    chinese = "没有 API 密钥 {key_id}。"


class KeyNotForKeys(AgentError):
    """A request with a key asks for what could lift that key's own bounds; `what` is a route, value or budget."""

    code = "not_with_a_key"
    kind = Kind.FORBIDDEN
    english = "A request with an API key may not change {what}, which may bound the key itself."
    chinese = "使用 API 密钥的请求不得更改 {what}，因为它可能约束该密钥本身。"

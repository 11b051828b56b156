"""Who asks: API keys. A key says to whom a run is charged and what it may use; it does not say who may do what."""

from modular_agent.domain.auth.errors import ApiKeyInvalid, ApiKeyUnknown, KeyNotForKeys
from modular_agent.domain.auth.keys import ApiKeys, checked_key_limits, key_view

__all__ = ["ApiKeyInvalid", "ApiKeyUnknown", "ApiKeys", "KeyNotForKeys", "checked_key_limits", "key_view"]

"""What can be wrong with a request about configuration."""

from modular_agent.errors import AgentError, InvalidInput, Kind

__all__ = ["ConfigKeyFixed", "ConfigKeyUnknown", "ConfigValueInvalid"]


class ConfigKeyUnknown(AgentError):
    """No value has that key."""

    code = "config_key_not_found"
    kind = Kind.NOT_FOUND
    english = "There is no configuration value {key}."
    chinese = "没有配置项 {key}。"


class ConfigKeyFixed(AgentError):
    """The value is taken from the environment at the start and cannot change while the server runs."""

    code = "config_key_fixed"
    kind = Kind.CONFLICT
    english = "{key} cannot change while the server runs: set {variable} and start it again."
    chinese = "服务器运行时不能更改 {key}：请设置 {variable} 并重新启动。"


class ConfigValueInvalid(InvalidInput):
    """A value that the key does not take, with the place of each fault."""

    code = "config_value_invalid"
    english = "The configuration value cannot be used: {count} fault(s)."
    chinese = "该配置值无法使用：有 {count} 处错误。"

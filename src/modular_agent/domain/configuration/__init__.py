"""Configuration: values that count, models and agents below the configs root."""

from modular_agent.domain.configuration.errors import ConfigKeyFixed, ConfigKeyUnknown, ConfigValueInvalid
from modular_agent.domain.configuration.folder import ConfiguredFolder
from modular_agent.domain.configuration.service import ConfigType, ConfigurationService
from modular_agent.domain.configuration.values import LiveValues, ProcessValue

__all__ = [
    "ConfigKeyFixed",
    "ConfigKeyUnknown",
    "ConfigType",
    "ConfigValueInvalid",
    "ConfigurationService",
    "ConfiguredFolder",
    "LiveValues",
    "ProcessValue",
]

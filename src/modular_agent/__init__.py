"""Modular Agent: durable sessions for AI-agent workflows."""

from modular_agent.kit.bytecode import keep_whole

__all__ = ["__version__"]

__version__ = "0.1.0"

keep_whole()  # here, because every process that runs any of this comes by

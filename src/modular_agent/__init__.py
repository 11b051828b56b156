"""Modular Agent: durable sessions for AI-agent workflows."""

__all__ = ["__version__"]

__version__ = "0.1.0"

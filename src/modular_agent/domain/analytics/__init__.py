"""Analytics: how the process and its runs perform."""

from modular_agent.domain.analytics.live import LiveFigures

__all__ = ["LiveFigures"]

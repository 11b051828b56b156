"""Durations, tokens and money as a person reads them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modular_agent.cli.terminal import Terminal

__all__ = ["Spent", "duration", "money"]


def duration(seconds: float) -> str:
    """`0.4 ms`, `12 ms`, `3.2 s`, `4 min 05 s`."""
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def money(usd: float) -> str:
    """Dollars, with as many digits as small amounts need."""
    return f"${usd:.2f}" if usd >= 1 else f"${usd:.6f}".rstrip("0").ljust(5, "0")


@dataclass(slots=True, kw_only=True)
class Spent:
    """Tokens and money. What has no known price is `unpriced`, and never counts as free."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    unpriced_tokens: int = 0
    cost_usd: float = 0.0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def cost(self, terminal: "Terminal") -> str:
        """What it cost, as far as it is known; empty when nothing was used."""
        if not self.tokens:
            return ""
        unpriced = terminal.text("{n} tokens unpriced", "{n} 个令牌无定价", n=f"{self.unpriced_tokens:,}")
        if not self.unpriced_tokens:
            return money(self.cost_usd)
        if self.unpriced_tokens >= self.tokens:
            return terminal.text("cost unpriced", "费用未定价")
        return f"{money(self.cost_usd)} + {unpriced}"

    def shown(self, terminal: "Terminal") -> str:
        """Tokens and cost in one phrase; empty when no model was asked."""
        if not self.tokens:
            return ""
        tokens = terminal.text(
            "{all} tokens ({prompt} in, {completion} out)",
            "{all} 个令牌（输入 {prompt}，输出 {completion}）",
            all=f"{self.tokens:,}",
            prompt=f"{self.prompt_tokens:,}",
            completion=f"{self.completion_tokens:,}",
        )
        return f"{tokens}{terminal.text(', ', '，')}{self.cost(terminal)}"

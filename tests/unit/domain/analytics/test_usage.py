"""What a cost of partly unknown prices is."""

import pytest

from modular_agent.domain.analytics.usage import dollars


@pytest.mark.parametrize(
    ("nano", "tokens", "unpriced", "cost"),
    [
        (0, 0, 0, 0.0),
        (0, 10, 10, None),  # nobody knows: not free
        (500_000_000, 20, 10, 0.5),
        (500_000_000, 10, 10, 0.5),  # a provider told the cost of a call, and not its tokens
    ],
)
def test_only_what_has_no_price_at_all_has_no_cost(nano: int, tokens: int, unpriced: int, cost: float | None) -> None:
    assert dollars(nano, tokens=tokens, unpriced=unpriced) == cost

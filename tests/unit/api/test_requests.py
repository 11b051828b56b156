import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modular_agent.api.requests import nests_deeper

VALUES = st.recursive(
    st.none() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=200,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


@given(VALUES, st.integers(1, 12))
def test_the_limit_is_exact_whatever_the_strings_hold(value: Any, limit: int) -> None:
    for ascii_only in (True, False):
        assert nests_deeper(json.dumps(value, ensure_ascii=ascii_only).encode(), limit) == (depth(value) > limit)


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b'\\"' * 500_000,
        b"[" * 1_000_000,
        b"]" * 1_000_000,
        b"[}" * 500_000,
        b"[]," * 300_000,
        b'{"a":' * 200_000,
        b"\\" * 1_000_000,
    ],
)
def test_a_hostile_body_costs_little(body: bytes) -> None:
    started = time.process_time()
    nests_deeper(body, 64)
    assert time.process_time() - started < 0.5

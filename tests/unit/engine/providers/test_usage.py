"""Usage means the same whoever reports it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modular_agent.engine.providers.openai_stream import read_usage
from modular_agent.engine.providers.port import Usage
from modular_agent.engine.providers.tokens import estimate_tokens


def test_openai() -> None:
    usage = read_usage(
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 30},
        },
        thoughts_apart=False,
    )
    assert usage == Usage(prompt_tokens=100, completion_tokens=50, cached_tokens=64, reasoning_tokens=30)


def test_deepseek_tells_cache_hits_beside_the_prompt() -> None:
    raw = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 2}
    assert read_usage(raw, thoughts_apart=False) == Usage(prompt_tokens=10, completion_tokens=5, cached_tokens=8)


def test_gemini_leaves_thoughts_out_of_the_completion() -> None:
    raw = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115}
    assert read_usage(raw, thoughts_apart=True) == Usage(prompt_tokens=10, completion_tokens=105, reasoning_tokens=100)


def test_reasoning_beside_the_completion_is_known_by_the_total() -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 100}}
    raw = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115, **details}
    assert read_usage(raw, thoughts_apart=False) == Usage(prompt_tokens=10, completion_tokens=105, reasoning_tokens=100)


def test_a_total_that_does_not_add_up_is_otherwise_ignored() -> None:
    raw = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 99}
    assert read_usage(raw, thoughts_apart=False) == Usage(prompt_tokens=10, completion_tokens=5)


@pytest.mark.parametrize(
    ("cost", "text"), [(0.0000125, "0.0000125"), ("1e-7", "0.0000001"), (None, None), (-1, None), ("x", None)]
)
def test_a_reported_cost_is_decimal_text(cost: object, text: str | None) -> None:
    usage = read_usage({"prompt_tokens": 1, "completion_tokens": 1, "cost": cost}, thoughts_apart=False)
    assert usage is not None
    assert usage.cost_usd == text


counts = st.one_of(st.none(), st.integers(min_value=-5, max_value=200), st.text(max_size=2))


@settings(deadline=None)  # the machine may be busy
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": counts,
            "completion_tokens": counts,
            "total_tokens": counts,
            "prompt_cache_hit_tokens": counts,
            "prompt_tokens_details": st.one_of(
                st.none(), st.fixed_dictionaries({}, optional={"cached_tokens": counts})
            ),
            "completion_tokens_details": st.one_of(
                st.none(), st.fixed_dictionaries({}, optional={"reasoning_tokens": counts})
            ),
        },
    ),
    st.booleans(),
)
def test_no_report_however_wrong_breaks_the_call(raw: dict, apart: bool) -> None:
    usage = read_usage(raw, thoughts_apart=apart)
    assert usage is None or usage.cached_tokens <= usage.prompt_tokens


@settings(deadline=None)  # the machine may be busy
@given(st.text(), st.text())
def test_an_estimate_grows_with_the_text(one: str, more: str) -> None:
    assert estimate_tokens("") == 0
    assert estimate_tokens(one) <= estimate_tokens(one + more)


def test_chinese_counts_a_token_a_character() -> None:
    assert estimate_tokens("你好世界") == 4
    assert estimate_tokens("hello world!") == 3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modular_agent.api.language import negotiate


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("zh", "zh"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("zh-Hant-TW", "zh"),
        ("en-GB,zh;q=0.9", "en"),
        ("en;q=0.5, zh;q=0.6", "zh"),
        ("fr, de", "en"),
        ("fr, zh;q=0.1", "zh"),
        ("zh;q=0", "en"),
        ("*, zh;q=0.5", "en"),
        ("zh, *;q=0.5", "zh"),
        ("ZH; Q=0.7, en;q=0.6", "zh"),
        ("zh;q=much, en;q=0.1", "en"),
        ("zh;q=nan", "en"),
        ("zho, english", "en"),
    ],
)
def test_the_language_with_the_higher_quality_wins(header: str | None, language: str) -> None:
    assert negotiate(header) == language


@given(st.text())
def test_no_header_breaks_it(header: str) -> None:
    assert negotiate(header) in ("en", "zh")

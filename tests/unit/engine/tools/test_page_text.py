from hypothesis import given, settings
from hypothesis import strategies as st

from modular_agent.engine.tools.builtin.page_text import page_text


def test_a_page_is_reduced_to_what_a_reader_sees() -> None:
    html = """<!doctype html><html><head><title>The title</title><style>p{color:red}</style>
    <script>alert("<p>no</p>")</script></head><body>
    <nav><a href="/home">Home</a></nav>
    <h1>Big   news</h1><p>One &amp; <b>two</b>,
    three<br>four.</p><ul><li>first</li><li><a href="https://example.org/x">second</a></li></ul>
    <table><tr><th>a</th><td>b</td></tr></table><pre>def f():
    return 1</pre><a href="javascript:x()">click</a></body></html>"""
    text = page_text(html, url="https://example.com/dir/page")
    assert text.startswith("The title")
    assert "# Big news" in text
    assert "One & two, three\nfour." in text
    assert "- first\n- [second](https://example.org/x)" in text
    assert "[Home](https://example.com/home)" in text
    assert "def f():\n    return 1" in text
    assert "| a | b" in text
    assert "click" in text
    for hidden in ("alert", "color", "javascript", "\n\n\n"):
        assert hidden not in text


def test_markup_that_does_not_end_is_bearable() -> None:
    assert page_text("<p>a<script>x") == "a"
    assert page_text("<svg><path>x</svg>after") == "after"
    assert page_text("</p></a>text<a href='x'>") == "text"


@settings(deadline=None)
@given(st.text(alphabet="<>/ab\"'= \n&;!-", max_size=200))
def test_any_text_is_bearable(html: str) -> None:
    assert "<script" not in page_text(html)

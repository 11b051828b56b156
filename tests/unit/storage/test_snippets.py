from hypothesis import given
from hypothesis import strategies as st

from modular_agent.storage.grams import fold, grams_of, match_of
from modular_agent.storage.snippets import snippet_of


def matches(text: str, query: str) -> list[str]:
    return [piece.text for piece in snippet_of(text, fold(query)).fragments if piece.match]


def test_every_occurrence_near_the_first_is_marked() -> None:
    assert matches("Foo and FOO and foo", "foo") == ["Foo", "FOO", "foo"]
    assert matches("ﬁne print", "fi") == ["ﬁ"]
    assert matches("ＡＢＣ", "b") == ["Ｂ"]


def test_a_long_text_is_cut_around_the_match() -> None:
    snippet = snippet_of("x" * 500 + " here " + "y" * 5000, "here")
    text = snippet.text()
    assert text.startswith("…x")
    assert text.endswith("y…")
    assert "here" in text
    assert len(text) < 300


def test_a_match_deep_in_a_long_line_is_found() -> None:
    for filler in ("x", "字"):
        snippet = snippet_of(filler * 60_000 + "天气" + filler * 60_000, "天气")
        assert [piece.text for piece in snippet.fragments if piece.match] == ["天气"]


def test_html_is_escaped() -> None:
    html = snippet_of("<script>alert('x')</script>", "alert").html()
    assert html == "&lt;script&gt;<mark>alert</mark>(&#x27;x&#x27;)&lt;/script&gt;"


def test_without_certain_places_nothing_is_marked() -> None:
    snippet = snippet_of("ｶﾞ and e\u0301", "and")  # half-width kana fold together with their marks
    assert not any(piece.match for piece in snippet.fragments)
    assert snippet.text() == "ｶﾞ and e\u0301"


TEXTS = st.text(st.sampled_from([*"ab AB", *"天气的", *"Ａﬁßİ😀\n<&", "\u0301"]), max_size=30)


@given(before=TEXTS, inner=TEXTS.filter(bool), after=TEXTS)
def test_a_snippet_is_a_part_of_its_text_and_marks_what_was_sought(before: str, inner: str, after: str) -> None:
    text, wanted = before + inner + after, fold(inner)
    if wanted not in fold(text):
        return
    snippet = snippet_of(text, wanted)
    assert snippet.text().strip("…") in text
    for piece in snippet.fragments:
        assert not piece.match or wanted in fold(piece.text)


@given(before=TEXTS, inner=TEXTS, after=TEXTS)
def test_a_text_has_the_grams_of_all_its_parts(before: str, inner: str, after: str) -> None:
    folded, wanted = fold(before + inner + after), fold(inner)
    match = match_of(wanted)
    if wanted not in folded or match is None:
        return
    grams = grams_of(folded)
    for term in match.split(" AND "):
        assert any(gram.strip('"') in grams for gram in term.strip("()").split(" OR "))

import json
import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modular_agent.engine.place import KeyPath
from modular_agent.engine.spec.compose import MAX_DEPTH
from modular_agent.engine.spec.document import Document, read_document
from modular_agent.engine.spec.errors import WorkflowInvalid

KEYS = st.text(string.ascii_letters + "äé你_-", min_size=1, max_size=6)
TEXTS = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\x85\u2028\u2029\ufeff"), max_size=12
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
TREES = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
    ),
    max_size=4,
)


def paths(value: object, path: KeyPath = ()) -> list[tuple[KeyPath, object]]:
    found: list[tuple[KeyPath, object]] = [(path, value)]
    if isinstance(value, dict):
        for key, item in value.items():
            found += paths(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += paths(item, (*path, index))
    return found


def rest(document: Document, path: KeyPath, *, key: bool = False, offset: int | None = None) -> str:
    place = document.place(path, key=key, offset=offset)
    assert place.line is not None
    assert place.column is not None
    return document.text.split("\n")[place.line - 1][place.column - 1 :]


def faults(text: str) -> list[str]:
    try:
        document = read_document(text, environment={})
    except WorkflowInvalid as error:
        return [fault.code for fault in error.faults]
    return [fault.code for fault in document.faults]


@given(TREES)
def test_json_text_gives_the_data_it_stands_for(tree: dict[str, object]) -> None:
    for text in (json.dumps(tree), json.dumps(tree, indent="\t", ensure_ascii=False)):
        assert read_document(text).data() == tree


@given(TREES)
def test_every_value_and_key_of_json_is_found_where_it_stands(tree: dict[str, object]) -> None:
    document = read_document(json.dumps(tree, indent=1))
    decoder = json.JSONDecoder()
    for path, value in paths(tree):
        assert decoder.raw_decode(json_from(document, path))[0] == value
        if path and isinstance(path[-1], str):
            assert decoder.raw_decode(rest(document, path, key=True))[0] == path[-1]


def json_from(document: Document, path: KeyPath) -> str:
    place = document.place(path)
    assert place.line is not None
    lines = document.text.split("\n")[place.line - 1 :]
    lines[0] = rest(document, path)
    return "\n".join(lines)


@given(TREES)
def test_block_yaml_gives_the_data_it_stands_for(tree: dict[str, object]) -> None:
    text = yaml.safe_dump(tree, allow_unicode=True, default_style='"', sort_keys=False)
    assert read_document(text).data() == json.loads(json.dumps(tree))


def test_words_of_yaml_1_1_stay_text() -> None:
    text = "{on: yes, off: no, y: n, time: 12:30, date: 2030-01-31, octal: 0o17, old_octal: 017, hex: 0x1F, big: 1_000}"
    assert read_document(text).data() == {
        "on": "yes",
        "off": "no",
        "y": "n",
        "time": "12:30",
        "date": "2030-01-31",
        "octal": 15,
        "old_octal": 17,
        "hex": 31,
        "big": "1_000",
    }


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("False", False), ("~", None), ("1e3", 1000.0), ("-.5", -0.5)]
)
def test_plain_scalars_follow_the_core_schema(text: str, value: object) -> None:
    assert read_document(f"a: {text}").data() == {"a": value}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: .inf", "bad_number"),
        ("a: 9223372036854775808", "bad_number"),
        ("a: " + "9" * 5000, "bad_number"),
        ("a: 1e999", "bad_number"),
        ("a: !!int x", "bad_tag"),
        ("a: !mine x", "unsupported_tag"),
        ("a: {<<: 3}", "bad_merge"),
        ("? [a]\n: b", "key_not_text"),
        ("~: b", "key_not_text"),
        ("a: \x07", "yaml_syntax"),
        ("a: 'never closed", "yaml_syntax"),
        ("a: *nobody", "unknown_alias"),
        ("- " * (MAX_DEPTH + 1) + "a", "too_deep"),
        ("[" * 100_000, "too_deep"),
        ("a: [" + "x," * 200_000 + "]", "too_many_values"),
        ("#" * 1_000_001, "file_too_large"),
    ],
)
def test_what_cannot_be_used_has_a_code(text: str, code: str) -> None:
    assert faults(text) == [code]


def test_aliases_that_nest_deeper_than_the_text_are_refused() -> None:
    chain = "\n".join(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, MAX_DEPTH + 2))
    assert faults(f"a0: &a0 [x]\n{chain}") == ["too_deep"]


def test_a_merge_gives_what_the_mapping_does_not_say_itself() -> None:
    text = "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\nboth: {y: 9, <<: [*b, *m]}"
    assert read_document(text).data()["both"] == {"y": 9, "x": 1, "z": 4}


def test_an_alias_is_a_copy_of_its_own() -> None:
    data = read_document("a: &x [1]\nb: *x").data()
    data["a"].append(2)
    assert data["b"] == [1]


def test_a_path_that_is_not_there_is_placed_at_the_nearest_above() -> None:
    document = read_document("a:\n  b: 1\n")
    assert (document.place(("a", "c", "d")).line, document.place(("a", "c")).column) == (2, 3)


def test_columns_count_characters_not_bytes() -> None:
    assert rest(read_document('{"你好": "😀", "x": 1}'), ("x",), key=True) == '"x": 1}'


def test_a_pair_of_json_escapes_is_one_character_and_moves_nothing() -> None:
    text = r'{"a": "\ud83d\ude00", "b": "\\ud83d", "c": ["\uD83D\uDE00\ud83d\ude00", 7]}'
    document = read_document(text)
    assert document.data() == {"a": "😀", "b": r"\ud83d", "c": ["😀😀", 7]}
    assert rest(document, ("c", 1)) == "7]}"
    assert rest(document, ("b",), key=True).startswith('"b"')


@pytest.mark.parametrize(
    "text",
    [
        "a: one == MARK two",
        "a: 'it''s == MARK'",
        r'a: "\"x\" == \u4f60\n MARK"',
        "a: &anchor !!str 'x MARK'",
        "a: |\n  x &&\n    y == MARK\n",
        "a: >-\n  x\n  && y\n\n  MARK z",
        "a: x &&\n   MARK y",
        'a: "x \\\n     MARK y"',
        'a: "x\n\n     MARK y"',
        "a: |2\n    MARK\n",
        "a:\r\n  - |\r\n    x\r\n    MARK\r\n",
    ],
)
def test_a_place_inside_a_text_is_found_through_quotes_escapes_and_folds(text: str) -> None:
    document = read_document(text)
    path: KeyPath = ("a", 0) if "- |" in text else ("a",)
    value = document.data()["a"]
    value = value[0] if isinstance(value, list) else value
    assert rest(document, path, offset=value.index("MARK")).startswith("MARK")


@given(st.text(st.sampled_from("ab \"'\\\n你#:"), max_size=20), st.sampled_from(['"', "'", "|", ">", None]))
def test_a_place_inside_any_text_is_that_of_its_character(before: str, style: str | None) -> None:
    text = yaml.safe_dump({"k": f"{before}MARK"}, default_style=style, allow_unicode=True, width=15)
    document = read_document(text)
    value = document.data()["k"]
    if "MARK" in value and "MARK" in text:
        assert rest(document, ("k",), offset=value.index("MARK")).startswith("MARK")

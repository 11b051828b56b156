import json
from collections.abc import Iterator, Sequence
from typing import Any, overload

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from modular_agent.engine.expressions import (
    MAX_EXPRESSION,
    ConditionFailed,
    ExpressionFailed,
    ExpressionInvalid,
    Expressions,
)
from modular_agent.engine.place import Place

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture
def expressions() -> Expressions:
    return Expressions()


class LazyMessages(Sequence[dict[str, Any]]):
    """A long conversation that must not be walked through; `[-1]` and `len` are what it has."""

    def __init__(self, last: dict[str, Any]) -> None:
        self.last = last
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 1_000_000

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        assert isinstance(index, int)
        self.asked.append(index)
        return self.last

    def __iter__(self) -> Iterator[dict[str, Any]]:
        raise AssertionError("the conversation was walked through")


@pytest.mark.parametrize(
    ("text", "state", "expected"),
    [
        ("state.score < 0.5", {"score": 0}, True),
        ("state.score < 0.5", {"score": 0.7}, False),
        ("state['score'] == 1.0", {"score": 1}, True),
        ("has(state.score) && state.score > 1", {}, False),
        ("state.?score.orValue(0.0) > 1.0", {}, False),
        ("'score' in state", {"score": None}, True),
        ("state.score == null", {"score": None}, True),
        ("state.plan.steps.exists(step, step.done)", {"plan": {"steps": [{"done": False}, {"done": True}]}}, True),
        ("size('你好') == 2", {}, True),
        ("state.text.lowerAscii().contains('yes')", {"text": "YES!"}, True),
        ("math.greatest(state.a, 3) == 3", {"a": 1}, True),
        ("has_tool_calls", {"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]}, True),
        ("has_tool_calls", {"messages": [{"role": "assistant", "tool_calls": []}]}, False),
        ("has_tool_calls", {"messages": [{"role": "assistant", "content": "x"}]}, False),
        ("has_tool_calls", {"messages": [{"role": "tool", "tool_calls": [{"id": "1"}]}]}, False),
        ("has_tool_calls", {"messages": []}, False),
        ("has_tool_calls", {}, False),
        ("message_count == 2", {"messages": [{}, {}]}, True),
        ("last_message.content.contains('bye')", {"messages": [{"content": "bye"}]}, True),
        ("has(last_message.content)", {"messages": []}, False),
        ("state.messages.size() == 1", {"messages": [{"role": "user"}]}, True),
    ],
)
def test_conditions(expressions: Expressions, text: str, state: dict[str, Any], expected: bool) -> None:
    assert expressions.condition(text).evaluate(state) is expected
    assert expressions.condition(f"true && ({text})").evaluate(state) is expected  # by CEL, what needs none too


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("state.a.b.c == state['d']", {"a", "d"}),
        ("has(state.a) || 'b' in state || state.?c.hasValue() || state[?'d'].hasValue()", {"a", "b", "c", "d"}),
        ("[{'x': 1}].exists(state, state.x == 1) && state.y", {"y"}),
        ("state.list.all(x, x.state.z == state.limit)", {"list", "limit"}),
        ("cel.bind(s, state.a, s.b == state.c)", {"a", "c"}),
        ("{'k': state.a}['k'] == [state.b][0]", {"a", "b"}),
        ("state.a ? state.b : state.c", {"a", "b", "c"}),
        ("has_tool_calls && message_count > 1", set()),
    ],
)
def test_the_keys_that_an_expression_reads_are_known_at_once(
    expressions: Expressions, text: str, keys: set[str]
) -> None:
    assert expressions.condition(text).state_keys == keys


def test_only_the_named_keys_are_passed(expressions: Expressions) -> None:
    state = {"score": 1, "unusable": object()}
    assert expressions.condition("state.score == 1").evaluate(state) is True


def test_a_long_conversation_costs_nothing_unless_it_is_named(expressions: Expressions) -> None:
    messages = LazyMessages({"role": "assistant", "content": "done", "tool_calls": [{"id": "a"}]})
    state = {"messages": messages, "score": 1}
    text = "has_tool_calls && message_count == 1000000 && last_message.content == 'done' && state.score == 1"
    assert expressions.condition(text).evaluate(state) is True
    assert messages.asked == [999_999]
    assert expressions.condition("state.score == 1").evaluate(state) is True
    assert len(messages.asked) == 1


def test_a_conversation_that_is_named_is_passed_as_a_list(expressions: Expressions) -> None:
    class Few(LazyMessages):
        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Iterator[dict[str, Any]]:
            return iter([self.last, self.last])

    state = {"messages": Few({"role": "user"})}
    assert expressions.condition("state.messages.all(m, m.role == 'user')").evaluate(state) is True


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2", 3),
        ("3u", 3),
        ("[1, 'a', null, 1.5]", [1, "a", None, 1.5]),
        ("{'a': {'b': [true]}}", {"a": {"b": [True]}}),
        ("timestamp('2030-01-31T09:00:00+02:00')", "2030-01-31T07:00:00Z"),
        ("duration('90s')", 90.0),
        ("b'ab'", "YWI="),
        ("state.items.map(x, x * 2)", [2, 4]),
        ("input.amount + 1", 8),
    ],
)
def test_results_are_json(expressions: Expressions, text: str, value: object) -> None:
    expression = expressions.expression(text, variables=["input"])
    assert expression.evaluate({"items": [1, 2]}, extra={"input": {"amount": 7}}) == value


@given(JSON)
def test_any_json_passes_through_unchanged(value: object) -> None:
    expression = Expressions().expression("state.x")
    assume("\\u0000" not in json.dumps(value))
    assert expression.evaluate({"x": value}) == value


@pytest.mark.parametrize("value", ["a\0b", {"k": "a\0b"}, [{"a\0b": ["a\0b"]}]])
def test_a_nul_character_cuts_no_text(expressions: Expressions, value: object) -> None:
    expected = json.loads(json.dumps(value).replace("\\u0000", "\ufffd"))
    assert expressions.expression("state.x").evaluate({"x": value}) == expected


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "suggestion"),
    [
        ("stat.score > 1", 1, 1, "there is no variable or function 'stat'", "state"),
        ("'你好😀' == mesage_count", 1, 10, "there is no variable or function 'mesage_count'", "message_count"),
        ("state.a &&\n  foo(1)", 2, 3, "there is no variable or function 'foo'", None),
        ("state.a >", 1, 10, "the expression ends too early", None),
        ("'a' < 1", 1, 5, "found no matching overload for '_<_' applied to '(string, int)'", None),
        ("1 + 1", 1, 1, "a condition must be true or false; this gives int", None),
        ("state.?a", 1, 1, "this gives an optional value; end it with .orValue(...)", None),
        ("size(state) > 1", 1, 1, "name the keys of the state that are meant: state.KEY or state['KEY']", None),
        (
            "state[last_message.name] == 1",
            1,
            1,
            "name the keys of the state that are meant: state.KEY or state['KEY']",
            None,
        ),
    ],
)
def test_what_cannot_be_compiled_is_told_with_its_place(
    expressions: Expressions, text: str, line: int, column: int, message: str, suggestion: str | None
) -> None:
    with pytest.raises(ExpressionInvalid) as raised:
        expressions.condition(text)
    problem = raised.value.problems[0]
    assert (problem.line, problem.column, problem.text.english, problem.suggestion) == (
        line,
        column,
        message,
        suggestion,
    )


def test_every_problem_of_an_expression_is_told(expressions: Expressions) -> None:
    with pytest.raises(ExpressionInvalid) as raised:
        expressions.condition("foo > 1 && bar < 2")
    assert [problem.column for problem in raised.value.problems] == [1, 12]


@pytest.mark.parametrize("text", ["", "(" * 500, "1+" * 2000 + "1", "x" * (MAX_EXPRESSION + 1)])
def test_senseless_texts_are_refused(expressions: Expressions, text: str) -> None:
    with pytest.raises(ExpressionInvalid):
        expressions.expression(text)


def test_an_absent_key_fails_with_place_text_and_hint(expressions: Expressions) -> None:
    place = Place("workflows/x.yaml", 12, 40, "edges[2].when")
    with pytest.raises(ConditionFailed) as raised:
        expressions.condition("state.score < 0.5", place=place).evaluate({})
    assert raised.value.code == "condition_failed"
    text = str(raised.value)
    assert "workflows/x.yaml:12:40" in text
    assert "state.score < 0.5" in text
    assert "has(state.score) && ..." in text
    assert raised.value.message("zh").startswith("条件")


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("state.a > 1", {"a": "text"}),
        ("state.a == {'k': 1}.missing", {"a": 1}),
        ("1 / state.a == 1", {"a": 0}),
        ("state.a.matches('(')", {"a": "x"}),
        ("state.a", {"a": "neither"}),
        ("state.a", {"a": None}),
        ("dyn(state.?a)", {}),
        ("state.a == 1", {"a": object()}),
        ("state.a == 1", {"a": 2**70}),
        ("state.a == 'x'", {"a": "\ud800"}),
        ("input == 1", {}),
        ("[1,2,3,4,5,6,7,8,9,0].all(a, " * 7 + "true" + ")" * 7, {}),  # ten million rounds
    ],
)
def test_a_condition_that_cannot_be_evaluated_fails(expressions: Expressions, text: str, state: dict[str, Any]) -> None:
    condition = expressions.condition(text, variables=["input"])
    with pytest.raises(ConditionFailed):
        condition.evaluate(state)


@pytest.mark.parametrize("text", ["{1: 2}", "type(1)", "state.nothing"])
def test_an_expression_that_gives_no_json_fails(expressions: Expressions, text: str) -> None:
    with pytest.raises(ExpressionFailed) as raised:
        expressions.expression(text).evaluate({})
    assert raised.value.code == "expression_failed"


def test_the_type_of_the_result_is_told_where_it_is_known(expressions: Expressions) -> None:
    assert expressions.expression("[1]").result.startswith("list")
    assert expressions.expression("state.x").result == "dyn"

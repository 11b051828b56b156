import math
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modular_agent.engine.tools.builtin.arithmetic import ArithmeticFault, evaluate, written
from modular_agent.engine.tools.builtin.registry import build_builtin
from modular_agent.engine.tools.builtin.tool import Setup
from modular_agent.engine.tools.port import Effect, ToolContext
from modular_agent.kit.clock import SystemClock

NUMBERS = st.one_of(st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 6)))


def expressions() -> st.SearchStrategy[str]:
    leaves = NUMBERS.map(lambda number: f"({number!r})")
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(
                lambda t: f"({t[0]}{t[1]}{t[2]})"
            ),
            inner.map(lambda text: f"-{text}"),
            st.tuples(inner, st.integers(0, 3)).map(lambda t: f"({t[0]})**{t[1]}"),
        ),
        max_leaves=8,
    )


@settings(deadline=None)
@given(expressions())
def test_the_result_is_pythons_own(text: str) -> None:
    try:
        expected = eval(text, {"__builtins__": {}})
    except (ZeroDivisionError, OverflowError):
        with pytest.raises(ArithmeticFault):
            evaluate(text)
        return
    assume(not isinstance(expected, complex))
    if isinstance(expected, float) and not math.isfinite(expected):
        with pytest.raises(ArithmeticFault):
            evaluate(text)
        return
    value = evaluate(text)
    assert type(value) is type(expected)
    assert value == expected
    if isinstance(expected, int):
        assert written(value) == str(expected)
    else:
        assert math.isclose(float(written(value)), expected, rel_tol=1e-14)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_has_a_value_or_a_reason(text: str) -> None:
    try:
        value = evaluate(text)
    except ArithmeticFault:
        return
    assert isinstance(value, int | float)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("17 * 23", "391"),
        ("6 / 3", "2"),
        ("0.1 + 0.2", "0.3"),
        ("2 ** 100", str(2**100)),
        ("-7 // 2", "-4"),
        ("7 % 3", "1"),
        ("2 ** -1", "0.5"),
        ("sqrt(2)", "1.4142135623731"),
        ("round(2.567, 2)", "2.57"),
        ("max(1, 2, 3) + factorial(5)", "123"),
        ("comb(5, 2) * gcd(12, 18)", "60"),
        ("2 × 3 ÷ 4 − 1", "0.5"),
        ("pi", "3.14159265358979"),
        ("-0.0", "0"),
        ("1e21 + 1", "1e+21"),
    ],
)
def test_examples(text: str, result: str) -> None:
    answer = written(evaluate(text))
    assert answer == result or math.isclose(float(answer), float(result), rel_tol=1e-13)


@pytest.mark.parametrize(
    "text",
    [
        "9**9**9",
        "(10**4000)*(10**4000)",
        "2**13001",
        "factorial(100000)",
        "comb(10**9, 10**8)",
        "perm(9999, 9998)",
        "1+" * 2_000 + "1",
        "round(1.5, 10**9)",
        "round(1, -10**9)",
        "exp(10000)",
        "10.0**1000",
        "(" * 300 + "1" + ")" * 300,
        "-" * 900 + "1",
        "lcm(10**4000-1, 10**4000-3)",
        "pow(2, 10**9)",
    ],
)
def test_what_would_take_long_or_grow_is_refused_at_once(text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ArithmeticFault):
        evaluate(text)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__",
        "open('x')",
        "'a' * 9",
        "True + 1",
        "[1, 2]",
        "x := 3",
        "lambda: 1",
        "1 if 1 else 2",
        "2 ^ 3",
        "1, 2",
        "sqrt(-1)",
        "(-8) ** 0.5",
        "factorial(1.5)",
        "f(1)",
        "abs",
        "",
        "1 +",
        "1/0",
        "min()",
        "round(1, n=2)",
    ],
)
def test_what_is_not_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(ArithmeticFault):
        evaluate(text)


def test_a_long_sum_is_no_deep_one() -> None:
    numbers = range(1_000, 1_500)
    assert evaluate(" + ".join(map(str, numbers))) == sum(numbers)
    assert evaluate("100 - 10 - 5 * 2 * 3 - 2 ** 3 ** 2") == 100 - 10 - 5 * 2 * 3 - 2**3**2


async def test_the_tool_answers_and_refuses(context: ToolContext) -> None:
    tool = build_builtin("builtin.calculator", {}, Setup(name="calculator", root=context.files, clock=SystemClock()))
    assert tool.effect is Effect.READ
    assert (await tool.call({"expression": "17 * 23"}, context)).content == "391"
    refused = await tool.call({"expression": "2 ^ 3"}, context)
    assert not refused.success
    assert "**" in refused.content
    assert not (await tool.call({"expr": "1"}, context)).success

from hypothesis import given
from hypothesis import strategies as st

from modular_agent.engine.spec.graph import cycles

NAMES = [f"n{index}" for index in range(7)]
WAYS = st.fixed_dictionaries({name: st.lists(st.sampled_from(NAMES), unique=True) for name in NAMES})


def reached(ways: dict[str, list[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(ways[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += ways[name]
    return found


@given(WAYS)
def test_the_cycles_are_the_nodes_that_reach_each_other(ways: dict[str, list[str]]) -> None:
    reach = {name: reached(ways, name) for name in NAMES}
    expected: list[list[str]] = []
    for name in ways:
        part = [other for other in ways if other in reach[name] and name in reach[other]]
        if name in reach[name] and part[0] == name:
            expected.append(part)
    assert cycles(ways) == expected


def test_a_long_chain_needs_no_deep_stack() -> None:
    names = [str(index) for index in range(20_000)]
    ways = {name: [str(int(name) + 1)] for name in names[:-1]} | {names[-1]: ["0"]}
    assert len(cycles(ways)[0]) == 20_000

"""Workflows as chance has them: parallel branches, maps, sub-workflows, tools of each effect, people, waits, budgets.

What holds of all of them: they end, whatever a model that is told to `ROAM` does; every tool leaves a line in the
ledger with its label and key; every question can be answered by `answer_to`.
"""

import random
from collections.abc import Callable
from typing import Any

__all__ = ["INNER", "PRICES", "ROAM_TOOLS", "answer_to", "random_workflow"]

HEAD = """\
schema: modular-agent/v1
name: {name}
models:
  main: {{provider: openai, model: planned, base_url: "${{env.OPENAI_BASE_URL}}", timeout: 3s}}
  other: {{provider: openai, model: unpriced, base_url: "${{env.OPENAI_BASE_URL}}", timeout: 3s}}
tools:
  note: {{ref: "tools.traces:note", effect: idempotent}}
  look: {{ref: "tools.traces:look", effect: read}}
  pay: {{ref: "tools.traces:pay", effect: irreversible, approval: {approval}}}
state:
  schema:
    type: object
    properties:
      items: {{type: array}}
      found: {{type: array}}
      note: {{type: string}}
      approve: {{type: boolean}}
      left: {{type: string}}
      right: {{type: string}}
      inner: {{type: string}}
limits: {{{limits}}}
"""
PRICES = "models: {planned: {input: 2.5, output: 10}}\n"
INNER = HEAD.format(name="inner", approval="never", limits="max_iterations: 40") + (
    "nodes:\n  deep: {type: llm, model: main, tools: [note, look, pay]}\n  do: {type: tools}\n"
    "edges:\n  - {from: START, to: deep}\n  - {from: deep, to: do, when: has_tool_calls}\n"
    "  - {from: deep, to: END}\n  - {from: do, to: deep}\n"
)
# As the tools of the other workflows, with one that stands alone as a node.
ROAM_TOOLS = '''

def mark(label: str) -> str:
    """Marks that a branch has run."""
    time.sleep(0.02)
    return f"marked {label}"
'''

Block = tuple[list[str], list[str], str, str]  # nodes, edges, the first node, the last


def _loop(n: int, chance: random.Random) -> Block:
    tools = chance.choice(["[note, look, pay]", "[look, pay]", "[note]"])
    nodes = [f"think{n}: {{type: llm, model: main, tools: {tools}}}", f"act{n}: {{type: tools}}", _pass(f"over{n}")]
    edges = [
        f"{{from: think{n}, to: act{n}, when: has_tool_calls}}",
        f"{{from: think{n}, to: over{n}}}",
        f"{{from: act{n}, to: think{n}}}",
    ]
    return nodes, edges, f"think{n}", f"over{n}"


def _pass(name: str) -> str:
    return f'{name}: {{type: function, ref: "tools.traces:mark", input: {{label: "\'{name}\'"}}, writes: note}}'


def _agent(n: int, _: random.Random) -> Block:
    return [f"clerk{n}: {{type: agent, model: main, tools: [note, look, pay]}}"], [], f"clerk{n}", f"clerk{n}"


def _talk(n: int, _: random.Random) -> Block:
    return [f"say{n}: {{type: llm, model: other}}"], [], f"say{n}", f"say{n}"


def _person(n: int, _: random.Random) -> Block:
    node = f'ask{n}: {{type: human, question: "Good?", form: {{approve: {{type: boolean}}}}}}'
    return [node], [], f"ask{n}", f"ask{n}"


def _map(n: int, chance: random.Random) -> Block:
    node = (
        f"each{n}: {{type: map, over: state.items, as: item, writes: found, max_parallel: {chance.randint(1, 4)},"
        ' node: {type: llm, model: main, input: "{{ item }}"}}'
    )
    return [node], [], f"each{n}", f"each{n}"


def _inner(n: int, _: random.Random) -> Block:
    node = f"inner{n}: {{type: workflow, workflow: workflows/inner.yaml, writes: inner}}"
    return [node], [], f"inner{n}", f"inner{n}"


def _wait(n: int, chance: random.Random) -> Block:
    return [f"rest{n}: {{type: wait, duration: {chance.randint(10, 900)}ms}}"], [], f"rest{n}", f"rest{n}"


def _parallel(n: int, chance: random.Random) -> Block:
    branches = [
        f'left{n}: {{type: function, ref: "tools.traces:mark", input: {{label: "\'left\'"}}, writes: left}}',
        f'right{n}: {{type: function, ref: "tools.traces:mark", input: {{label: "\'right\'"}}, writes: right}}',
        # No map: it takes more steps than the others, and `join`, with what follows, would run once for each end.
        chance.choice([_inner(n, chance), _wait(n, chance)])[0][0],
    ]
    names = [branch.partition(":")[0] for branch in branches]
    nodes = [_pass(f"split{n}"), *branches, _pass(f"join{n}")]
    edges = [edge for name in names for edge in (f"{{from: split{n}, to: {name}}}", f"{{from: {name}, to: join{n}}}")]
    return nodes, edges, f"split{n}", f"join{n}"


BLOCKS: tuple[Callable[[int, random.Random], Block], ...] = (
    *(_loop, _loop, _agent, _talk, _person, _map, _inner, _wait, _parallel, _parallel),
)


def random_workflow(chance: random.Random, name: str) -> str:
    """The text of a workflow file: two to five blocks, one after the other."""
    limits = f"max_iterations: {chance.choice([2, 4, 40])}, on_exceed: pause"
    text = HEAD.format(name=name, approval=chance.choice(["never", "never", "always"]), limits=limits)
    nodes: list[str] = []
    edges: list[str] = []
    before = "START"
    for n in range(chance.randint(2, 5)):
        more, inside, first, last = chance.choice(BLOCKS)(n, chance)
        nodes += more
        edges += [f"{{from: {before}, to: {first}}}", *inside]
        before = last
    edges.append(f"{{from: {before}, to: END}}")
    return (
        text
        + "nodes:\n"
        + "".join(f"  {each}\n" for each in nodes)
        + "edges:\n"
        + "".join(f"  - {each}\n" for each in edges)
    )


def answer_to(question: dict[str, Any], chance: random.Random, *, done: bool = False) -> Any:
    """What a person answers; `done` says that the call in question has left its trace."""
    match question["kind"]:
        case "effect":
            return {"outcome": "done" if done else chance.choice(["not_done", "run_again"])}
        case "budget":
            return dict.fromkeys(question["form"]["properties"].keys() & {"max_iterations"}, 500)
        case _:
            return {"approve": chance.random() < 0.8}

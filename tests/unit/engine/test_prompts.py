import tracemalloc
from collections import UserDict
from datetime import UTC, datetime
from typing import Any

import pytest

from modular_agent.engine.place import Place
from modular_agent.engine.prompts import MAX_OUTPUT, PromptFailed, PromptInvalid, PromptSet

NOW = datetime(2030, 1, 31, 9, 0, tzinfo=UTC)
FILES = {
    "prompts/rules.md": "Rules for {{ name }}.",
    "prompts/all.md": "Top\n{% include 'prompts/rules.md' %}",
    "prompts/macros.j2": "{% macro shout(x) %}{{ x|upper }}!{% endmacro %}",
    "prompts/typo.md": "Line one\n{{ nmae }}",
    "prompts/deep.md": "1\n2\n{% include 'prompts/typo.md' %}",
    "prompts/a.md": "{% include 'prompts/b.md' %}",
    "prompts/b.md": "{% include 'prompts/a.md' %}",
}

DOUBLING = "{% set ns = namespace(x='aaaa') %}{% for i in range(60) %}GROW{% endfor %}"


def render(text: str, state: dict[str, Any] | None = None, *, file: str | None = None, **extra: Any) -> str:
    prompts = PromptSet(FILES.get)
    return prompts.prompt(text, file=file).render(state or {}, now=NOW, extra=extra)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello {{ name }}", "Hello Bo"),
        ("{{ state.name }} {{ state['name'] }}", "Bo Bo"),
        ("{{ state.items }} {{ items[0] }}", "[1, 2] 1"),
        ("{{ now.isoformat() }}", "2030-01-31T09:00:00+00:00"),
        ("{{ now.strftime('%Y') }}", "2030"),
        ("{{ input }}", "second"),
        ("{% if score is defined %}{{ score }}{% else %}none{% endif %}", "none"),
        ("{{ score | default('none') }}", "none"),
        ("{{ name ~ 1 ~ none }}", "Bo1None"),
        ("{{ html }} {{ {'a': '<é>'} | tojson }}", '<b>&</b> {"a":"<é>"}'),
        ("{{ [3, 1] | sort | join('-') }} {{ 'aXbX' | replace('X', '+') }}", "1-3 a+b+"),
        ("{% for i in range(3) %}{{ loop.index }}{% endfor %}", "123"),
        ("{% include 'prompts/all.md' %}", "Top\nRules for Bo."),
        ("{% from 'prompts/macros.j2' import shout %}{{ shout(name) }}", "BO!"),
        ("{{ 'a\nb' | indent(2) }}", "a\n  b"),
        ("{{ item.title }}", "T"),
    ],
)
def test_what_a_prompt_can_say(text: str, expected: str) -> None:
    state = {
        "name": "Bo",
        "items": [1, 2],
        "html": "<b>&</b>",
        "messages": [
            {"role": "user", "content": "first"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "sec"}, {"type": "image_url"}, {"type": "text", "text": "ond"}],
            },
            {"role": "assistant", "content": "answer"},
        ],
    }
    assert render(text, state, item={"title": "T"}) == expected


def test_input_is_empty_before_the_first_user_message() -> None:
    assert render("[{{ input }}]", {"messages": []}) == render("[{{ input }}]") == "[]"


def test_extras_win_over_the_state() -> None:
    assert render("{{ item }}", {"item": "state"}, item="extra") == "extra"


def test_any_mapping_can_be_the_state() -> None:
    prompt = PromptSet(FILES.get).prompt("{{ a }}{{ state.a }}")
    assert prompt.render(UserDict({"a": 1}), now=NOW) == "11"


def test_the_names_and_files_that_a_prompt_reads_are_known() -> None:
    prompt = PromptSet(FILES.get).prompt("{{ x }}{% set y = 1 %}{{ y }}{% include 'prompts/all.md' %}")
    assert prompt.names == {"x", "name"}
    assert prompt.includes == {"prompts/all.md", "prompts/rules.md"}


def test_an_absent_name_fails_with_place_and_likely_name() -> None:
    with pytest.raises(PromptFailed) as raised:
        render(FILES["prompts/deep.md"], {"name": "Bo"}, file="prompts/deep.md")
    error = raised.value
    assert (error.code, error.suggestion) == ("prompt_failed", "name")
    assert (error.place.file, error.place.line) == ("prompts/typo.md", 2)
    assert "'nmae' is undefined (did you mean 'name'?)" in str(error)


def test_an_inline_text_fails_at_its_line_in_the_workflow() -> None:
    prompt = PromptSet(FILES.get).prompt(
        "a\nb\n{{ nothing }}", place=Place("workflows/x.yaml", 10, 5, "nodes.a.prompt")
    )
    with pytest.raises(PromptFailed) as raised:
        prompt.render({}, now=NOW)
    assert raised.value.place == Place("workflows/x.yaml", 12, None, "nodes.a.prompt")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\n{{ x", 2),
        ("{% for x in y %}", 1),
        ("a\nb {{ x | upercase }}", 2),
        ("{% include name %}", 1),
        ("a\n{% include 'prompts/none.md' %}", 2),
        ("{% include ['prompts/none.md', 'prompts/all.md'] %}", 1),
        ("{% extends '../secret' %}", 1),
        ("{{ " + "(" * 3000 + ")" * 3000 + " }}", 1),
    ],
)
def test_what_cannot_be_compiled_is_told_with_its_line(text: str, line: int) -> None:
    with pytest.raises(PromptInvalid) as raised:
        PromptSet(FILES.get).prompt(text)
    assert raised.value.line == line


def test_an_unknown_filter_has_a_suggestion() -> None:
    with pytest.raises(PromptInvalid) as raised:
        PromptSet(FILES.get).prompt("{{ x | uper }}")
    assert raised.value.suggestion == "upper"


def test_a_file_cannot_include_itself() -> None:
    with pytest.raises(PromptInvalid, match="includes itself"):
        PromptSet(FILES.get).prompt(FILES["prompts/a.md"], file="prompts/a.md")


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ state.__class__ }}",
        "{{ now.__class__.__init__.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ names.append(1) }}",
        "{{ state.clear() }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ (names | map(attribute='__class__') | list)[0] }}",
        "{{ 1 / 0 }}",
        "{{ name() }}",
        "{{ names | tojson | tojson(indent='x') + 1 }}",
        "{{ nothing | tojson }}",
        "{{ name + 1 }}",
    ],
)
def test_the_sandbox_holds(text: str) -> None:
    with pytest.raises(PromptFailed):
        render(text, {"name": "Bo", "names": ["Bo"]})


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'a' * 100000000 }}",
        "{{ 100000000 * 'a' }}",
        "{{ [1] * 100000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ '%100000000d' % 1 }}",
        "{{ 'a'.center(100000000) }}",
        "{{ 'a'.ljust(100000000) }}",
        "{{ 'a'.replace('a', 'b') }}",
        "{{ '{:100000000}'.format(1) }}",
        "{% for i in range(100000000) %}{% endfor %}",
        "{% for i in range(1000) %}{% for j in range(1000) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=['a']) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        DOUBLING.replace("GROW", "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}"),
        DOUBLING.replace("GROW", "{% set ns.x = ns.x | replace('a', 'aa') %}"),
        DOUBLING.replace("GROW", "{% set ns.x = [ns.x, ns.x] | join %}"),
        DOUBLING.replace("GROW", "{% set ns.x = ('\"' ~ ns.x) | tojson %}"),
        DOUBLING.replace("GROW", "{% set ns.x = [ns.x, ns.x] %}") + "{{ ns.x }}",
        DOUBLING.replace("GROW", "{% set ns.x = {'a': ns.x, 'b': ns.x} %}") + "{{ ns.x | upper }}",
        DOUBLING.replace("GROW", "{% set ns.x = [ns.x, ns.x] %}") + "{{ 'a' ~ ns.x }}",
        "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        "{% for i in range(2000) %}{{ big }}{% endfor %}",
    ],
)
def test_no_prompt_grows_or_loops_without_bound(text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises((PromptFailed, PromptInvalid)):
            render(text, {"big": "b" * 1000})
        assert tracemalloc.get_traced_memory()[1] < 64_000_000
    finally:
        tracemalloc.stop()


def test_a_prompt_may_be_as_long_as_the_bound() -> None:
    assert len(render("{{ big }}", {"big": "b" * MAX_OUTPUT})) == MAX_OUTPUT

"""The scripted model says what its script says: always the same, at the speed and with the failures asked for."""

import asyncio

import orjson
import pytest
import yaml

from modular_agent.engine.providers import script as script_module
from modular_agent.engine.providers.errors import InvalidScript, ProviderError, ProviderErrorKind
from modular_agent.engine.providers.port import ChatRequest, FinishReason, ToolSchema, Usage
from modular_agent.engine.providers.script import parse_script
from modular_agent.engine.providers.scripted import ScriptedModel

CALCULATOR = ToolSchema(name="calculator", description="Calculates.", parameters={"type": "object"})


class Sleeps:
    """A sleep that only remembers."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        await asyncio.sleep(0)


def model(text: str, **more) -> ScriptedModel:
    return ScriptedModel(parse_script(yaml.safe_load(text), source="scripts/t.yaml"), source="scripts/t.yaml", **more)


def user(text: str, record: str = "rec_1") -> dict:
    return {"role": "user", "content": text, "id": record}


async def ask(scripted: ScriptedModel, *messages: dict, tools=(), timeout: float = 5.0, **parameters):
    pieces: list[tuple[str, str]] = []
    request = ChatRequest(messages=messages, tools=tools, parameters=parameters, timeout=timeout)
    completion = await scripted.complete(request, lambda channel, text: pieces.append((channel, text)))
    return completion, pieces


async def test_the_example_of_the_documentation_works() -> None:
    example = (script_module.__doc__ or "").split("```yaml\n")[1].split("```")[0]
    scripted = model(example, sleep=Sleeps())
    first, _ = await ask(scripted, user("What is 17 * 23?"), tools=[CALCULATOR])
    assert first.finish_reason is FinishReason.TOOL_CALLS
    (call,) = first.message["tool_calls"]
    assert call["function"] == {"name": "calculator", "arguments": '{"expression":"17 * 23"}'}
    result = {"role": "tool", "content": "391", "tool_call_id": call["id"]}
    second, pieces = await ask(scripted, user("What is 17 * 23?"), first.message, result, tools=[CALCULATOR])
    assert second.message["content"] == "The answer is 391."
    assert pieces == [("content", "The"), ("content", " answer"), ("content", " is"), ("content", " 391.")]
    third, _ = await ask(scripted, user("Hello"), tools=[CALCULATOR])
    assert third.message["content"] == "You said: Hello"
    assert third.model == "demo-1"
    assert third.usage.cost_usd is not None


async def test_the_first_turn_whose_conditions_all_hold_wins() -> None:
    scripted = model(
        """
        turns:
          - {when: {last_user: weather, system: pirate}, reply: Arr}
          - {when: {last_user: [WEATHER, 天气]}, reply: Sunny}
          - {when: {last_user: {equals: Hi}}, reply: Hello}
          - {when: {nth: [2, 3]}, reply: again}
          - {when: {schema: true}, json: {n: 1}}
        otherwise: {reply: "?"}
        """
    )
    pirate = {"role": "system", "content": "You are a PIRATE."}
    assert (await ask(scripted, user("weather?")))[0].message["content"] == "Sunny"
    assert (await ask(scripted, pirate, user("weather?")))[0].message["content"] == "Arr"
    assert (await ask(scripted, user("今天天气怎么样")))[0].message["content"] == "Sunny"
    assert (await ask(scripted, user("Hi")))[0].message["content"] == "Hello"
    answered = {"role": "assistant", "content": "x"}
    assert (await ask(scripted, user("a"), answered, user("b")))[0].message["content"] == "again"
    assert (await ask(scripted, user("a"), response_schema={"type": "object"}))[0].message["content"] == '{"n":1}'
    assert (await ask(scripted, user("Hi!")))[0].message["content"] == "?"


async def test_conditions_on_tools_and_calls_since_the_question() -> None:
    scripted = model(
        """
        turns:
          - {when: {tool: search, tool_result: nothing}, reply: "No luck with {{ tool_results | length }}"}
          - {when: {last_role: tool, nth_in_turn: 2}, reply: second}
          - {when: {has_tool: calculator}, reply: tooled}
        otherwise: {reply: plain}
        """
    )
    calls = [
        {"id": "a", "type": "function", "function": {"name": "calculator", "arguments": "{}"}},
        {"id": "b", "type": "function", "function": {"name": "search", "arguments": "{}"}},
    ]
    asked = {"role": "assistant", "content": None, "tool_calls": calls}
    results = [{"role": "tool", "content": text, "tool_call_id": name} for text, name in (("1", "a"), ("Nothing", "b"))]
    assert (await ask(scripted, user("x"), asked, *results))[0].message["content"] == "No luck with 2"
    results[1]["content"] = "found"
    assert (await ask(scripted, user("x"), asked, *results))[0].message["content"] == "second"
    assert (await ask(scripted, user("x"), tools=[CALCULATOR]))[0].message["content"] == "tooled"
    assert (await ask(scripted, user("x")))[0].message["content"] == "plain"


async def test_parallel_calls_keep_the_types_of_their_arguments() -> None:
    scripted = model(
        """
        turns:
          - reply: Calling.
            reasoning: Two things.
            tool_calls:
              - {name: add, arguments: {a: "{{ input | int }}", b: [1, "{{ nth }}"], note: "n={{ nth }}"}}
              - {name: broken, arguments: "{not json"}
        """
    )
    completion, pieces = await ask(scripted, user("41"))
    first, second = completion.message["tool_calls"]
    assert orjson.loads(first["function"]["arguments"]) == {"a": 41, "b": [1, 1], "note": "n=1"}
    assert second["function"]["arguments"] == "{not json"
    assert first["id"] != second["id"]
    assert completion.message["reasoning"] == "Two things."
    assert [channel for channel, _ in pieces] == ["reasoning", "reasoning", "content"]


async def test_another_process_gives_the_same_ids_and_another_question_other_ones() -> None:
    text = "turns: [{tool_calls: [{name: f}]}]"
    ids = [
        (await ask(model(text), *messages))[0].message["tool_calls"][0]["id"]
        for messages in (
            [user("a")],
            [user("a")],
            [user("a", "rec_2")],
            [user("a"), {"role": "assistant", "content": "x"}, user("a")],
        )
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


async def test_the_pace_is_the_scripts() -> None:
    sleeps = Sleeps()
    scripted = model(
        "{defaults: {delay: 2s, token_delay: 50ms}, turns: [{reply: abcdef, chunk: 2, token_delay: 0.1}]}", sleep=sleeps
    )
    _, pieces = await ask(scripted, user("x"))
    assert [text for _, text in pieces] == ["ab", "cd", "ef"]
    assert sleeps.taken == [2.0, 0.1, 0.1]


async def test_failures_are_counted_for_each_turn_and_model() -> None:
    text = """
    turns:
      - when: {last_user: limit}
        rate_limit: {retry_after: 1500ms, times: 1}
        reply: fine
      - fail: {kind: overloaded, status: 503, message: down, times: 2}
        reply: up
    """
    scripted = model(text)
    for _ in range(2):
        with pytest.raises(ProviderError) as caught:
            await ask(scripted, user("x"))
        assert (caught.value.reason, caught.value.status) == (ProviderErrorKind.OVERLOADED, 503)
    assert (await ask(scripted, user("x")))[0].message["content"] == "up"
    with pytest.raises(ProviderError) as caught:
        await ask(scripted, user("limit"))
    assert (caught.value.reason, caught.value.retry_after) == (ProviderErrorKind.RATE_LIMITED, 1.5)
    assert (await ask(scripted, user("limit")))[0].message["content"] == "fine"
    with pytest.raises(ProviderError):
        await ask(model(text), user("x"))


async def test_a_failure_in_the_middle_has_streamed_what_came_before() -> None:
    scripted = model("turns: [{reply: one two three, fail: {kind: connection, after_chunks: 2}}]")
    pieces: list[str] = []
    with pytest.raises(ProviderError):
        await scripted.complete(ChatRequest(messages=[user("x")]), lambda _, text: pieces.append(text))
    assert pieces == ["one", " two"]


async def test_a_hanging_turn_ends_by_cancellation_or_by_the_calls_timeout() -> None:
    scripted = model("turns: [{hang: true}]")
    task = asyncio.ensure_future(ask(scripted, user("x")))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProviderError) as caught:
        await ask(scripted, user("x"), timeout=0.01)
    assert caught.value.reason is ProviderErrorKind.TIMEOUT


async def test_usage_is_counted_or_told() -> None:
    counted, _ = await ask(model("turns: [{reply: hello there}]"), user("x"))
    again, _ = await ask(model("turns: [{reply: hello there}]"), user("x"))
    assert counted.usage == again.usage
    assert counted.usage.source == "provider"
    assert counted.usage.cost_usd is None
    told, _ = await ask(
        model(
            """
            prices: {input: 2, output: 8, cached: 0.5}
            turns: [{reply: hi, finish_reason: length,
                     usage: {prompt_tokens: 1000, completion_tokens: 100, cached_tokens: 400, reasoning_tokens: 10}}]
            """
        ),
        user("x"),
    )
    assert told.usage == Usage(
        prompt_tokens=1000, completion_tokens=100, cached_tokens=400, reasoning_tokens=10, cost_usd="0.0022"
    )
    assert told.finish_reason is FinishReason.LENGTH


async def test_a_recorded_run_is_replayed_by_the_number_of_answers_so_far() -> None:
    scripted = model(
        """
        recorded:
          - {role: assistant, content: null,
             tool_calls: [{id: call_9, type: function, function: {name: f, arguments: '{"x":1}'}}]}
          - record_type: llm_response
            model: gpt-recorded
            response: {role: assistant, content: Done.}
            finish_reason: stop
            token_usage: {prompt_tokens: 7, completion_tokens: 3, total_tokens: 10, source: provider}
          - Bye
        otherwise: {reply: live}
        """
    )
    first, _ = await ask(scripted, user("x"))
    assert first.message["tool_calls"][0]["id"] == "call_9"
    answered = [user("x"), first.message, {"role": "tool", "content": "1", "tool_call_id": "call_9"}]
    second, pieces = await ask(scripted, *answered)
    assert (second.message["content"], second.model, second.usage.total_tokens) == ("Done.", "gpt-recorded", 10)
    assert pieces == [("content", "Done.")]
    third, _ = await ask(scripted, *answered, second.message, user("y"))
    assert third.message["content"] == "Bye"
    fourth, _ = await ask(scripted, *answered, second.message, user("y"), third.message, user("z"))
    assert fourth.message["content"] == "live"


async def test_without_a_matching_turn_the_error_names_script_and_message() -> None:
    with pytest.raises(ProviderError) as caught:
        await ask(model("turns: [{when: {last_user: a}, reply: b}]"), user("tell me more"))
    assert "scripts/t.yaml" in str(caught.value)
    assert "tell me more" in str(caught.value)
    assert not caught.value.retryable


@pytest.mark.parametrize("reply", ["{{ nope }}", "{{ input.__class__.__mro__ }}", "{% if %}", "{{ 1 / 0 }}"])
async def test_a_template_that_fails_or_breaks_out_is_an_error(reply: str) -> None:
    for turn in ({"reply": reply}, {"json": {"a": reply}}):
        scripted = ScriptedModel(parse_script({"turns": [turn]}, source="s.yaml"), source="s.yaml")
        with pytest.raises(ProviderError) as caught:
            await ask(scripted, user("x"))
        assert "s.yaml" in str(caught.value)


async def test_what_the_user_writes_is_never_a_template() -> None:
    completion, _ = await ask(model('turns: [{reply: "{{ input }}"}]'), user("{{ 7 * 7 }}"))
    assert completion.message["content"] == "{{ 7 * 7 }}"


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("turns: [{reply: a, replay: b}]", "turns[0].replay", "unknown key 'replay'"),
        ("turns: [{reply: 5}]", "turns[0].reply", "valid string"),
        (
            "turns: [{when: {last_user: {regex: '('}}, reply: a}]",
            "turns[0].when.last_user[0].regex",
            "regular expression",
        ),
        ("turns: [{when: {last_user: {regex: a, equals: b}}, reply: a}]", "turns[0].when.last_user[0]", "exactly one"),
        ("turns: [{when: {nth: 0}, reply: a}]", "turns[0].when.nth[0]", "greater than or equal to 1"),
        ("turns: [{delay: soon, reply: a}]", "turns[0].delay", "a duration is"),
        ("turns: [{when: {last_user: a}}]", "turns[0]", "a turn needs one of"),
        ("turns: [{reply: a, json: b}]", "turns[0]", "not both"),
        ("turns: [{fail: {kind: melted}}]", "turns[0].fail.kind", "ProviderErrorKind"),
        (
            "turns: [{reply: a, usage: {prompt_tokens: 1, completion_tokens: 1, cached_tokens: 2}}]",
            "turns[0].usage",
            "more",
        ),
        ("name: empty", "", "needs turns"),
        ("[1]", "", "a script is a mapping"),
    ],
)
def test_faults_are_located(text: str, path: str, message: str) -> None:
    with pytest.raises(InvalidScript) as caught:
        model(text)
    (fault,) = caught.value.faults
    assert fault.path == path
    assert message in fault.text.english
    assert fault.file == "scripts/t.yaml"


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(InvalidScript) as caught:
        model("turns: [{reply: 1}, {reply: a, x: 1}]\notherwise: {replies: a}")
    assert len(caught.value.faults) >= 3


def test_the_condition_names_in_the_documentation_are_those_of_the_model() -> None:
    text = script_module.__doc__ or ""
    names = {field.alias or name for name, field in script_module.When.model_fields.items()}
    names |= {field.alias or name for name, field in script_module.Turn.model_fields.items()} - {"when"}
    assert {name for name in names if f"`{name}" not in text} == set()


def test_a_script_has_a_json_schema_that_takes_what_the_parser_takes() -> None:
    import jsonschema

    schema = script_module.Script.model_json_schema()
    example = yaml.safe_load((script_module.__doc__ or "").split("```yaml\n")[1].split("```")[0])
    jsonschema.validate(example, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"turns": [{"replay": "a"}]}, schema)

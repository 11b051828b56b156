"""Tool calls come in many kinds of pieces and always make the same calls."""

from hypothesis import given, settings
from hypothesis import strategies as st

from modular_agent.engine.providers.tool_calls import ToolCallAssembler


def assemble(*chunks: list, messages=()) -> list[tuple[str, str, str]]:
    assembler = ToolCallAssembler()
    for chunk in chunks:
        assembler.add(chunk)
    calls = assembler.finish(messages)
    return [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls]


def piece(index=None, call_id=None, name=None, arguments=None) -> dict:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    made = {"function": function}
    if index is not None:
        made["index"] = index
    if call_id is not None:
        made["id"] = call_id
    return made


def test_parallel_calls_are_told_apart_by_index() -> None:
    assert assemble(
        [piece(0, "a", "f", ""), piece(1, "b", "g", "")],
        [piece(1, arguments='{"y"')],
        [piece(0, arguments='{"x":1}'), piece(1, arguments=":2}")],
    ) == [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')]


def test_ids_and_names_repeated_in_every_piece_change_nothing() -> None:
    assert assemble([piece(0, "a", "f", '{"x"')], [piece(0, "a", "f", ":1}")]) == [("a", "f", '{"x":1}')]


def test_a_new_id_without_a_name_goes_on_with_the_same_call() -> None:
    assert assemble([piece(0, "a", "f", '{"x"')], [piece(0, "z", None, ":1}")]) == [("a", "f", '{"x":1}')]


def test_whole_calls_that_all_have_index_0_are_separate() -> None:
    assert assemble([piece(0, "a", "f", "{}")], [piece(0, "b", "g", "{}")]) == [("a", "f", "{}"), ("b", "g", "{}")]


def test_without_an_index_the_id_decides_and_then_the_order() -> None:
    assert assemble(
        [piece(None, "a", "f", '{"x"'), piece(None, "b", "g", "{")],
        [piece(None, "a", None, ":1}")],
        [piece(None, None, None, "}")],
    ) == [("a", "f", '{"x":1}'), ("b", "g", "{}")]


def test_missing_ids_are_made_and_differ() -> None:
    (first, *_), (second, *_) = assemble([piece(0, None, "f", "{}"), piece(1, "", "f", "{}")])
    assert first.startswith("call_")
    assert first != second


def test_an_id_that_the_conversation_already_has_is_replaced() -> None:
    call = {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    ((call_id, *_),) = assemble([piece(0, "call_0", "f", "{}")], messages=messages)
    assert call_id != "call_0"


def test_arguments_as_an_object_become_text_and_no_arguments_an_empty_object() -> None:
    assert [each[2] for each in assemble([piece(0, "a", "f", {"x": 1}), piece(1, "b", "g")])] == ['{"x":1}', "{}"]


def test_what_a_provider_adds_to_a_call_is_kept() -> None:
    assembler = ToolCallAssembler()
    assembler.add([{**piece(None, "a", "f", "{}"), "extra_content": {"google": {"thought_signature": "s"}}}])
    assert assembler.finish(())[0]["extra_content"] == {"google": {"thought_signature": "s"}}


def test_rubbish_among_the_pieces_is_passed_over() -> None:
    assert assemble([None, "x", piece(0, "a", "f", "{}")]) == [("a", "f", "{}")]


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.text(max_size=20), min_size=1, max_size=5), st.data())
def test_any_interleaving_of_indexed_pieces_gives_every_call_its_own_text(texts, data) -> None:
    chunks = [[piece(index, f"id{index}", f"f{index}", "")] for index in range(len(texts))]
    queue = [(index, character) for index, text in enumerate(texts) for character in text]
    order = data.draw(st.permutations(range(len(texts)))) if texts else []
    queue.sort(key=lambda item: order.index(item[0]))
    chunks += [[piece(index, arguments=character)] for index, character in queue]
    assert [each[2] for each in assemble(*chunks)] == [text.strip() or "{}" for text in texts]

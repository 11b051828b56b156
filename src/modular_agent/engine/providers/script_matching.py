"""Which turn of a script a request calls for: a pure function of the request."""

import re
from collections.abc import Sequence
from typing import Any

from modular_agent.engine.providers.messages import last_user_text, message_text, system_text
from modular_agent.engine.providers.port import ChatRequest, Message
from modular_agent.engine.providers.script import TextTest, When

__all__ = ["Scene", "matches"]


class Scene:
    """A request as conditions and templates see it. `answers` counts the assistant messages in it."""

    def __init__(self, request: ChatRequest) -> None:
        messages = request.messages
        self.request = request
        self.input = last_user_text(messages)
        self.system = system_text(messages)
        self.last_message = message_text(messages[-1]) if messages else ""
        self.last_role: str = messages[-1]["role"] if messages else ""
        self.answers = sum(message["role"] == "assistant" for message in messages)
        self.answers_in_turn = sum(message["role"] == "assistant" for message in _since_last_user(messages))
        self.tool_results = _tool_results(messages)
        self.groups: tuple[str, ...] = ()

    def names(self) -> dict[str, Any]:
        """What templates can use; values are JSON."""
        return {
            "input": self.input,
            "last_message": self.last_message,
            "tool_results": self.tool_results,
            "messages": self.request.messages,
            "system": self.system,
            "nth": self.answers + 1,
            "match": self.groups,
        }


def matches(when: When, scene: Scene) -> bool:
    """Whether all of `when` holds; if so, `scene.groups` are those of the first regular expression that matched."""
    groups: list[tuple[str, ...]] = []
    request = scene.request
    results = [result["content"] for result in scene.tool_results]
    holds = (
        (when.last_role is None or when.last_role == scene.last_role)
        and (when.has_tool is None or any(tool.name == when.has_tool for tool in request.tools))
        and (when.tool is None or (bool(scene.tool_results) and scene.tool_results[-1]["name"] == when.tool))
        and (when.schema_ is None or when.schema_ == bool(request.parameters.get("response_schema")))
        and (when.nth is None or scene.answers + 1 in when.nth)
        and (when.nth_in_turn is None or scene.answers_in_turn + 1 in when.nth_in_turn)
        and _any_holds(when.last_user, [scene.input], groups)
        and _any_holds(when.last_message, [scene.last_message], groups)
        and _any_holds(when.tool_result, results, groups)
        and _any_holds(when.system, [scene.system], groups)
    )
    if holds:
        scene.groups = groups[0] if groups else ()
    return holds


def _any_holds(tests: Sequence[TextTest] | None, texts: Sequence[str], groups: list[tuple[str, ...]]) -> bool:
    return tests is None or any(_holds(test, text, groups) for text in texts for test in tests)


def _holds(test: TextTest, text: str, groups: list[tuple[str, ...]]) -> bool:
    if test.contains is not None:
        return test.contains.casefold() in text.casefold()
    if test.equals is not None:
        return test.equals == text
    match = re.search(test.regex or "", text)
    if match is None:
        return False
    groups.append((match[0], *match.groups("")))
    return True


def _since_last_user(messages: Sequence[Message]) -> Sequence[Message]:
    for index in range(len(messages) - 1, -1, -1):
        if messages[index]["role"] == "user":
            return messages[index + 1 :]
    return messages


def _tool_results(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The tool messages after the last assistant message, with the names of their tools."""
    start = len(messages)
    while start > 0 and messages[start - 1]["role"] == "tool":
        start -= 1
    calls = messages[start - 1].get("tool_calls") or () if start > 0 else ()
    names = {call["id"]: call["function"]["name"] for call in calls}
    results: list[dict[str, str]] = []
    for message in messages[start:]:
        call_id = message.get("tool_call_id", "")
        name = message.get("name") or names.get(call_id, "")
        results.append({"tool_call_id": call_id, "name": name, "content": message_text(message)})
    return results

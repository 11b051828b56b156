"""What a client reads of a fault is there in both languages."""

import ast
import re
from collections.abc import Iterator
from typing import Any

CHINESE = re.compile(r"[一-鿿]")
FIELD = re.compile(r"\{(\w+)\}")


def tells(source: Any) -> bool:
    """Whether a module knows the class of texts; libraries have others of that name."""
    imports = (node for node in ast.walk(source.tree) if isinstance(node, ast.ImportFrom))
    names = {alias.name for node in imports if node.module == "modular_agent.errors" for alias in node.names}
    return source.module == "modular_agent.errors" or "Text" in names


def calls(package: Any, name: str) -> "Iterator[tuple[str, ast.Call]]":
    for source in package:
        if name == "Text" and not tells(source):
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
                yield f"{source.path}:{node.lineno}", node


def said(text: ast.expr) -> str:
    """The words of a text without what is filled in."""
    parts = text.values if isinstance(text, ast.JoinedStr) else [text]
    words = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return FIELD.sub("", "".join(words))


def facts(text: ast.expr) -> set[str]:
    """What is filled into a text, but for the pieces that are in its language themselves."""
    filled = [node for node in ast.walk(text) if isinstance(node, ast.FormattedValue)]
    names = {node.id for value in filled for node in ast.walk(value) if isinstance(node, ast.Name)}
    names -= {"english", "chinese"}
    return names | (set(FIELD.findall(text.value)) if isinstance(text, ast.Constant) else set())


def is_written_out(text: ast.expr) -> bool:
    return isinstance(text, (ast.Constant, ast.JoinedStr))


def fault_of(call: ast.Call) -> str | None:
    english, chinese = call.args
    if not is_written_out(english):  # made of another text
        return None if CHINESE.search(source := ast.unparse(chinese)) or re.search("chinese|zh", source) else "one text"
    if CHINESE.search(said(english)):
        return "the English text is Chinese"
    if re.search(r"\w", said(english)) and not CHINESE.search(said(chinese)):
        return "the Chinese text is not Chinese"
    return None if facts(english) == facts(chinese) else "the texts tell other facts"


def test_a_text_is_in_both_languages_and_tells_the_same_facts(package: Any) -> None:
    found = {place: fault_of(call) for place, call in calls(package, "Text")}
    assert len(found) > 150
    assert {place: fault for place, fault in found.items() if fault} == {}


def test_every_fault_has_such_a_text(package: Any) -> None:
    found = [
        place
        for place, call in calls(package, "Fault")
        if not any(each.arg == "text" and not is_written_out(each.value) for each in call.keywords)
    ]
    assert found == []


def test_what_a_validator_refuses_is_told_in_chinese_too(package: Any) -> None:
    refusals = [(place, ast.unparse(call)) for place, call in calls(package, "PydanticCustomError")]
    found = [place for place, call in refusals if "'zh'" not in call and "datetime_parsing" not in call]
    for source in package:
        for node in ast.walk(source.tree):
            decorators = getattr(node, "decorator_list", ())
            if any("_validator" in ast.unparse(each) for each in decorators) and "raise ValueError" in ast.unparse(
                node
            ):
                found.append(f"{source.path}:{node.lineno}")
    assert found == []

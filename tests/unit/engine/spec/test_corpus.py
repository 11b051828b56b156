"""Files with faults, each with the faults that are expected of it; and files without any.

A line of a `.faults` file: CODE FILE:LINE:COLUMN KEY-PATH [-> SUGGESTION].
"""

from pathlib import Path

import pytest

from modular_agent.engine.spec.errors import WorkflowInvalid
from modular_agent.engine.spec.loader import LoadedWorkflow, load_workflow
from modular_agent.engine.spec.source import DirectorySource
from modular_agent.errors import AgentError, Fault, Kind

CORPUS = Path(__file__).parent / "corpus"
GOOD = sorted((CORPUS / "good").iterdir())
BAD = sorted((CORPUS / "bad").glob("*.yaml"))
ENVIRONMENT = {"TEMPERATURE": "0.5", "WORD": "hot", "SECRET": "sk-123"}


class ReferenceMissing(AgentError):
    code = "attribute_missing"
    kind = Kind.INVALID
    english = "There is nothing at {reference}."
    suggestion = "tools.pay:pay"


class References:
    """Knows every reference but those that end in `missing`."""

    def check(self, reference: str) -> object:
        if reference.endswith("missing"):
            raise ReferenceMissing(reference=reference)
        return reference


def load(file: Path) -> LoadedWorkflow:
    return load_workflow(
        DirectorySource(CORPUS),
        file.relative_to(CORPUS).as_posix(),
        environment=ENVIRONMENT,
        references=References(),
        builtin_tools=["builtin.calculator"],
    )


def line_of(fault: Fault) -> str:
    hint = f" -> {fault.suggestion}" if fault.suggestion else ""
    return f"{fault.code} {fault.file}:{fault.line}:{fault.column} {fault.path or '-'}{hint}"


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_a_good_file_loads(file: Path) -> None:
    workflow = load(file)
    assert workflow.path == f"good/{file.name}"
    assert workflow.bundle[workflow.path] == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_a_bad_file_tells_every_fault_with_its_place(file: Path) -> None:
    with pytest.raises(WorkflowInvalid) as raised:
        load(file)
    told = [line_of(fault) for fault in raised.value.faults]
    assert told == file.with_suffix(".faults").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_no_fault_tells_what_the_environment_holds(file: Path) -> None:
    with pytest.raises(WorkflowInvalid) as raised:
        load(file)
    assert ENVIRONMENT["SECRET"] not in str(raised.value)


def test_every_fault_has_words_of_its_own() -> None:
    for file in BAD:
        with pytest.raises(WorkflowInvalid) as raised:
            load(file)
        for fault in raised.value.faults:
            assert fault.text.english
            assert "Input should" not in fault.text.english, "Pydantic's words are not ours"

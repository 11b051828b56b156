"""Configured models: read from `llms/`, checked, and taken into the workflows that name them."""

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any, Final

from modular_agent.engine.spec.configured import LLMS, LlmFile, is_configured_name, llm_path
from modular_agent.engine.spec.document import read_document
from modular_agent.engine.spec.errors import FileNotFound, SourceError, WorkflowInvalid
from modular_agent.engine.spec.files import Files, nodes_and_bodies
from modular_agent.engine.spec.known import Known
from modular_agent.engine.spec.model import ModelSpec, WorkflowSpec
from modular_agent.engine.spec.names import check_model
from modular_agent.engine.spec.report import Report, no_such
from modular_agent.engine.spec.shape import Shape
from modular_agent.engine.spec.source import Source
from modular_agent.engine.spec.typed import read_typed
from modular_agent.errors import Fault
from modular_agent.kit.dataclass import dataclass

__all__ = ["ConfiguredLlm", "TakenModels", "load_llm", "take_models"]

_UNSHAPED: Final = Shape(None, (), frozenset(), {})


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredLlm:
    """A configured model, checked. `scripts` holds its parsed script by the path as written, `bundle` the texts."""

    name: str
    path: str
    file: LlmFile
    scripts: Mapping[str, Any]
    bundle: Mapping[str, str]

    @property
    def spec(self) -> ModelSpec:
        """The model as a workflow would say it."""
        return ModelSpec.model_validate({key: getattr(self.file, key) for key in ModelSpec.model_fields})


@dataclass(slots=True)
class TakenModels:
    """The configured models that a workflow names, those they fall back on included.

    `offered` are likely names for those that are nowhere; `faults` are those of the models' files.
    """

    models: dict[str, ConfiguredLlm] = field(default_factory=dict[str, ConfiguredLlm])
    offered: set[str] = field(default_factory=set[str])
    faults: list[Fault] = field(default_factory=list[Fault])


def load_llm(source: Source, name: str, *, environment: Mapping[str, str], known: Known) -> ConfiguredLlm:
    """The model in `llms/{name}.yaml`. Raises `SourceError`, and `WorkflowInvalid` with every fault. Blocks."""
    path = source.locate(llm_path(name))
    text = source.read(path)
    document = read_document(text, file=path, environment=environment)
    llm, faults = read_typed(document, LlmFile)
    if llm is None:
        raise WorkflowInvalid(faults)
    report = Report(document, _UNSHAPED)
    check_model((), llm, report, known)
    files = Files(source, report)
    files.bundle[path] = text
    scripts: dict[str, Any] = {}
    if llm.script is not None:
        files.script(("script",), llm.script, scripts)
    if report.faults:
        raise WorkflowInvalid(report.faults)
    return ConfiguredLlm(name=name, path=path, file=llm, scripts=scripts, bundle=files.bundle)


def take_models(
    spec: WorkflowSpec, report: Report, *, source: Source, environment: Mapping[str, str], known: Known
) -> TakenModels:
    """The configured models that `spec` names besides its own."""
    taken = TakenModels()
    own = {*spec.models, *report.names("models")}
    waiting = [name for name in _named(spec) if name not in own]
    while waiting:
        name = waiting.pop()
        if name in taken.models or not is_configured_name(name):
            continue
        try:
            found = load_llm(source, name, environment=environment, known=known)
        except FileNotFound as error:
            likely = (error.suggestion or "").removesuffix(".yaml")
            if likely.startswith(f"{LLMS}/"):
                taken.offered.add(likely.removeprefix(f"{LLMS}/"))
            continue
        except SourceError as error:
            taken.faults.append(Fault(code=error.code, text=error.text, file=llm_path(name)))
            continue
        except WorkflowInvalid as error:
            taken.faults += [fault for fault in error.faults if fault not in taken.faults]
            continue
        taken.models[name] = found
        waiting += found.file.fallback
    taken.faults += _missing_fallbacks(taken)
    return taken


def _missing_fallbacks(taken: TakenModels) -> list[Fault]:
    broken = {fault.file for fault in taken.faults}
    return [
        Fault(
            code="unknown_model",
            text=no_such("configured model", "已配置的模型", other),
            path=f"fallback[{index}]",
            file=each.path,
        )
        for each in taken.models.values()
        for index, other in enumerate(each.file.fallback)
        if other not in taken.models and llm_path(other) not in broken
    ]


def _named(spec: WorkflowSpec) -> Iterable[str]:
    for _, node, _ in nodes_and_bodies(spec):
        model: str | None = getattr(node, "model", None)
        if model is not None:
            yield model
    for each in spec.models.values():
        yield from each.fallback
    for test in spec.tests:
        if test.model is not None:
            yield test.model

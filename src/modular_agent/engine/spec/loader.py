"""From a workflow file to everything that the engine needs of it, or all its faults at once."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from modular_agent.engine.expressions import Expression, Expressions
from modular_agent.engine.place import KeyPath
from modular_agent.engine.spec.agents import agent_workflow, is_agent_file, own_paths, takers, used_agents, with_agent
from modular_agent.engine.spec.configured import agent_path
from modular_agent.engine.spec.document import Document, read_document
from modular_agent.engine.spec.errors import FileNotFound, SourceError, WorkflowInvalid
from modular_agent.engine.spec.files import Files, workflow_files
from modular_agent.engine.spec.known import Known, References
from modular_agent.engine.spec.llms import TakenModels, take_models
from modular_agent.engine.spec.model import ModelSpec, WorkflowSpec
from modular_agent.engine.spec.report import Report, no_such
from modular_agent.engine.spec.shape import read_shape
from modular_agent.engine.spec.source import Source, bundle_hash
from modular_agent.engine.spec.validation import validate
from modular_agent.errors import Text
from modular_agent.kit.dataclass import dataclass

if TYPE_CHECKING:  # Jinja2 is imported when there is a prompt
    from modular_agent.engine.prompts import Prompt

__all__ = [
    "PROVIDERS",
    "LoadedWorkflow",
    "References",
    "hash_with_agent",
    "load_workflow",
    "takes_agent",
    "with_session_agent",
]

PROVIDERS: Final = ("openai", "anthropic", "google", "scripted")
_MAX_CHILDREN_DEPTH: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedWorkflow:
    """A workflow file, checked, with all that it refers to.

    `path` is the file's one name below the configs root. `bundle` holds the text of this file and of every file that it
    refers to, by name; `content_hash` (64 hex digits) names the version. `prompts`, `scripts` (parsed) and `children`
    have the keys that the file uses; `prompts` holds inline texts too, and `templates` all of them compiled.
    `expressions` holds every compiled expression by its key path, such as `edges[1].when`. `written` is the `spec`
    before its nodes were filled up from the agents that they name.
    """

    spec: WorkflowSpec
    written: WorkflowSpec
    path: str
    content_hash: str
    bundle: Mapping[str, str]
    prompts: Mapping[str, str]
    templates: "Mapping[str, Prompt]"
    scripts: Mapping[str, Any]
    children: Mapping[str, "LoadedWorkflow"]
    expressions: Mapping[str, Expression]


def load_workflow(
    source: Source,
    path: str,
    *,
    environment: Mapping[str, str],
    references: References | None = None,
    builtin_tools: Collection[str] | None = None,
    providers: Collection[str] = PROVIDERS,
    models: Collection[str] = (),
) -> LoadedWorkflow:
    """Reads and checks the workflow at `path`.

    `environment` fills `${env.NAME}`. `models` are names of configured models that a node may use beside the file's
    own. What is None is not checked. Raises `SourceError` when the file itself cannot be read, else `WorkflowInvalid`
    with every fault of it and of the files it refers to. Blocks: call it off the event loop.
    """
    known = Known(
        providers=tuple(providers),
        builtin_tools=None if builtin_tools is None else tuple(builtin_tools),
        models=tuple(models),
        references=references,
    )
    return _Loader(source, environment, known).load(source.locate(path), above=())


class _Loader:
    """One call of `load_workflow`: each sub-workflow is loaded once."""

    def __init__(self, source: Source, environment: Mapping[str, str], known: Known) -> None:
        self._source = source
        self._environment = environment
        self._known = known
        self._expressions = Expressions()
        self._loaded: dict[str, LoadedWorkflow | WorkflowInvalid] = {}

    def load(self, path: str, *, above: tuple[str, ...]) -> LoadedWorkflow:
        text = self._source.read(path)
        document = read_document(text, file=path, environment=self._environment)
        if not is_agent_file(path):
            return self._load(document, path, above)
        try:
            return self._load(agent_workflow(document), path, above)
        except WorkflowInvalid as error:
            raise WorkflowInvalid(own_paths(error.faults, path)) from None

    def _load(self, document: Document, path: str, above: tuple[str, ...]) -> LoadedWorkflow:
        shape = read_shape(document)
        report = Report(document, shape)
        if shape.spec is None:
            raise WorkflowInvalid(report.faults)
        spec = shape.spec
        files = Files(self._source, report)
        files.bundle[path] = document.text
        texts, templates = files.prompts(spec)
        scripts = files.scripts(spec)
        children = self._children(spec, report, (*above, path))
        agents = self._agents(spec, report, (*above, path))
        taken = take_models(spec, report, source=self._source, environment=self._environment, known=self._known)
        report.extend(taken.faults)
        broken = {PurePosixPath(fault.file or "").stem for fault in taken.faults}  # told of already
        models = (*self._known.models, *taken.models, *broken)
        known = replace(self._known, models=models, offered=tuple(taken.offered))
        specs = {written: child.spec for written, child in children.items()}
        expressions = validate(spec, report, shape, known=known, compiler=self._expressions, children=specs)
        if report.faults:
            raise WorkflowInvalid(report.faults)
        bundle = dict(files.bundle)
        for other in (*children.values(), *agents.values(), *taken.models.values()):
            bundle.update(other.bundle)
        written = spec.model_copy(update={"models": {**spec.models, **_specs(taken)}})
        loaded = LoadedWorkflow(
            spec=written,
            written=written,
            path=path,
            content_hash=bundle_hash(path, bundle),
            bundle=bundle,
            prompts=texts,
            templates=templates,
            scripts={**_scripts(taken), **scripts},
            children=children,
            expressions=expressions,
        )
        for name, agent in agents.items():
            loaded = _with_agent(loaded, name, agent)
        return loaded

    def _agents(self, spec: WorkflowSpec, report: Report, above: tuple[str, ...]) -> dict[str, LoadedWorkflow]:
        """The agents that nodes take, by the node's name."""
        found: dict[str, LoadedWorkflow] = {}
        for path, node in used_agents(spec):
            where = (*path, "agent")
            missing = no_such("agent", "智能体", report.shown(where, node.agent))
            file = agent_path(str(node.agent))
            if file is None:
                report.add(where, "unknown_agent", missing)
                continue
            try:
                located = self._source.locate(file)
                found[str(path[1])] = self._once(located, above)
            except FileNotFound as error:
                likely = PurePosixPath(error.suggestion or "")
                suggestion = likely.stem if is_agent_file(str(likely)) else None
                report.add(where, "unknown_agent", missing, suggestion=suggestion)
            except SourceError as error:
                report.add(where, error.code, error.text)
            except WorkflowInvalid as error:
                report.extend(error.faults)
        return found

    def _children(self, spec: WorkflowSpec, report: Report, above: tuple[str, ...]) -> dict[str, LoadedWorkflow]:
        found: dict[str, LoadedWorkflow] = {}
        for path, written in workflow_files(spec):
            if written not in found:
                child = self._child(path, written, report, above)
                if child is not None:
                    found[written] = child
        return found

    def _child(self, path: KeyPath, written: str, report: Report, above: tuple[str, ...]) -> LoadedWorkflow | None:
        try:
            located = self._source.locate(written)
            if located in above:
                chain = " -> ".join((*above[above.index(located) :], located))
                text = Text(f"a workflow cannot run itself: {chain}", f"工作流不能运行自身：{chain}")
                report.add(path, "recursive_workflow", text)
                return None
            if len(above) >= _MAX_CHILDREN_DEPTH:
                levels = _MAX_CHILDREN_DEPTH
                text = Text(f"workflows are nested deeper than {levels} levels", f"工作流的嵌套超过 {levels} 层")
                report.add(path, "too_deep", text)
                return None
            return self._once(located, above)
        except SourceError as error:
            report.add(path, error.code, error.text, suggestion=error.suggestion)
        except WorkflowInvalid as error:
            report.extend(error.faults)
        return None

    def _once(self, located: str, above: tuple[str, ...]) -> LoadedWorkflow:
        known = self._loaded.get(located)
        if known is None:
            try:
                known = self.load(located, above=above)
            except WorkflowInvalid as error:
                known = error
            self._loaded[located] = known
        if isinstance(known, WorkflowInvalid):
            raise known
        return known


def _specs(taken: TakenModels) -> dict[str, ModelSpec]:
    return {name: model.spec for name, model in taken.models.items()}


def _scripts(taken: TakenModels) -> dict[str, Any]:
    return {written: data for model in taken.models.values() for written, data in model.scripts.items()}


def takes_agent(loaded: LoadedWorkflow) -> bool:
    """Whether a node of the workflow, or of one that it runs, can take a session's agent."""
    return bool(takers(loaded.written)) or any(takes_agent(child) for child in loaded.children.values())


def hash_with_agent(workflow_hash: str, agent_hash: str) -> str:
    """What names a version of a workflow together with a version of an agent."""
    return hashlib.sha256(f"{workflow_hash} {agent_hash}".encode()).hexdigest()


def with_session_agent(loaded: LoadedWorkflow, agent: LoadedWorkflow) -> LoadedWorkflow:
    """A workflow in a session that names `agent`: it takes the place of the agents that nodes name, and fills up the
    others; what the workflow says itself counts. `agent` is the workflow of the agent alone."""
    filled = replace(
        loaded,
        spec=loaded.written,
        content_hash=hash_with_agent(loaded.content_hash, agent.content_hash),
        children={path: with_session_agent(child, agent) for path, child in loaded.children.items()},
    )
    for name in takers(loaded.written):
        filled = _with_agent(filled, name, agent)
    return filled


def _with_agent(loaded: LoadedWorkflow, name: str, agent: LoadedWorkflow) -> LoadedWorkflow:
    """A workflow whose node `name` takes `agent`; what the workflow says itself counts."""
    spec = with_agent(loaded.spec, name, agent.spec)
    own_tools = {key: value for key, value in agent.expressions.items() if key.startswith("tools.")}
    return replace(
        loaded,
        spec=spec.model_copy(update={"models": {**spec.models, **_missing(agent.spec.models, spec.models)}}),
        prompts={**agent.prompts, **loaded.prompts},
        templates={**agent.templates, **loaded.templates},
        scripts={**agent.scripts, **loaded.scripts},
        expressions={**_of_agent(own_tools, loaded.spec.tools), **loaded.expressions},
    )


def _missing(given: Mapping[str, ModelSpec], held: Mapping[str, ModelSpec]) -> dict[str, ModelSpec]:
    return {name: model for name, model in given.items() if name not in held}


def _of_agent(expressions: Mapping[str, Expression], own: Mapping[str, object]) -> dict[str, Expression]:
    """The expressions of tools that the workflow has not of its own."""
    return {key: value for key, value in expressions.items() if key.split(".")[1] not in own}

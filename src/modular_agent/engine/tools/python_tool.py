"""Python callables of workflow authors: as tools for a model, and as functions for nodes.

A synchronous one runs in a worker process, where it can be killed; an `async def` one in the event loop.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from modular_agent.engine.providers.port import ToolSchema
from modular_agent.engine.tools.call_log import CallLog
from modular_agent.engine.tools.errors import BadReference, FunctionFailed, ImportFailed, SignatureUnsupported
from modular_agent.engine.tools.outcomes import failed, failure_outcome, raised, timed_out, within
from modular_agent.engine.tools.parameters import BadArguments, context_parameter
from modular_agent.engine.tools.port import Effect, ToolContext, ToolOutcome
from modular_agent.engine.tools.references import References
from modular_agent.engine.tools.results import json_bytes, text_of
from modular_agent.engine.tools.signature import Signature
from modular_agent.engine.tools.worker_process import Failure
from modular_agent.engine.tools.workers import WorkerCall, WorkerPool, WorkerReply
from modular_agent.errors import AgentError
from modular_agent.kit.dataclass import dataclass

__all__ = ["PythonCode", "PythonFunction", "PythonTool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonCode:
    """Where Python code comes from and where it runs."""

    references: References
    pool: WorkerPool
    log: CallLog


class PythonTool:
    """A tool that is a Python callable; made by `load`. `effect` is irreversible unless its author says otherwise."""

    def __init__(
        self,
        code: PythonCode,
        *,
        reference: str,
        schema: ToolSchema,
        is_async: bool,
        effect: Effect = Effect.IRREVERSIBLE,
        timeout: float | None = None,
    ) -> None:
        self._code = code
        self._reference = reference
        self._schema = schema
        self._is_async = is_async
        self._effect = effect
        self._timeout = timeout
        self._signature: tuple[Callable[..., Any], Signature] | None = None

    @classmethod
    async def load(
        cls,
        code: PythonCode,
        *,
        name: str,
        reference: str,
        description: str | None = None,
        effect: Effect = Effect.IRREVERSIBLE,
        timeout: float | None = None,  # noqa: ASYNC109  # the tool's, not this method's
    ) -> "PythonTool":
        """The tool `name`, described by the callable's signature and docstring (`description` wins).

        Raises `BadReference`, `SignatureUnsupported`, `WorkerUnavailable`. The module is imported in a worker.
        """
        await asyncio.to_thread(code.references.check, reference)
        reply = await code.pool.describe(reference)
        found = reply.description
        if found is None:
            raise _load_error(reference, reply.failure)
        text = description if description is not None else found["description"]
        schema = ToolSchema(name=name, description=text, parameters=found["parameters"])
        return cls(code, reference=reference, schema=schema, is_async=found["is_async"], effect=effect, timeout=timeout)

    @property
    def schema(self) -> ToolSchema:
        return self._schema

    @property
    def effect(self) -> Effect:
        return self._effect

    @property
    def timeout(self) -> float | None:
        return self._timeout

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        if self._is_async:
            return await within(self._timeout, lambda: self._run(arguments, context))
        call = WorkerCall(
            reference=self._reference,
            arguments=arguments,
            context=context,
            log=context.log,
            validated=True,
            timeout=self._timeout,
        )
        try:
            reply = await self._code.pool.call(call)
        except Exception as error:  # noqa: BLE001  # no process to be had, arguments too large
            return raised(error)
        return _outcome(reply, self._timeout)

    async def _run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutcome:
        try:
            signature, function = await asyncio.to_thread(self._loaded)
            bound = signature.bind(arguments, context=context)
        except BadArguments as error:
            return failed(str(error), error_type="BadArguments")
        except (BadReference, SignatureUnsupported) as error:
            return failed(str(error), error_type=error.code)
        with self._code.log.during(context.log):
            result = await function(*bound.positional, **bound.keywords)
        return ToolOutcome(content=text_of(result))

    def _loaded(self) -> tuple[Signature, Callable[..., Any]]:
        function = self._code.references.load_callable(self._reference)
        if self._signature is None or self._signature[0] is not function:
            self._signature = (function, Signature(function))
        return self._signature[1], function


class PythonFunction:
    """The code of a node: it takes and gives JSON values as they are. Safe to call from many tasks at once."""

    def __init__(self, code: PythonCode, *, reference: str, timeout: float | None = None) -> None:
        self._code = code
        self._reference = reference
        self._timeout = timeout
        self._is_async: bool | None = None

    async def __call__(
        self,
        arguments: Mapping[str, Any],
        log: Callable[[str, str], None],
        *,
        context: ToolContext | None = None,
    ) -> Any:  # JSON data
        """Calls it with keyword `arguments`; `log` takes (level, message) of what it says.

        When it is cancelled, or its timeout is over, nothing of a synchronous one executes any more once this has
        returned; an `async def` one has been cancelled and has ended. A parameter named `context` gets `context`.
        Raises `FunctionFailed`, `BadReference`, `WorkerUnavailable`.
        """
        if self._is_async is None:
            self._is_async = await self._find_kind()
        if self._is_async:
            return await self._run(dict(arguments), log, context)
        call = WorkerCall(
            reference=self._reference, arguments=arguments, context=context, log=log, timeout=self._timeout
        )
        reply = await self._code.pool.call(call)
        if reply.failure is not None:
            raise self._error(reply.failure)
        return reply.value

    async def _find_kind(self) -> bool:
        checked = await asyncio.to_thread(self._code.references.check, self._reference)
        if checked.is_async is not None:
            return checked.is_async
        reply = await self._code.pool.inspect(self._reference)
        if reply.failure is not None:
            raise self._error(reply.failure)
        return bool(reply.description and reply.description["is_async"])

    async def _run(
        self, arguments: dict[str, Any], log: Callable[[str, str], None], context: ToolContext | None
    ) -> Any:
        function = await asyncio.to_thread(self._code.references.load_callable, self._reference)
        parameter = context_parameter(function)
        if parameter is not None and context is not None:
            arguments.setdefault(parameter.name, context)
        deadline = asyncio.timeout(self._timeout)
        try:
            async with deadline:
                with self._code.log.during(log):
                    value = await function(**arguments)
            return orjson.loads(json_bytes(value))
        except Exception as error:
            outcome = timed_out(self._timeout or 0) if deadline.expired() else raised(error)
            raise FunctionFailed(
                reference=self._reference,
                error_type=outcome.error_type or type(error).__name__,
                error=outcome.content if deadline.expired() else str(error),
                stack_trace=outcome.stack_trace,
            ) from error

    def _error(self, failure: Failure) -> AgentError:
        if failure.kind == "reference":
            return _load_error(self._reference, failure)
        return FunctionFailed(
            reference=self._reference,
            error_type=failure.error_type,
            error=failure.message,
            stack_trace=failure.stack_trace,
        )


def _load_error(reference: str, failure: Failure | None) -> AgentError:
    """What the worker could not load, as the error that loading it here would have raised."""
    assert failure is not None
    parameters = dict(failure.parameters or {})
    if failure.error_type == SignatureUnsupported.code:
        return SignatureUnsupported(**parameters)
    for kind in BadReference.__subclasses__():
        if kind.code == failure.error_type:
            return kind(**parameters)
    module = reference.partition(":")[0]
    return ImportFailed(reference=reference, module=module, error_type=failure.error_type, error=failure.message)


def _outcome(reply: WorkerReply, timeout: float | None) -> ToolOutcome:
    if reply.failure is None:
        return ToolOutcome(content=reply.text)
    if reply.failure.kind == "timeout" and timeout is not None:
        return timed_out(timeout)
    return failure_outcome(reply.failure)

"""Failures of tools as outcomes that a model can act upon."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable

from modular_agent.engine.tools.port import ToolOutcome
from modular_agent.engine.tools.worker_process import Failure

__all__ = ["failed", "failure_outcome", "raised", "timed_out", "within"]


def failed(message: str, *, error_type: str) -> ToolOutcome:
    """A failure that the model should read as `message`."""
    return ToolOutcome(content=message, success=False, error_type=error_type)


def raised(error: BaseException) -> ToolOutcome:
    """The failure of a call that raised `error`."""
    text = str(error).encode("utf-8", "replace").decode()  # file names may hold half characters
    name = type(error).__name__
    return ToolOutcome(
        content=f"{name}: {text}" if text else name,
        success=False,
        error_type=name,
        stack_trace="".join(traceback.format_exception(error)).encode("utf-8", "replace").decode(),
    )


def timed_out(seconds: float) -> ToolOutcome:
    """The failure of a call that was ended after `seconds`."""
    return failed(f"The call took longer than {seconds:g} seconds and was ended.", error_type="TimeoutError")


def failure_outcome(failure: Failure) -> ToolOutcome:
    """The failure of a call in a worker process."""
    named = failure.kind == "exception"
    content = f"{failure.error_type}: {failure.message}" if named and failure.message else failure.message
    return ToolOutcome(
        content=content or failure.error_type,
        success=False,
        error_type=failure.error_type,
        stack_trace=failure.stack_trace,
    )


async def within(seconds: float | None, call: Callable[[], Awaitable[ToolOutcome]]) -> ToolOutcome:
    """What `call` gives; its exceptions, and its end after so many `seconds`, as outcomes. Cancellation passes."""
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            return await call()
    except TimeoutError as error:
        return timed_out(seconds) if seconds is not None and deadline.expired() else raised(error)
    except Exception as error:  # noqa: BLE001  # a tool's failure is an outcome, whatever it raised
        return raised(error)

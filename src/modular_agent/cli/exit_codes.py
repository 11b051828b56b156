"""What the command line's exit codes mean (docs/cli.md)."""

from enum import IntEnum

from modular_agent.errors import AgentError, Kind
from modular_agent.lifecycle import RunStatus

__all__ = ["ExitCode", "exit_code_of", "exit_code_of_run"]


class ExitCode(IntEnum):
    """The same for every command."""

    OK = 0  # done; of `run`: completed
    FAILED = 1  # the run failed, a test or a check did not pass, something went wrong
    USAGE = 2  # what was given cannot be used: arguments, files, settings, a data path in use
    PAUSED = 3  # the run is paused or waits for an answer
    STOPPED = 4


_RESTS = {RunStatus.COMPLETED: ExitCode.OK, RunStatus.PAUSED: ExitCode.PAUSED, RunStatus.STOPPED: ExitCode.STOPPED}
_WENT_WRONG = frozenset({Kind.INTERNAL, Kind.UNAVAILABLE, Kind.RATE_LIMITED})


def exit_code_of_run(status: RunStatus) -> ExitCode:
    """The code for how a run stands when the command ends."""
    return _RESTS.get(status, ExitCode.FAILED)


def exit_code_of(error: AgentError) -> ExitCode:
    """The code for an error that ends the command."""
    return ExitCode.FAILED if error.kind in _WENT_WRONG else ExitCode.USAGE

"""The program: `modular-agent`, or `python -m modular_agent`."""

import sys
from typing import Final

from modular_agent.kit.late_packages import LatePackages
from modular_agent.kit.memory import is_starting

__all__ = ["main"]

# Clients of services that no command talks to. LangGraph needs a module or two of theirs, with the types it names.
_LATE: Final = ("langgraph_sdk", "langsmith.types")


def main() -> None:
    """Runs the command line and exits with its code."""
    is_starting()
    LatePackages(_LATE).install()
    from modular_agent.cli.app import main as run_command_line

    sys.exit(run_command_line())


if __name__ == "__main__":
    main()

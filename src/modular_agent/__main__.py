"""The program: `modular-agent`, or `python -m modular_agent`."""

import sys

from modular_agent.kit.memory import is_starting

__all__ = ["main"]


def main() -> None:
    """Runs the command line and exits with its code."""
    is_starting()
    from modular_agent.cli.app import main as run_command_line

    sys.exit(run_command_line())


if __name__ == "__main__":
    main()

"""The program: `modular-agent`, or `python -m modular_agent`."""

import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command line and exits with its code."""
    from modular_agent.cli.app import main as run_command_line

    sys.exit(run_command_line())


if __name__ == "__main__":
    main()

"""The command line: `modular-agent`."""

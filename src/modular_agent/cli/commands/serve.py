"""`serve`: the server."""

import typer

__all__ = ["serve"]


def serve(context: typer.Context) -> None:
    """Start the server."""

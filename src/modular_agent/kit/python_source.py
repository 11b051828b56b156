"""Python's own parser, for several threads at once."""

import ast
from typing import Any, Final, Literal

__all__ = ["parse"]

ATTEMPTS: Final = 10


def parse(source: str | bytes, filename: str = "<unknown>", *, mode: Literal["exec", "eval"] = "exec") -> Any:
    """The `ast.Module` or `ast.Expression`. Raises what `ast.parse` raises, such as `SyntaxError` and `ValueError`.

    CPython 3.11 keeps one count of a tree's depth for all threads: of two that parse at once, one may be told
    `SystemError` without any fault of its own, and succeeds when it tries again
    (https://github.com/python/cpython/issues/106905).
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return ast.parse(source, filename, mode)
        except SystemError:
            continue
    return ast.parse(source, filename, mode)

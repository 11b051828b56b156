"""A route whose declaration is read when it is first asked for.

FastAPI reads a declaration (what the endpoint takes, what it answers, a validator for each) when the route is made.
For all routes of the API this took a tenth of a start, though a process answers few of them at first.
"""

from collections.abc import Callable
from typing import Any

from fastapi.routing import APIRoute
from starlette.routing import compile_path

from modular_agent.api.openapi import operation_id

__all__ = ["LateRoute"]


class LateRoute(APIRoute):
    """What matching needs is there at once; the rest comes with the first request, or with the API's description.

    Its operation is named by its function, whatever the application says.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **declared: Any) -> None:  # those of `APIRoute`
        self.path = path
        self.endpoint = endpoint
        self.path_regex, self.path_format, self.param_convertors = compile_path(path)
        self.methods = {method.upper() for method in declared["methods"]}
        self._declared: dict[str, Any] | None = {**declared, "generate_unique_id_function": operation_id}

    def __getattr__(self, name: str) -> Any:  # any attribute of `APIRoute`
        declared = self.__dict__.get("_declared")
        if declared is None or name.startswith("__"):
            raise AttributeError(name)
        self._declared = None
        super().__init__(self.path, self.endpoint, **declared)
        return getattr(self, name)

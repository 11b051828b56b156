"""`/metrics`: figures for Prometheus."""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from fastapi import APIRouter, Request
from starlette.responses import Response

from modular_agent.api.requests import JsonRoute

if TYPE_CHECKING:
    from modular_agent.api.metrics import Metrics

__all__ = ["router"]

router = APIRouter(tags=["system"], route_class=JsonRoute)

_EXAMPLE = """\
# HELP modular_agent_runs_active Runs that execute in this process.
# TYPE modular_agent_runs_active gauge
modular_agent_runs_active 3.0
"""


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "Every figure, in the text format of Prometheus, or in OpenMetrics if asked for.",
            "content": {
                "text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE},
                "application/openmetrics-text": {"schema": {"type": "string"}, "example": f"{_EXAMPLE}# EOF\n"},
            },
        }
    },
)
async def get_metrics(request: Request) -> Response:
    """Requests, runs, steps, model calls, tokens, money, errors, storage, realtime, cache, process, since its start.

    What each figure means: docs/operations.md.
    """
    metrics = cast("Callable[[], Metrics]", request.app.state.metrics)  # made for whoever asks first
    text, media_type = await metrics().exposition(request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": media_type, "Cache-Control": "no-store"})

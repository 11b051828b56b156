"""An application with the whole edge and a few routes that do what routes do wrong."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any, Literal

import httpx
import pytest
import structlog
from fastapi import APIRouter, FastAPI, Header, HTTPException, Query, Request, WebSocket
from pydantic import BaseModel, Field
from pydantic_core import PydanticCustomError

from modular_agent.api.errors import install_errors
from modular_agent.api.middleware.drain import Gate
from modular_agent.api.middleware.server_timing import add_timing
from modular_agent.api.middleware.stack import EdgeOptions, middleware_stack
from modular_agent.api.openapi import install_openapi, operation_id, problems
from modular_agent.api.pages import install_pages
from modular_agent.api.requests import JsonRoute
from modular_agent.errors import AgentError, Fault, InvalidInput, Kind, Text
from modular_agent.kit.pagination import decode_cursor


class Item(BaseModel, extra="forbid"):
    name: str = Field(min_length=2)
    kind: Literal["a", "b"] = "a"
    tags: list[str] = []
    size: int | dict[str, int] = 0


class Order(BaseModel, extra="forbid"):
    items: list[Item]

    def model_post_init(self, context: Any) -> None:
        if len(self.items) > 3:
            raise PydanticCustomError("too_many_items", "has too many items", {"zh": "项目太多"})


class Teapot(AgentError):
    code = "teapot_test"
    kind = Kind.UNAVAILABLE
    english = "{name} is a teapot."
    chinese = "{name} 是一个茶壶。"


class Broken(AgentError):
    code = "broken_test"
    kind = Kind.INTERNAL
    english = "The inside broke."
    chinese = "内部损坏。"


router = APIRouter(route_class=JsonRoute)


@router.post("/orders/", status_code=201, responses=problems(409, Teapot), tags=["sessions"])
async def create_order(order: Order) -> dict[str, int]:
    """Makes an order."""
    return {"items": len(order.items)}


@router.get("/orders/")
async def list_orders(
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: str | None = None,
    limit: Annotated[int | None, Header(alias="X-Limit")] = None,
) -> dict[str, object]:
    if cursor is not None:
        decode_cursor(cursor, "orders", ["int"])
    return {"page_size": page_size, "limit": limit}


@router.get("/teapot")
async def teapot() -> None:
    raise Teapot(name="Pot", retry_after=1.2)


@router.get("/workflow")
async def workflow() -> None:
    raise InvalidInput(
        [
            Fault(
                code="unknown_key",
                text=Text("unknown key", "未知的键"),
                path="nodes.x",
                file="a.yaml",
                line=3,
                column=5,
                suggestion="y",
            )
        ]
    )


@router.get("/broken")
async def broken() -> None:
    raise Broken()


@router.get("/crash")
async def crash() -> None:
    raise LookupError("a secret of the inside in /home/me")


@router.get("/forbidden")
async def forbidden() -> None:
    raise HTTPException(410, "It is gone.", {"X-Why": "age"})


@router.get("/timed")
async def timed(request: Request) -> dict[str, bool]:
    add_timing(request.scope, "db", 0.0125)
    return {"ok": True}


def make_app(options: EdgeOptions = EdgeOptions(), *, debug: bool = False, gate: Gate | None = None) -> FastAPI:  # noqa: B008
    app = FastAPI(title="Test", version="1", docs_url=None, redoc_url=None, generate_unique_id_function=operation_id)
    handlers = install_errors(app, debug=debug)
    for middleware in reversed(middleware_stack(options, gate=gate or Gate(), handlers=handlers)):
        app.add_middleware(middleware.cls, *middleware.args, **middleware.kwargs)
    app.include_router(router)

    @app.websocket("/ws")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            if text == "crash":
                raise LookupError("a secret of the inside")
            await websocket.send_text(text)

    install_openapi(app)
    install_pages(app)
    return app


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keeps logged traces off the test's output: drawing one for a terminal takes seconds."""
    with structlog.testing.capture_logs():
        yield


Calling = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def calling() -> Calling:
    """`async with calling(options, debug=...) as client`: a client of the application, without a socket between."""

    @asynccontextmanager
    async def call(
        options: EdgeOptions | None = None,
        *,
        client: tuple[str, int] = ("127.0.0.1", 50_000),
        scheme: str = "http",
        **more: Any,
    ) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app=make_app(options or EdgeOptions(), **more), client=client)
        async with httpx.AsyncClient(transport=transport, base_url=f"{scheme}://localhost:8000") as http:
            yield http

    return call

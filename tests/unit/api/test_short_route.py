"""A route that is asked often answers plain requests itself, and hands all others on with what was read of them."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import BaseModel

from modular_agent.api.errors import install_errors
from modular_agent.api.requests import JsonRequest, ShortRoute
from modular_agent.api.responses import JsonResponse
from modular_agent.errors import AgentError, Kind


class Refused(AgentError):
    code = "refused_test"
    kind = Kind.CONFLICT
    english = "No."
    chinese = "不。"


class Number(BaseModel):
    number: int


async def short(request: JsonRequest) -> Response | None:
    document = await request.json()
    if document == {"number": 0}:
        raise Refused
    return JsonResponse({"by": "short"}) if document == {"number": 1} else None


class _Route(ShortRoute):
    short = staticmethod(short)


router = APIRouter(route_class=_Route)


@router.post("/numbers/{name}")
async def number(name: str, body: Number, request: Request) -> dict[str, Any]:
    return {"by": name, "number": body.number, "size": len(await request.body())}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI(routes=router.routes)
    install_errors(app, debug=False)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as found:
        yield found


async def test_a_plain_request_is_answered_without_its_declaration(client: httpx.AsyncClient) -> None:
    assert (await client.post("/numbers/n", json={"number": 1})).json() == {"by": "short"}


async def test_any_other_goes_the_declared_way_with_its_body(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b'{"num', b'ber"', b":", b" 12}"):
            yield piece

    assert (await client.post("/numbers/n", json={"number": 2})).json() == {"by": "n", "number": 2, "size": 12}
    sent = await client.post("/numbers/n", content=pieces(), headers={"content-type": "application/json"})
    assert sent.json() == {"by": "n", "number": 12, "size": 14}
    assert (await client.post("/numbers/n", json={"number": "x"})).status_code == 422
    assert (await client.get("/numbers/n")).status_code == 405


async def test_what_it_raises_is_answered_as_everywhere(client: httpx.AsyncClient) -> None:
    answer = await client.post("/numbers/n", json={"number": 0})
    assert (answer.status_code, answer.json()["code"]) == (409, "refused_test")

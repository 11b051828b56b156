from fastapi import FastAPI
from fastapi.routing import APIRoute
from httpx import ASGITransport, AsyncClient

from modular_agent.api.late_route import LateRoute
from modular_agent.api.openapi import operation_id
from modular_agent.api.requests import JsonRoute


async def double(number: int) -> dict[str, int]:
    """Twice the number."""
    return {"twice": 2 * number}


async def half(number: int) -> dict[str, int]:
    return {"half": number // 2}


def routes(kind: type[APIRoute]) -> list[APIRoute]:
    return [kind(f"/{endpoint.__name__}/{{number}}", endpoint, methods=["GET"]) for endpoint in (double, half)]


def is_read(route: APIRoute) -> bool:
    return "dependant" in vars(route)


async def test_a_declaration_is_read_by_the_first_request_and_no_other_is():
    made = routes(JsonRoute)
    async with AsyncClient(transport=ASGITransport(FastAPI(routes=made)), base_url="http://test") as client:
        assert [is_read(route) for route in made] == [False, False]
        assert (await client.get("/nothing/4")).status_code == 404
        assert (await client.post("/double/4")).status_code == 405
        assert [is_read(route) for route in made] == [False, False]
        assert (await client.get("/double/4")).json() == {"twice": 8}
        assert [is_read(route) for route in made] == [True, False]
        assert (await client.get("/double/x")).status_code == 422


def test_the_description_is_that_of_routes_that_are_read_at_once():
    early = FastAPI(generate_unique_id_function=operation_id)
    for endpoint in (double, half):
        early.get(f"/{endpoint.__name__}/{{number}}")(endpoint)
    assert FastAPI(routes=routes(LateRoute)).openapi() == early.openapi()

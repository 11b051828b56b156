import re
from typing import Any


async def schema(calling: Any) -> dict[str, Any]:
    async with calling() as client:
        return (await client.get("/openapi.json")).json()


async def test_operations_are_named_by_their_functions(calling: Any) -> None:
    assert (await schema(calling))["paths"]["/orders/"]["post"]["operationId"] == "create_order"


async def test_declared_problems_have_schema_and_example(calling: Any) -> None:
    responses = (await schema(calling))["paths"]["/orders/"]["post"]["responses"]
    assert set(responses) == {"201", "409", "422", "503"}
    content = responses["503"]["content"]["application/problem+json"]
    assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert content["examples"]["teapot_test"]["value"]["code"] == "teapot_test"


async def test_the_framework_s_own_error_shape_is_nowhere(calling: Any) -> None:
    document = await schema(calling)
    assert "HTTPValidationError" not in str(document)
    assert set(document["paths"]["/orders/"]["get"]["responses"]["422"]["content"]) == {"application/problem+json"}


async def test_every_reference_leads_somewhere(calling: Any) -> None:
    document = await schema(calling)
    for name in re.findall(r"#/components/schemas/(\w+)", str(document)):
        assert name in document["components"]["schemas"]

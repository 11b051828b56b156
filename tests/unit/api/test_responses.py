from modular_agent.api.responses import JsonResponse


def test_content_is_encoded_as_json() -> None:
    response = JsonResponse({"a": ["é", 1, None], 2: True}, 201)
    assert response.body == '{"a":["é",1,null],"2":true}'.encode()
    assert (response.status_code, response.headers["content-type"]) == (201, "application/json")


def test_bytes_are_sent_as_they_are() -> None:
    assert JsonResponse(b'{"stored": true}').body == b'{"stored": true}'

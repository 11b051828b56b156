"""The pages that show the API: they load nothing from elsewhere, and their policy lets in nothing else."""

import base64
import hashlib
import re
from typing import Any

import pytest

PAGES = ("/docs", "/redoc")


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_loads_from_this_server_only(calling: Any, path: str) -> None:
    async with calling() as client:
        page = await client.get(path)
        assert page.status_code == 200
        assert "/openapi.json" in page.text
        loaded = set(re.findall(r'(?:src|href)="([^"]+)"', page.text)) - {"data:,"}
        assert loaded
        for url in loaded:
            assert url.startswith("/docs/assets/"), url
            assert (await client.get(url)).status_code == 200, url


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_s_policy_lets_in_its_own_scripts_and_nothing_else(calling: Any, path: str) -> None:
    async with calling() as client:
        page = await client.get(path)
    policy = page.headers["content-security-policy"]
    assert "http" not in policy
    scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert "unsafe" not in scripts
    for script in re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL):
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in scripts


async def test_a_file_goes_out_compressed_or_not_as_the_client_takes_it(calling: Any) -> None:
    async with calling() as client:
        url = re.findall(r'<script src="([^"]+)"', (await client.get("/docs")).text)[0]
        packed = await client.get(url, headers={"Accept-Encoding": "gzip, br"})
        plain = await client.get(url, headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content  # the client unpacks it
    assert b"SwaggerUIBundle" in plain.content
    for answer in (packed, plain):
        assert answer.headers["content-type"].startswith("text/javascript")
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["", "none.js", "../pages.py", "%2e%2e/pages.py", "redoc-2.5.4/LICENSE"])
async def test_what_is_not_one_of_the_files_is_not_found(calling: Any, name: str) -> None:
    async with calling() as client:
        answer = await client.get(f"/docs/assets/{name}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

"""`/docs` and `/redoc`: the API's description for people, with all that the pages load out of this package."""

import asyncio
import base64
import gzip
import hashlib
import re
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from modular_agent.api.errors import RouteUnknown

__all__ = ["install_pages"]

_ASSETS: Final = Path(__file__).parent / "assets"  # written by scripts/assets.py
_URL: Final = "/docs/assets/"
_SWAGGER_JS: Final = "swagger-ui-dist-5.35.0/swagger-ui-bundle.js"
_SWAGGER_CSS: Final = "swagger-ui-dist-5.35.0/swagger-ui.css"
_REDOC_JS: Final = "redoc-2.5.4/redoc.standalone.js"
_MEDIA_TYPES: Final = {_SWAGGER_JS: "text/javascript", _SWAGGER_CSS: "text/css", _REDOC_JS: "text/javascript"}
_FOREVER: Final = "public, max-age=31536000, immutable"  # the version is in the path
_NO_ICON: Final = "data:,"
_SCRIPT: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def install_pages(app: FastAPI) -> None:
    """Gives `app` (made with `docs_url=None, redoc_url=None`) its two pages and the files that they load."""
    app.add_route("/docs", _swagger, include_in_schema=False)
    app.add_route("/redoc", _redoc, include_in_schema=False)
    app.add_route(_URL + "{name:path}", _asset, include_in_schema=False)


async def _swagger(request: Request) -> HTMLResponse:
    page = get_swagger_ui_html(
        openapi_url=_below_root(request, str(request.app.openapi_url)),
        title=f"{request.app.title} API",
        swagger_js_url=_below_root(request, _URL + _SWAGGER_JS),
        swagger_css_url=_below_root(request, _URL + _SWAGGER_CSS),
        swagger_favicon_url=_NO_ICON,
        swagger_ui_parameters={"validatorUrl": None},  # a foreign service
    )
    return _with_policy(page)


async def _redoc(request: Request) -> HTMLResponse:
    page = get_redoc_html(
        openapi_url=_below_root(request, str(request.app.openapi_url)),
        title=f"{request.app.title} API",
        redoc_js_url=_below_root(request, _URL + _REDOC_JS),
        redoc_favicon_url=_NO_ICON,
        with_google_fonts=False,
    )
    return _with_policy(page)


async def _asset(request: Request) -> Response:
    """One of the files; they are kept compressed, and go out so to whoever takes that."""
    media_type = _MEDIA_TYPES.get(request.path_params["name"])
    if media_type is None:
        raise RouteUnknown(path=request.url.path)
    packed = await asyncio.to_thread((_ASSETS / f"{request.path_params['name']}.gz").read_bytes)
    headers = {"Cache-Control": _FOREVER, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed, media_type=media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(await asyncio.to_thread(gzip.decompress, packed), media_type=media_type, headers=headers)


def _below_root(request: Request, path: str) -> str:
    root: str = request.scope.get("root_path", "")
    return root.rstrip("/") + path


def _with_policy(page: HTMLResponse) -> HTMLResponse:
    """`page` with a policy for it: its own inline scripts by their hash, and what this server has."""
    scripts = " ".join(_hash(text) for text in _SCRIPT.findall(bytes(page.body).decode()))
    page.headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "font-src data:; connect-src 'self'; worker-src blob:; frame-ancestors 'none'; base-uri 'none'; "
        "form-action 'none'"
    ).replace(" ;", ";")
    return page


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"

"""The page of the REST API: Swagger UI from an installed package, with the dialog for the token.

Swagger UI sets styles of its own, so that this page has a policy of its own. Nothing comes from elsewhere.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from retrainer.web.pages import PAGE_HEADERS, PageResponse, refuse_reader, render
from retrainer.web.rendering import Page

if TYPE_CHECKING:
    from starlette.requests import Request

PACKAGE = "fastapi_offline"
TYPES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
DOCS_HEADERS = {
    "Content-Security-Policy": PAGE_HEADERS["Content-Security-Policy"].replace(
        "style-src 'self'", "style-src 'self' 'unsafe-inline'"
    )
}


async def docs(request: Request) -> Response:
    """Show the operations of the REST API."""
    if (refusal := refuse_reader(request)) is not None:
        return refusal
    return PageResponse(render(request, Page("docs.html", "REST API", current="/docs")), headers=DOCS_HEADERS)


async def docs_openapi(request: Request) -> Response:
    """Answer with the OpenAPI document: also to who has logged in, which `/openapi.json` ignores."""
    if (refusal := refuse_reader(request)) is not None:
        return refusal
    return Response(request.app.openapi_body, media_type="application/json", headers=PAGE_HEADERS)


async def docs_asset(request: Request) -> Response:
    """Answer with a file of Swagger UI."""
    name = request.path_params["name"]
    if name not in TYPES:
        raise HTTPException(404)
    content, tag = _asset(name)
    headers = {"ETag": tag, "Cache-Control": "public, no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=TYPES[name], headers=headers)


@cache
def _asset(name: str) -> tuple[bytes, str]:
    content = files(PACKAGE).joinpath("static", name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'


ROUTES = [
    Route("/docs", docs),
    Route("/docs/openapi.json", docs_openapi),
    Route("/docs/{name}", docs_asset),
]

"""The route of the static files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from retrainer.web.static_files import list_static_files, static_file

if TYPE_CHECKING:
    from starlette.requests import Request

YEAR_SECONDS = 365 * 24 * 3600


async def static(request: Request) -> Response:
    """Answer with a static file; a browser that has it need not load it again."""
    name = request.path_params["name"]
    if name not in list_static_files():
        raise HTTPException(404)
    file = static_file(name)
    is_exact = request.query_params.get("v") == file.digest[:12]
    headers = {
        "ETag": f'"{file.digest[:32]}"',
        "Cache-Control": f"public, max-age={YEAR_SECONDS}, immutable" if is_exact else "public, no-cache",
    }
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


ROUTES = [Route("/static/{name}", static)]

"""The static files of the pages, from the package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}  # with the charset that Response adds
YEAR_SECONDS = 365 * 24 * 3600


@dataclass(frozen=True)
class StaticFile:
    """A static file.

    Attributes:
        digest: the SHA-256 of its content, in hexadecimal digits.
    """

    content: bytes
    media_type: str
    digest: str


@cache
def list_static_files() -> frozenset[str]:
    """Return the names of the static files."""
    return frozenset(path.name for path in files("retrainer.web").joinpath("static").iterdir() if path.is_file())


@cache
def static_file(name: str) -> StaticFile:
    """Return a static file of the package."""
    content = files("retrainer.web").joinpath("static", name).read_bytes()
    return StaticFile(content, TYPES[name.rpartition(".")[2]], hashlib.sha256(content).hexdigest())


async def static(request: Request) -> Response:
    """Answer with a static file; a browser that has it need not load it again."""
    name = request.path_params["name"]
    if name not in list_static_files() or name.rpartition(".")[2] not in TYPES:
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

"""Whatever goes wrong is answered in one shape: {error: {code, message, hint}}."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from retrainer.api.responses import DocumentResponse
from retrainer.errors import DatabaseError, RetrainerError, ServerBusy
from retrainer.render.documents.errors import ErrorText, Failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import JSONResponse

log = logging.getLogger(__name__)

_SHOWN = 80  # letters of a wrong value that a message repeats
_LOWEST_FAULT = 500  # from this status on the caller is not to blame
_TRY_AGAIN_SECONDS = "5"
_PASSING = (DatabaseError, ServerBusy)  # what may be over soon
_OF_HTTP = {
    400: ("bad_request", "The body must be one JSON object"),
    404: ("not_found", "/openapi.json lists the paths"),
    408: ("too_slow", "Send the whole body at once"),
    413: ("too_large", ""),
    405: ("method_not_allowed", "/openapi.json lists the methods of each path"),
}


def failure(
    status: int, code: str, message: str, *, hint: str = "", headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Make the answer to a request that failed."""
    error = ErrorText(code=code, message=_escape_surrogates(message), hint=hint)
    return DocumentResponse(Failure(error=error), status, headers)


def fault(error: Exception) -> JSONResponse:
    """Make the answer to a request that met a fault of ours; what it was is for the log alone."""
    log.error("Unexpected %s\n%s", type(error).__name__, "".join(traceback.format_exception(error)).rstrip())
    return failure(500, RetrainerError.code, "an unexpected error", hint="The log of the server says more")


def stopping() -> JSONResponse:
    """Make the answer to a request that was not done when the server had to stop."""
    return failure(503, "stopping", "the server stopped before this was done", headers={"Connection": "close"})


def add_handlers(app: FastAPI) -> None:
    """Answer every kind of error in the one shape."""
    handlers: dict[type[Exception], Callable[[Request, Any], Awaitable[JSONResponse]]] = {
        RetrainerError: _of_ours,
        RequestValidationError: _of_parameters,
        HTTPException: _of_http,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _of_ours(_request: Request, error: RetrainerError) -> JSONResponse:
    if error.http_status >= _LOWEST_FAULT:
        log.error("%s", error)
    headers = {"Retry-After": _TRY_AGAIN_SECONDS} if isinstance(error, _PASSING) else None
    return failure(error.http_status, error.code, error.message, hint=error.hint, headers=headers)


async def _of_parameters(_request: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    place, *path = (str(part) for part in first["loc"])
    name = ".".join(path) if path and not path[0].isdigit() else place
    said = first["msg"].removeprefix("Input ").removeprefix("String ").removeprefix("Value error, ")
    said = said.replace("should be", "it must be", 1).replace("should have", "it must have", 1)
    if first["type"] == "missing":
        return failure(422, "usage", f"{name} is missing")
    if first["type"] == "json_invalid":
        said = f"it is not JSON: {first['ctx']['error']}"
        return failure(422, "usage", f"the body: {said}", hint="Send one JSON object")
    if path == [] and place == "body":
        return failure(
            422, "usage", "body: it is not one JSON object", hint="Send it as Content-Type: application/json"
        )
    if first["type"] == "extra_forbidden":
        return failure(422, "usage", f"unknown key '{_cut(name)}' in the {place}", hint="/openapi.json lists them")
    return failure(422, "usage", f"{_cut(name)}: '{_cut(str(first['input']))}' is not allowed: {said}")


async def _of_http(_request: Request, error: HTTPException) -> JSONResponse:
    code, hint = _OF_HTTP.get(error.status_code, ("http", ""))
    return failure(error.status_code, code, error.detail.lower(), hint=hint, headers=error.headers)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _escape_surrogates(text: str) -> str:
    """Escape what is no letter, such as half of a surrogate pair, which JSON can carry and UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode()

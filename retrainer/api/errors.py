"""Answers to requests that failed, all in one shape: {error: {code, message, hint}}."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from retrainer.api.responses import DocumentResponse
from retrainer.errors import RetrainerError, UnknownName
from retrainer.escapes import shorten
from retrainer.logs import WITH_TRACEBACK
from retrainer.render.documents.base import ErrorTextDocument, FailureDocument
from retrainer.web.pages import answer_error, retry_headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger(__name__)

MAX_VALUE_LENGTH = 80  # of an invalid value in a message
SERVER_ERROR = 500  # the lowest status that is not the caller's fault
NOT_FOUND = 404
_HTTP_ERRORS = {  # code and hint, by status
    400: ("bad_request", "The body must be one JSON object"),
    404: ("not_found", "/openapi.json lists the paths"),
    408: ("too_slow", "Send the whole body at once"),
    413: ("too_large", ""),
    405: ("method_not_allowed", "/openapi.json lists the methods of each path"),
}


def failure(
    status: int, code: str, message: str, *, hint: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """Return the answer to a request that failed."""
    shown = message.encode("utf-8", "backslashreplace").decode()  # JSON can carry lone surrogates, UTF-8 cannot
    error = ErrorTextDocument(code=code, message=shown, hint=hint)
    return DocumentResponse(FailureDocument(error=error), status, headers)


def internal_error(error: Exception) -> Response:
    """Log an unexpected exception and return an answer that reveals nothing about it."""
    log.error("Unexpected %s", type(error).__name__, exc_info=error, extra={WITH_TRACEBACK: True})
    return failure(500, RetrainerError.code, "an unexpected error", hint="See the log of the server")


def stopping() -> Response:
    """Return the answer to a request that was still running when the server had to stop."""
    return failure(503, "stopping", "the server stopped before this was done", headers={"Connection": "close"})


def add_error_handlers(app: FastAPI) -> None:
    """Answer every kind of error in the one shape."""
    handlers: dict[type[Exception], Callable[[Request, Any], Awaitable[Response]]] = {
        RetrainerError: _handle_error,
        RequestValidationError: _handle_invalid_request,
        HTTPException: _handle_http_error,
    }
    for error_type, handler in handlers.items():
        app.add_exception_handler(error_type, handler)


async def _handle_error(_request: Request, error: RetrainerError) -> Response:
    if error.http_status >= SERVER_ERROR:
        log.error("%s", error)
    return failure(error.http_status, error.code, error.message, hint=error.hint, headers=retry_headers(error))


async def _handle_invalid_request(_request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    location, *path = (str(part) for part in first["loc"])
    name = shorten(".".join(path) if path and not path[0].isdigit() else location, MAX_VALUE_LENGTH)
    hint = ""
    if first["type"] == "missing":
        message = f"{name} is missing"
    elif first["type"] == "json_invalid":
        message, hint = f"body: not JSON: {first['ctx']['error']}", "Send one JSON object"
    elif location == "body" and not path:
        message, hint = "body: not one JSON object", "Send it as Content-Type: application/json"
    elif first["type"] == "extra_forbidden":
        message, hint = f"unknown key '{name}' in the {location}", "/openapi.json lists them"
    else:
        requirement = first["msg"].removeprefix("Input ").removeprefix("String ").removeprefix("Value error, ")
        message = f"{name}: invalid value '{shorten(str(first['input']), MAX_VALUE_LENGTH)}': {requirement}"
    return failure(422, "usage", message, hint=hint)


async def _handle_http_error(request: Request, error: HTTPException) -> Response:
    is_browser = "text/html" in request.headers.get("accept", "")
    if error.status_code == NOT_FOUND and request.method == "GET" and is_browser:
        missing = UnknownName(
            f"no page '{shorten(request.url.path, MAX_VALUE_LENGTH)}'",
            hint="Start from the first page, which links to all others",
        )
        return await answer_error(request, missing)
    code, hint = _HTTP_ERRORS.get(error.status_code, ("http", ""))
    return failure(error.status_code, code, error.detail.lower(), hint=hint, headers=error.headers)

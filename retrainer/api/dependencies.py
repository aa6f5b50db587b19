"""What the endpoints share: the state of the server, threads, and the types of their parameters."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator, Field

from retrainer.api.metrics import Metrics
from retrainer.api.project_metrics import ProjectMetrics
from retrainer.api.responses import DocumentResponse, document_body
from retrainer.errors import UsageError, did_you_mean
from retrainer.model_types import ModelTypeName
from retrainer.render.documents.base import Document, FailureDocument
from retrainer.serving.threads import Work
from retrainer.streams import MAX_CHARACTERS, check_stream_name
from retrainer.web.site import Caching, Site

if TYPE_CHECKING:
    from fastapi.routing import APIRoute


@dataclass(frozen=True, kw_only=True)
class AppState(Site):
    """What the pages use of a server, and the metrics."""

    metrics: Metrics
    project_metrics: ProjectMetrics


async def _get_state(request: Request) -> AppState:
    state: AppState = request.app.state.site
    return state


async def reject_unknown_parameters(request: Request) -> None:
    """Reject a query parameter that the endpoint does not have, such as a misspelled one, or that is given too often.

    Raises:
        UsageError: there is one.
    """
    route: APIRoute = request.scope["route"]
    known = {field.alias: field.field_info.annotation for field in route.dependant.query_params}
    for name in request.query_params:
        if name not in known:
            hint = did_you_mean(name, list(known)) or f"Known parameters: {', '.join(known) or 'none'}"
            raise UsageError(f"unknown parameter '{name[:80]}'", hint=hint)
        is_list = any(get_origin(part) is list for part in get_args(known[name]))
        if not is_list and len(request.query_params.getlist(name)) > 1:
            raise UsageError(f"the parameter '{name}' is given more than once", hint="Give it once")


State = Annotated[AppState, Depends(_get_state)]
_CHARACTER = r"[^\x00-\x1f\x7f-\x9f]"
_NAME_SCHEMA = {  # what `check_stream_name` checks
    "minLength": 1,
    "maxLength": MAX_CHARACTERS,
    "pattern": rf"^{_CHARACTER}*[^\x00-\x1f\x7f-\x9f\s]{_CHARACTER}*$",
}
_Name = Annotated[str, AfterValidator(check_stream_name), Field(json_schema_extra=_NAME_SCHEMA)]
OneStream = Annotated[
    _Name | None, Query(alias="stream", description="The stream of the model; required if there are several.")
]
VersionStream = Annotated[
    _Name | None,
    Query(
        alias="stream",
        description="The stream of the version; required with `@production`, `@previous` or `@latest` if there are "
        "several streams.",
    ),
]
RunStream = Annotated[_Name | None, Query(alias="stream", description="The stream of the run.")]
ManyStreams = Annotated[
    list[_Name] | None,
    Query(
        alias="stream",
        max_length=100,
        description="Only this stream, or those that match a pattern such as `news_*`. Repeatable.",
    ),
]
OptionalModelType = Annotated[ModelTypeName | None, Query(description="Only this model type.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="The maximum number to return.")]
Page = Annotated[int, Query(ge=1, le=1_000_000, description="The page, from 1.")]
VersionId = Annotated[
    str,
    Path(
        min_length=1,
        max_length=200,
        description="The id of a version, a unique part of it, or `timing@production`, `@previous`, `@latest`.",
    ),
]


def in_thread(
    work: Work, *, status: int = 200, cached: Caching = "never"
) -> Callable[[Callable[..., Document]], Callable[..., Awaitable[Any]]]:
    """Run an endpoint in a thread, and answer with the document that it returns.

    Args:
        work: the kind of work.
        status: the HTTP status of the answer.
        cached: whether the document is cached; see `Site.respond`.
    """

    def decorate(endpoint: Callable[..., Document]) -> Callable[..., Awaitable[Any]]:
        @wraps(endpoint)
        async def run(**parameters: Any) -> DocumentResponse:
            state: AppState = parameters["state"]

            def answer() -> bytes:
                return document_body(endpoint(**parameters))

            values = (value for name, value in parameters.items() if name != "state")
            key = (endpoint, *(tuple(value) if isinstance(value, list) else value for value in values))
            return DocumentResponse(await state.respond(work, cached, key, answer), status)

        return run

    return decorate


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the failures of an endpoint for OpenAPI: these statuses, and those that any endpoint may answer with."""
    descriptions = {
        400: "The body cannot be read.",
        401: "The token is missing or wrong.",
        403: "The host name is not allowed, or the request comes from a web page.",
        404: "The stream, version or run does not exist.",
        408: "The body was not received in time.",
        409: "A conflict: a run is in progress, production has changed, or there is too little data.",
        413: "The body is too large.",
        422: "A parameter is invalid.",
        500: "Model files were changed, or an algorithm failed.",
        503: "The database is unreachable, or an algorithm takes too long or has no credentials.",
    }
    return {
        status: {"model": FailureDocument, "description": descriptions[status]}
        for status in sorted({401, 403, 408, 413, 422, 503, *statuses})
    }

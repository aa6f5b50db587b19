"""What the endpoints share: the project, the threads, and the types of their parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Path, Query, Request

from retrainer.api.auth import Auth
from retrainer.api.cache import Kept
from retrainer.api.metrics import Monitoring
from retrainer.api.runs import Jobs
from retrainer.api.threads import Work
from retrainer.errors import UsageError, did_you_mean
from retrainer.model_types import ModelTypeName
from retrainer.project import Project
from retrainer.render.documents.errors import Failure
from retrainer.runtime import Runtime

if TYPE_CHECKING:
    from fastapi.routing import APIRoute


@dataclass(frozen=True)
class Service:
    """One server's project and what it works with."""

    project: Project
    runtime: Runtime
    access: Auth
    work: Work
    jobs: Jobs
    kept: Kept
    monitoring: Monitoring


async def _service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def reject_unknown_parameters(request: Request) -> None:
    """Refuse a parameter that an endpoint does not have: a misspelled `limit` would be ignored without a word.

    Raises:
        UsageError: there is one.
    """
    route: APIRoute = request.scope["route"]
    known = [field.alias for field in route.dependant.query_params]
    for name in request.query_params:
        if name not in known:
            hint = did_you_mean(name, known) or f"Known here: {', '.join(known) or 'none'}"
            raise UsageError(f"unknown parameter '{name[:80]}'", hint=hint)


Of = Annotated[Service, Depends(_service_of)]
OptionalModelType = Annotated[ModelTypeName | None, Query(description="Only timing or only content.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]
VersionId = Annotated[str, Path(min_length=1, max_length=200, description="A version id.")]


def answers(*statuses: int) -> Mapping[int | str, dict[str, Any]]:
    """Document which failures an endpoint may answer, beside 422 and 503, which any may."""
    meanings = {
        400: "The body cannot be read.",
        401: "The token is missing or wrong.",
        403: "A web page called.",
        404: "There is no such version or run.",
        408: "The body does not come.",
        409: "Not in this state: a run is in progress, production changed, or there is too little data.",
        413: "The body is too large.",
        422: "A parameter is wrong.",
        500: "Model files were changed, or an algorithm failed.",
        503: "The database is out of reach, or an algorithm takes too long or has nothing to log in with.",
    }
    return {
        status: {"model": Failure, "description": meanings[status]}
        for status in sorted({401, 403, 408, 413, 422, 503, *statuses})
    }

"""The endpoints that change something."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from retrainer.api.dependencies import Of, VersionId, answers, reject_unknown_parameters
from retrainer.api.middleware import TrustedRoute
from retrainer.api.responses import DocumentResponse
from retrainer.errors import UsageError
from retrainer.model_types import ModelTypeName
from retrainer.pipeline.promotion import promote_version, roll_back
from retrainer.render.documents.runs import Started
from retrainer.render.documents.versions import Changed


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


# PostgreSQL keeps no NUL in a text.
Reason = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$", description="Why, for the record.")]


class RetrainOptions(_Options):
    """How to retrain."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model_type": "timing"}]})

    model_type: Annotated[ModelTypeName | None, Field(description="Only this model type; otherwise both.")] = None
    auto_promote: Annotated[bool | None, Field(description="Instead of retraining.auto_promote.")] = None


class PromoteOptions(_Options):
    """How to promote."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "Reviewed"}]})

    reason: Reason = "Promoted through the API"


class RollbackOptions(_Options):
    """How to roll back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "Too many misses", "hold": True}]})

    to: Annotated[
        str | None,
        Field(min_length=1, max_length=200, description="Go back until this version is live; otherwise one step."),
    ] = None
    reason: Reason = "Rolled back through the API"
    hold: Annotated[bool, Field(description="Stop automatic promotion of the type until `retrainer release`.")] = True


async def _no_null(request: Request) -> None:
    """Refuse a body of `null`, which is no object; whether FastAPI takes it for none at all depends on its release.

    Raises:
        UsageError: it is one.
    """
    if (await request.body()).strip() == b"null":
        raise UsageError("body: it is not one JSON object", hint="Send {} or nothing for the defaults")


router = APIRouter(
    prefix="/models",
    tags=["change"],
    route_class=TrustedRoute,
    dependencies=[Depends(reject_unknown_parameters), Depends(_no_null)],
)
Retrain = Annotated[RetrainOptions, Body(default_factory=RetrainOptions)]
Promote = Annotated[PromoteOptions, Body(default_factory=PromoteOptions)]
Rollback = Annotated[RollbackOptions, Body(default_factory=RollbackOptions)]


@router.post("/retrain", status_code=202, responses={202: {"model": Started}, **answers(400, 409, 500)})
async def retrain(service: Of, options: Retrain) -> DocumentResponse:
    """Start a run of each model type, in the background.

    The runs are in the training history before this answers, and go on if the server stops.
    """
    ids = await service.work.change(service.jobs.start, options.model_type, auto_promote=options.auto_promote)
    return DocumentResponse(Started.from_run_ids(ids), 202)


@router.post("/promote/{version_id}", responses={200: {"model": Changed}, **answers(400, 404, 409, 500)})
async def promote(service: Of, version_id: VersionId, options: Promote) -> DocumentResponse:
    """Put a version live by hand."""
    now = datetime.now(UTC)
    change = await service.work.change(
        promote_version, service.project, service.runtime, version_id, options.reason, now
    )
    message = f"Model {version_id} promoted to production" if change else f"Model {version_id} is in production already"
    return DocumentResponse(Changed.from_change(change, version_id, message))


@router.post("/rollback/{model_type}", responses={200: {"model": Changed}, **answers(400, 404, 409, 500)})
async def rollback(service: Of, model_type: ModelTypeName, options: Rollback) -> DocumentResponse:
    """Undo the latest promotion: the version before goes live."""
    change = await service.work.change(
        roll_back,
        service.project,
        service.runtime,
        model_type,
        options.reason,
        datetime.now(UTC),
        to=options.to,
        hold=options.hold,
    )
    message = f"Rolled back from {change.from_version} to {change.to_version}"
    if options.hold:
        message += f"; automatic promotion is on hold until `retrainer release {model_type}`"
    return DocumentResponse(Changed.from_change(change, change.to_version, message))

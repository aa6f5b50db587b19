"""The endpoints that change something."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request
from fastapi.responses import JSONResponse

from retrainer.api.dependencies import Of, VersionId, answers, reject_unknown_parameters
from retrainer.api.middleware import TrustedRoute
from retrainer.errors import UsageError
from retrainer.model_types import ModelTypeName
from retrainer.pipeline.promotion import promote_version, roll_back
from retrainer.render import documents, schemas


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
Retrain = Annotated[schemas.RetrainOptions, Body(default_factory=schemas.RetrainOptions)]
Promote = Annotated[schemas.PromoteOptions, Body(default_factory=schemas.PromoteOptions)]
Rollback = Annotated[schemas.RollbackOptions, Body(default_factory=schemas.RollbackOptions)]


@router.post("/retrain", status_code=202, responses={202: {"model": schemas.Started}, **answers(400, 409, 500)})
async def retrain(service: Of, options: Retrain) -> JSONResponse:
    """Start a run of each model type, in the background.

    The runs are in the training history before this answers, and go on if the server stops.
    """
    ids = await service.work.change(service.jobs.start, options.model_type, auto_promote=options.auto_promote)
    return JSONResponse(documents.started_document(ids), 202)


@router.post("/promote/{version_id}", responses={200: {"model": schemas.Changed}, **answers(400, 404, 409, 500)})
async def promote(service: Of, version_id: VersionId, options: Promote) -> JSONResponse:
    """Put a version live by hand."""
    now = datetime.now(UTC)
    change = await service.work.change(
        promote_version, service.project, service.runtime, version_id, options.reason, now
    )
    message = f"Model {version_id} promoted to production" if change else f"Model {version_id} is in production already"
    return JSONResponse(documents.change_document(message, version_id, change))


@router.post("/rollback/{model_type}", responses={200: {"model": schemas.Changed}, **answers(400, 404, 409, 500)})
async def rollback(service: Of, model_type: ModelTypeName, options: Rollback) -> JSONResponse:
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
    return JSONResponse(documents.change_document(message, change.to_version, change))

"""The endpoints that change something."""

from datetime import UTC, datetime

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from retrainer import documents
from retrainer.api import schemas
from retrainer.api.gate import TrustedRoute
from retrainer.api.service import Of, VersionId, answers, only_known_parameters
from retrainer.model_types import ModelTypeName
from retrainer.pipeline.promotion import promote_by_hand, roll_back

router = APIRouter(
    prefix="/models", tags=["change"], route_class=TrustedRoute, dependencies=[Depends(only_known_parameters)]
)


@router.post("/retrain", status_code=202, responses={202: {"model": schemas.Started}, **answers(400, 409, 500)})
async def retrain(service: Of, options: schemas.RetrainOptions | None = None) -> JSONResponse:
    """Start a run of each model type, in the background.

    The runs are in the training history before this answers, and go on if the server stops.
    """
    chosen = options or schemas.RetrainOptions()
    ids = await service.work.change(service.jobs.start, chosen.model_type, auto_promote=chosen.auto_promote)
    return JSONResponse(documents.started_document(ids), 202)


@router.post("/promote/{version_id}", responses={200: {"model": schemas.Changed}, **answers(400, 404, 409, 500)})
async def promote(service: Of, version_id: VersionId, options: schemas.PromoteOptions | None = None) -> JSONResponse:
    """Put a version live by hand."""
    reason = (options or schemas.PromoteOptions()).reason
    change = await service.work.change(promote_by_hand, service.project, version_id, reason, datetime.now(UTC))
    message = f"Model {version_id} promoted to production" if change else f"Model {version_id} is in production already"
    return JSONResponse(documents.change_document(message, version_id, change))


@router.post("/rollback/{model_type}", responses={200: {"model": schemas.Changed}, **answers(400, 404, 409, 500)})
async def rollback(
    service: Of, model_type: ModelTypeName, options: schemas.RollbackOptions | None = None
) -> JSONResponse:
    """Undo the latest promotion: the version before goes live."""
    chosen = options or schemas.RollbackOptions()
    change = await service.work.change(
        roll_back,
        service.project,
        model_type,
        chosen.reason,
        datetime.now(UTC),
        to=chosen.to,
        hold=chosen.hold,
    )
    message = f"Rolled back from {change.from_version} to {change.to_version}"
    if chosen.hold:
        message += f"; automatic promotion is on hold until `retrainer release {model_type}`"
    return JSONResponse(documents.change_document(message, change.to_version, change))

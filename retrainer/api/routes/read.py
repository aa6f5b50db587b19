"""The endpoints that only look."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse

from retrainer.api.dependencies import (
    Limit,
    Of,
    OptionalModelType,
    Service,
    VersionId,
    answers,
    reject_unknown_parameters,
)
from retrainer.api.middleware import unauthorized
from retrainer.api.responses import DocumentResponse
from retrainer.model_types import MODEL_TYPE_NAMES, ModelTypeName
from retrainer.model_types.timing import INTERVAL_LEVEL
from retrainer.pipeline.comparing import compare_versions
from retrainer.pipeline.forecast import predict_next
from retrainer.pipeline.loading import is_paid
from retrainer.pipeline.recovery import recover
from retrainer.project import Project
from retrainer.registry.promotions import PRODUCTION_CHANGE_ACTIONS
from retrainer.registry.runs import RunFilter
from retrainer.render.documents.evaluations import Comparison
from retrainer.render.documents.forecasts import NextContent, NextTiming, next_post_document
from retrainer.render.documents.runs import History, Run
from retrainer.render.documents.versions import Production, VersionLife, Versions

router = APIRouter(prefix="/models", tags=["look"], dependencies=[Depends(reject_unknown_parameters)])
MAY_COST = ("/models/compare/", "/models/predict/")  # forecasts, which some algorithms pay for
RunId = Annotated[str, Path(min_length=1, max_length=200, description="A run id.")]


@router.get("/production", responses={200: {"model": Production}, **answers()})
async def production(service: Of) -> JSONResponse:
    """Say which versions are live."""

    def document() -> Production:
        registry = service.project.registry
        return Production.from_rows({kind: registry.get_production(kind) for kind in MODEL_TYPE_NAMES})

    return DocumentResponse(await service.work.look(document))


@router.get("/versions", responses={200: {"model": Versions}, **answers()})
async def versions(service: Of, model_type: OptionalModelType = None, limit: Limit = 20) -> JSONResponse:
    """List versions, the newest first."""

    def document() -> Versions:
        return Versions.from_rows(service.project.registry.list_versions(model_type, limit))

    return DocumentResponse(await service.work.look(document))


@router.get("/versions/{version_id}", responses={200: {"model": VersionLife}, **answers(404, 500)})
async def version(service: Of, version_id: VersionId) -> JSONResponse:
    """Show one version: its training, its scores, the decisions about it."""

    def document() -> VersionLife:
        registry, kept = service.project.registry, service.kept
        found = registry.get_version(version_id)
        evaluations = [(row, kept.reliability(found, row)) for row in registry.list_evaluations(version_id)]
        life = registry.version_history(version_id)
        return VersionLife.from_rows(found, evaluations, life, kept.importance(found))

    return DocumentResponse(await service.work.inspect(document))


@router.get("/training-history", responses={200: {"model": History}, **answers()})
async def training_history(
    service: Of,
    model_type: OptionalModelType = None,
    limit: Limit = 10,
    page: Annotated[int, Query(ge=1, le=1_000_000, description="Which page of so many runs, 1 the newest.")] = 1,
    status: Annotated[
        Literal["running", "completed", "failed"] | None, Query(description="Only runs of this status.")
    ] = None,
    promoted: Annotated[bool | None, Query(description="Only runs that promoted their version, or not.")] = None,
) -> JSONResponse:
    """Show training runs, the newest first, and the latest changes of production, whichever runs are asked for."""

    def document() -> History:
        registry = _looked_after(service).registry
        which = RunFilter(status=status, promoted=promoted, offset=(page - 1) * limit)
        changes = registry.list_ledger_entries(model_type=model_type, actions=PRODUCTION_CHANGE_ACTIONS, limit=limit)
        return History.from_rows(
            registry.list_runs(model_type, limit, which), registry.count_runs(model_type, which), changes
        )

    return DocumentResponse(await service.work.look(document))


@router.get("/training-history/{run_id}", responses={200: {"model": Run}, **answers(404)})
async def run(service: Of, run_id: RunId) -> JSONResponse:
    """Show one run."""

    def document() -> Run:
        return Run.model_validate(_looked_after(service).registry.get_run(run_id))

    return DocumentResponse(await service.work.look(document))


@router.get("/compare/{version_a}/{version_b}", responses={200: {"model": Comparison}, **answers(404, 409, 500)})
async def compare(service: Of, request: Request, version_a: VersionId, version_b: VersionId) -> JSONResponse:
    """Score two versions on the same posts, those later than the training of both.

    Where a token is set and the forecasts cost money, it is asked for.
    """
    a, b = [await service.work.look(service.project.registry.get_version, name) for name in (version_a, version_b)]

    def answer() -> JSONResponse:
        if not request.state.trusted and (is_paid(service.runtime, a) or is_paid(service.runtime, b)):
            return unauthorized(wrong=False)
        return DocumentResponse(
            Comparison.from_result(compare_versions(service.project, service.runtime, a, b, datetime.now(UTC)))
        )

    return await service.work.forecast(answer)


@router.get("/predict/timing", responses={200: {"model": NextTiming}, **answers(409, 500)})
async def predict_timing(
    service: Of,
    request: Request,
    interval: Annotated[
        float, Query(ge=0.02, le=0.98, description="With which probability the interval holds the next post.")
    ] = INTERVAL_LEVEL,
) -> JSONResponse:
    """Forecast when the next post comes, with the version in production.

    Where a token is set and the forecast costs money, it is asked for.
    """
    return await _predicted(service, request, "timing", interval)


@router.get("/predict/content", responses={200: {"model": NextContent}, **answers(409, 500)})
async def predict_content(service: Of, request: Request) -> JSONResponse:
    """Forecast what the next post says, with the version in production.

    Where a token is set and the forecast costs money, it is asked for.
    """
    return await _predicted(service, request, "content", INTERVAL_LEVEL)


async def _predicted(service: Service, request: Request, model_type: ModelTypeName, level: float) -> JSONResponse:
    live = await service.work.look(service.project.registry.get_production, model_type)

    def answer() -> JSONResponse:
        if live is not None and not request.state.trusted and is_paid(service.runtime, live):
            return unauthorized(wrong=False)
        return DocumentResponse(
            next_post_document(predict_next(service.project, service.runtime, model_type, datetime.now(UTC), level))
        )

    return await service.work.forecast(answer)


def _looked_after(service: Service) -> Project:
    """Close the runs whose process is gone before they are shown as running."""
    if service.project.registry.find_dead_runs():
        recover(service.project, service.runtime)
    return service.project

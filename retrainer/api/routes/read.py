"""The endpoints that read."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from retrainer.api.dependencies import (
    AppState,
    Limit,
    ManyStreams,
    OneStream,
    OptionalModelType,
    RunStream,
    State,
    VersionId,
    VersionStream,
    failures,
    in_thread,
    reject_unknown_parameters,
)
from retrainer.api.middleware import unauthorized
from retrainer.api.responses import DocumentResponse, document_body
from retrainer.errors import UsageError
from retrainer.live.summary import score_versions
from retrainer.model_types import MODEL_TYPE_NAMES, ModelTypeName
from retrainer.model_types.timing import INTERVAL_LEVEL
from retrainer.pipeline.comparing import compare_versions
from retrainer.pipeline.forecast import Answering, choose_version, predict_next
from retrainer.pipeline.loading import is_paid
from retrainer.pipeline.simulation import MAX_DAYS, MAX_NEXT
from retrainer.project import Project
from retrainer.registry.promotions import PRODUCTION_CHANGE_ACTIONS
from retrainer.registry.runs import RunFilter
from retrainer.registry.tables import ModelVersion
from retrainer.render.documents.evaluations import ComparisonDocument
from retrainer.render.documents.forecasts import NextContentDocument, NextTimingDocument, next_post_document
from retrainer.render.documents.runs import HistoryDocument, RunDocument
from retrainer.render.documents.versions import ProductionDocument, VersionLifeDocument, VersionsDocument
from retrainer.times import parse_time_or_delay, parse_time_or_last

router = APIRouter(prefix="/models", tags=["look"], dependencies=[Depends(reject_unknown_parameters)])
T = TypeVar("T")
PAID_PREFIXES = ("/models/compare/", "/models/predict/")  # their forecasts may cost money
At = Annotated[
    str | None,
    Query(
        max_length=100,
        description="Forecast as of this past time (ISO 8601), knowing the posts up to it, or right after the last "
        "post (`last`). By default, now.",
    ),
]
Subject = Annotated[
    str | None,
    Query(
        description="The ID of the caller: during an A/B test, the same side always answers the same ID. By default, "
        "production answers.",
    ),
]
RunId = Annotated[str, Path(min_length=1, max_length=200, description="The id of a run.")]


@router.get("/production", responses=failures(404))
@in_thread("look", cached="always")
def production(state: State, stream: OneStream = None) -> ProductionDocument:
    """Return the production version of each model type."""
    project = state.streams.choose(stream)
    live = {name: project.registry.get_production(name) for name in MODEL_TYPE_NAMES}
    return ProductionDocument.from_rows(live, project.stream)


@router.get("/versions", responses=failures(404))
@in_thread("look", cached="always")
def versions(
    state: State, model_type: OptionalModelType = None, stream: ManyStreams = None, limit: Limit = 20
) -> VersionsDocument:
    """List versions, newest first."""
    return VersionsDocument.from_rows(state.streams.select(stream).list_versions(model_type, limit))


@router.get("/versions/{version_id}", response_model=VersionLifeDocument, responses=failures(404, 500))
async def version(state: State, version_id: VersionId, stream: VersionStream = None) -> Response:
    """Return one version: its training, its scores, the decisions about it."""
    registry, is_complete = state.project.registry, True

    def compute() -> bytes:
        nonlocal is_complete
        _, found = state.streams.find_version(version_id, stream)
        rows = registry.list_evaluations(found.version_id)
        evaluations = [(row, state.versions.reliability(found, row)) for row in rows]
        entries = registry.version_history(found.version_id)
        importance = state.versions.importance(found)
        explanation = registry.get_explanation(found.version_id)
        is_complete = importance is not None and all(reliability is not None for _, reliability in evaluations)
        scored = [(row, reliability or []) for row, reliability in evaluations]
        live = score_versions(registry.list_scored_versions([found.version_id])).get(found.version_id)
        return document_body(VersionLifeDocument.from_rows(found, scored, entries, importance or [], live, explanation))

    key = ("version", version_id, stream)
    keep = lambda: is_complete and state.streams.are_in_database()  # noqa: E731
    return DocumentResponse(await state.threads.run("inspect", state.responses.get, key, compute, keep))


@router.get("/training-history", responses=failures(404))
@in_thread("look", cached="without runs")
def training_history(
    state: State,
    model_type: OptionalModelType = None,
    stream: ManyStreams = None,
    limit: Limit = 10,
    page: Annotated[int, Query(ge=1, le=1_000_000, description="The page; page 1 is the newest.")] = 1,
    status: Annotated[
        Literal["running", "completed", "failed"] | None, Query(description="Only runs with this status.")
    ] = None,
    promoted: Annotated[bool | None, Query(description="Only runs that promoted their version, or not.")] = None,
) -> HistoryDocument:
    """List training runs, newest first, and the latest changes of production, regardless of the filters."""
    registry = state.streams.select(stream)
    run_filter = RunFilter(status=status, promoted=promoted, offset=(page - 1) * limit)
    runs = registry.list_runs(model_type, limit, run_filter)
    return HistoryDocument.from_rows(
        runs,
        registry.count_runs(model_type, run_filter),
        registry.list_ledger_entries(model_type=model_type, actions=PRODUCTION_CHANGE_ACTIONS, limit=limit),
        score_versions(registry.list_scored_versions(run.model_version_id for run in runs)),
    )


@router.get("/training-history/{run_id}", responses=failures(404))
@in_thread("look", cached="without runs")
def run(state: State, run_id: RunId, stream: RunStream = None) -> RunDocument:
    """Return one run."""
    return RunDocument.model_validate(state.streams.find_run(run_id, stream))


@router.get("/compare/{version_a}/{version_b}", response_model=ComparisonDocument, responses=failures(404, 409, 500))
async def compare(
    state: State, request: Request, version_a: VersionId, version_b: VersionId, stream: VersionStream = None
) -> Response:
    """Score two versions on the same posts, those later than the training data of both.

    If a token is set and the forecasts cost money, the token is required.
    """
    (project, a), (_, b) = [
        await state.threads.run("look", state.streams.find_version, name, stream) for name in (version_a, version_b)
    ]
    now = datetime.now(UTC)

    def compute() -> bytes:
        return document_body(ComparisonDocument.from_result(compare_versions(project, state.runtime, a, b, now)))

    def answer() -> bytes:
        return state.responses.get(
            ("compare", a.version_id, b.version_id), compute, lambda: project.posts.are_past(now)
        )

    return await _forecast(state, request, [a, b], answer)


@router.get("/predict/timing", response_model=NextTimingDocument, responses=failures(404, 409, 500))
async def predict_timing(
    state: State,
    request: Request,
    stream: OneStream = None,
    interval: Annotated[
        float, Query(ge=0.02, le=0.98, description="The probability that the interval contains the next post.")
    ] = INTERVAL_LEVEL,
    at: At = None,
    until: Annotated[
        str | None,
        Query(
            max_length=100,
            description=f"Also forecast the posts per day until then: an ISO 8601 time, or a delay such as 36h, 3d or "
            f"1w; {MAX_DAYS} days at most.",
        ),
    ] = None,
    next_posts: Annotated[
        int | None,
        Query(
            alias="next",
            ge=1,
            le=MAX_NEXT,
            description="Also forecast when each of the next N posts comes. By default, 10 with `until`.",
        ),
    ] = None,
    subject: Subject = None,
) -> Response:
    """Forecast when the next post comes, with the production version. The forecast may be one second old.

    If a token is set and the forecast costs money, the token is required.
    """
    return await _predict(state, request, "timing", stream, at, subject, interval, until, next_posts)


@router.get("/predict/content", response_model=NextContentDocument, responses=failures(404, 409, 500))
async def predict_content(
    state: State, request: Request, stream: OneStream = None, at: At = None, subject: Subject = None
) -> Response:
    """Forecast what the next post says, with the production version.

    If a token is set and the forecast costs money, the token is required.
    """
    return await _predict(state, request, "content", stream, at, subject)


async def _predict(
    state: AppState,
    request: Request,
    model_type: ModelTypeName,
    stream: str | None,
    at: str | None,
    subject: str | None,
    interval: float = INTERVAL_LEVEL,
    until: str | None = None,
    next_posts: int | None = None,
) -> Response:
    now = datetime.now(UTC)
    moment = _parse("at", at, parse_time_or_last)
    end = _parse("until", until, parse_time_or_delay)

    def find() -> tuple[Project, Answering]:
        project = state.streams.choose(stream)
        return project, choose_version(project, model_type, subject)

    project, (version, side, _) = await state.threads.run("look", find)

    def compute() -> bytes:
        next_post = predict_next(
            project,
            state.runtime,
            model_type,
            now,
            interval,
            at=moment,
            until=end,
            next_posts=next_posts,
            subject=subject,
        )
        return document_body(next_post_document(next_post))

    def answer() -> bytes:
        if model_type == "content":  # each text is another one
            return compute()
        key = ("timing", project.stream, side, interval, at, until, next_posts, int(now.timestamp()))
        return state.responses.get(key, compute, lambda: project.posts.are_past(now))

    return await _forecast(state, request, [version] if version else [], answer)


def _parse(name: str, text: str | None, parse: Callable[[str], T]) -> T | None:
    """Parse a parameter; None stays None."""
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None


async def _forecast(
    state: AppState, request: Request, versions: Sequence[ModelVersion], forecast: Callable[[], bytes]
) -> Response:
    """Answer with forecasts of versions, if they are free or the caller has the token."""

    def answer() -> Response:  # the plugins, which know whether forecasts are paid, may be slow to import
        if not request.state.trusted and any(is_paid(state.runtime, version) for version in versions):
            return unauthorized(wrong=False)
        return DocumentResponse(forecast())

    return await state.threads.run("forecast", answer)

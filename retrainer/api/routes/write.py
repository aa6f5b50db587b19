"""The endpoints that change something."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from retrainer.api.dependencies import (
    OneStream,
    State,
    VersionId,
    VersionStream,
    failures,
    in_thread,
    reject_unknown_parameters,
)
from retrainer.api.middleware import TrustedRoute
from retrainer.errors import UsageError
from retrainer.model_types import MODEL_TYPE_NAMES, ModelTypeName
from retrainer.pipeline.promotion import promote_version, roll_back
from retrainer.render.documents.runs import StartedDocument
from retrainer.render.documents.versions import ChangedDocument


class Options(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", strict=True)


# PostgreSQL cannot store NUL in a text.
Reason = Annotated[
    str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$", description="The reason, for the record.")
]


class RetrainOptions(Options):
    """How to retrain."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model_type": "timing"}]})

    model_type: Annotated[ModelTypeName | None, Field(description="Only this model type. By default, both.")] = None
    auto_promote: Annotated[bool | None, Field(description="Overrides retraining.auto_promote.")] = None
    all_streams: Annotated[
        bool,
        Field(description="Retrain all streams; the response then has no run IDs, and the log is in `logs/runs/`."),
    ] = False
    jobs: Annotated[int | None, Field(ge=1, le=256, description="With all_streams: train N at a time.")] = None
    max_cost: Annotated[
        float | None,
        Field(
            ge=0,
            le=1e9,
            description="With all_streams: the maximum total cost of paid forecasts, in US dollars; required if any "
            "model is paid.",
        ),
    ] = None


class PromoteOptions(Options):
    """How to promote."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "Reviewed"}]})

    reason: Reason = "Promoted through the API"
    refit: Annotated[
        bool | None, Field(description="Fit it again on all posts first, or not. Overrides retraining.refit.")
    ] = None


class RollbackOptions(Options):
    """How to roll back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "Too many misses", "hold": True}]})

    to: Annotated[
        str | None,
        Field(min_length=1, max_length=200, description="Roll back to this version. By default, undo one promotion."),
    ] = None
    reason: Reason = "Rolled back through the API"
    hold: Annotated[bool, Field(description="Stop automatic promotion until `retrainer release`.")] = True


async def reject_null(request: Request) -> None:
    """Reject the body `null`, which FastAPI would treat as no body.

    Raises:
        UsageError: the body is `null`.
    """
    if (await request.body()).strip() == b"null":
        raise UsageError("body: not one JSON object", hint="Send {} or nothing for the defaults")


router = APIRouter(
    prefix="/models",
    tags=["change"],
    route_class=TrustedRoute,
    dependencies=[Depends(reject_unknown_parameters), Depends(reject_null)],
)
Retrain = Annotated[RetrainOptions, Body(default_factory=RetrainOptions)]
Promote = Annotated[PromoteOptions, Body(default_factory=PromoteOptions)]
Rollback = Annotated[RollbackOptions, Body(default_factory=RollbackOptions)]


@router.post("/retrain", status_code=202, responses=failures(400, 404, 409, 500))
@in_thread("change", status=202)
def retrain(state: State, options: Retrain, stream: OneStream = None) -> StartedDocument:
    """Start a run of each model type in the background.

    Returns once the runs are recorded; with all_streams, once the process has started.
    """
    if options.all_streams:
        if stream is not None:
            raise UsageError("stream and all_streams exclude each other", hint="Omit one")
        state.runs.start_all(
            options.model_type, auto_promote=options.auto_promote, jobs=options.jobs, max_cost=options.max_cost
        )
        return StartedDocument.from_run_ids(dict.fromkeys(MODEL_TYPE_NAMES))
    for name in ("jobs", "max_cost"):
        if getattr(options, name) is not None:
            raise UsageError(f"{name} applies to all streams only", hint="Set all_streams, or omit it")
    project = state.streams.choose(stream)
    return StartedDocument.from_run_ids(
        state.runs.start(project, options.model_type, auto_promote=options.auto_promote)
    )


@router.post("/promote/{version_id}", responses=failures(400, 404, 409, 500))
@in_thread("change")
def promote(state: State, version_id: VersionId, options: Promote, stream: VersionStream = None) -> ChangedDocument:
    """Promote a version to production."""
    project, version = state.streams.find_version(version_id, stream)
    found, now = version.version_id, datetime.now(UTC)
    change = promote_version(project, state.runtime, found, options.reason, now, refit=options.refit)
    return ChangedDocument.from_promotion(change, found, project.stream)


@router.post("/rollback/{model_type}", responses=failures(400, 404, 409, 500))
@in_thread("change")
def rollback(state: State, model_type: ModelTypeName, options: Rollback, stream: OneStream = None) -> ChangedDocument:
    """Undo the latest promotion: the previous version returns to production."""
    project = state.streams.choose(stream)
    to = None if options.to is None else project.registry.find_version(options.to, model_type).version_id
    now = datetime.now(UTC)
    change = roll_back(project, state.runtime, model_type, options.reason, now, to=to, hold=options.hold)
    return ChangedDocument.from_rollback(change, hold=options.hold, several=len(project.list_streams()) > 1)

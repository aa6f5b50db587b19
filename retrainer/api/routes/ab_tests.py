"""The endpoints of A/B tests."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Depends
from pydantic import ConfigDict, Field

from retrainer.api.dependencies import OneStream, State, failures, in_thread, reject_unknown_parameters
from retrainer.api.middleware import TrustedRoute
from retrainer.api.routes.write import Options, Reason, reject_null
from retrainer.errors import UnknownName
from retrainer.live.ab_tests import (
    LEVEL,
    MAX_POSTS,
    ABTestState,
    check_test,
    get_latest_test,
    measure_test,
    start_test,
    stop_test,
)
from retrainer.model_types import ModelTypeName
from retrainer.render.documents.ab_tests import ABTestDocument


class ABStartOptions(Options):
    """How to test a challenger."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"challenger": "prophet_timing_20251106_120000_a3f2", "share": 20}]}
    )

    challenger: Annotated[
        str,
        Field(
            min_length=1,
            max_length=200,
            description="The version to test: its ID, a unique part of it, or `@previous`, `@latest`.",
        ),
    ]
    share: Annotated[
        float, Field(ge=0, le=100, description="The percentage of subjects that the challenger answers.")
    ] = 0
    max_posts: Annotated[int, Field(ge=1, le=100_000, description="End undecided after this many live posts.")] = (
        MAX_POSTS
    )
    level: Annotated[float, Field(ge=0.0001, le=0.5, description="The maximum probability of a wrong decision.")] = (
        LEVEL
    )
    max_cost: Annotated[
        float | None,
        Field(ge=0, le=1e9, description="The maximum cost of each side's paid forecasts; required if there are any."),
    ] = None
    reason: Reason = "Started through the API"


class ABStopOptions(Options):
    """How to end a test."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"outcome": "keep", "reason": "Too small a difference"}]})

    outcome: Annotated[
        Literal["promote", "keep"] | None,
        Field(description="Promote the challenger, or record that production was kept. By default, neither."),
    ] = None
    reason: Reason = "A/B test stopped through the API"


look = APIRouter(prefix="/models/ab-tests", tags=["look"], dependencies=[Depends(reject_unknown_parameters)])
change = APIRouter(
    prefix="/models/ab-tests",
    tags=["change"],
    route_class=TrustedRoute,
    dependencies=[Depends(reject_unknown_parameters), Depends(reject_null)],
)
Stop = Annotated[ABStopOptions, Body(default_factory=ABStopOptions)]


@look.get("/{model_type}", responses=failures(404))
@in_thread("look", cached="always")
def ab_test(state: State, model_type: ModelTypeName, stream: OneStream = None) -> ABTestDocument:
    """Return the running A/B test or, if none is running, the last one, with the scores recorded so far."""
    project = state.streams.choose(stream)
    test = get_latest_test(project, model_type)
    return _document(None if test is None else measure_test(project, test, datetime.now(UTC)), model_type)


@change.post("/{model_type}/start", responses=failures(400, 404, 409, 500))
@in_thread("change")
def start_ab_test(
    state: State, model_type: ModelTypeName, options: ABStartOptions, stream: OneStream = None
) -> ABTestDocument:
    """Start an A/B test of a version against production."""
    project = state.streams.choose(stream)
    found = start_test(
        project,
        state.runtime,
        model_type,
        project.registry.find_version(options.challenger, model_type).version_id,
        options.reason,
        datetime.now(UTC),
        share=options.share,
        max_posts=options.max_posts,
        level=options.level,
        max_cost=options.max_cost,
    )
    return ABTestDocument.from_state(found)


@change.post("/{model_type}/decide", responses=failures(400, 404, 409, 500))
@in_thread("change")
def decide_ab_test(state: State, model_type: ModelTypeName, stream: OneStream = None) -> ABTestDocument:
    """Score the new posts, and decide the test if they settle it, as each `train` does."""
    project = state.streams.choose(stream)
    return _document(check_test(project, state.runtime, model_type, datetime.now(UTC)), model_type)


@change.post("/{model_type}/stop", responses=failures(400, 404, 409, 500))
@in_thread("change")
def stop_ab_test(state: State, model_type: ModelTypeName, options: Stop, stream: OneStream = None) -> ABTestDocument:
    """Stop the A/B test of a model type."""
    project = state.streams.choose(stream)
    outcomes: dict[str | None, Literal["promoted", "kept", "stopped"]] = {"promote": "promoted", "keep": "kept"}
    outcome = outcomes.get(options.outcome, "stopped")
    return ABTestDocument.from_state(
        stop_test(project, state.runtime, model_type, outcome, options.reason, datetime.now(UTC))
    )


def _document(found: ABTestState | None, model_type: ModelTypeName) -> ABTestDocument:
    if found is None:
        hint = f"POST /models/ab-tests/{model_type}/start starts one"
        raise UnknownName(f"there has been no A/B test of {model_type} yet", hint=hint)
    return ABTestDocument.from_state(found)


router = APIRouter()
router.include_router(look)
router.include_router(change)

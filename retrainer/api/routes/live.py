"""The endpoints of live scores."""

from datetime import UTC, datetime

from fastapi import APIRouter, Depends

from retrainer.api.dependencies import OneStream, State, failures, in_thread, reject_unknown_parameters
from retrainer.api.middleware import TrustedRoute
from retrainer.api.routes.write import reject_null
from retrainer.live.refresh import refresh_live
from retrainer.live.report import report_live
from retrainer.model_types import ModelTypeName
from retrainer.render.documents.live import LiveDocument

look = APIRouter(prefix="/models/live", tags=["look"], dependencies=[Depends(reject_unknown_parameters)])
change = APIRouter(
    prefix="/models/live",
    tags=["change"],
    route_class=TrustedRoute,
    dependencies=[Depends(reject_unknown_parameters), Depends(reject_null)],
)


@look.get("/{model_type}", responses=failures(404, 409))
@in_thread("inspect", cached="briefly")
def live_scores(state: State, model_type: ModelTypeName, stream: OneStream = None) -> LiveDocument:
    """Return how the production version does on live posts, from the scores recorded so far.

    Each `train` brings them up to date, and so does a POST.
    """
    return LiveDocument.from_report(report_live(state.streams.choose(stream), model_type, datetime.now(UTC)))


@change.post("/{model_type}/update", responses=failures(400, 404, 409, 500))
@in_thread("change")
def update_live_scores(state: State, model_type: ModelTypeName, stream: OneStream = None) -> LiveDocument:
    """Score the new posts, decide a running A/B test if they settle it, and return how the production version does."""
    project, now = state.streams.choose(stream), datetime.now(UTC)
    refresh_live(project, state.runtime, model_type, now)
    return LiveDocument.from_report(report_live(project, model_type, now))


router = APIRouter()
router.include_router(look)
router.include_router(change)

"""The endpoints for operators: health, metrics and status."""

import logging
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from retrainer.api.dependencies import ManyStreams, State, failures, in_thread, reject_unknown_parameters
from retrainer.api.project_metrics import metrics_without_database
from retrainer.errors import RetrainerError
from retrainer.render.documents.status import StatusDocument, StreamsStatusDocument
from retrainer.status import get_status
from retrainer.streams_status import get_streams_status

log = logging.getLogger(__name__)


class Health(BaseModel):
    """The state of the server."""

    status: Annotated[str, Field(examples=["ready"])]


router = APIRouter(tags=["operate"], dependencies=[Depends(reject_unknown_parameters)])


@router.get("/health/live", response_model=Health, responses=failures())
async def live() -> JSONResponse:
    """Answer if the process is alive, without querying the database."""
    return JSONResponse({"status": "live"})


@router.get("/health/ready", response_model=Health, responses=failures())
async def ready(state: State) -> JSONResponse:
    """Answer if the server can handle requests.

    The database must answer and have the schema of this release, and every kind of work must have a free thread.
    """
    state.threads.require_free()
    await state.threads.run("look", state.project.registry.database.revision)
    return JSONResponse({"status": "ready"})


@router.get("/status", responses=failures(404))
@in_thread("inspect", cached="briefly")
def status(state: State, stream: ManyStreams = None) -> StatusDocument | StreamsStatusDocument:
    """Return the state of the project, and what needs attention; with several streams, totals and the first problems.

    It may be one second old.
    """
    project, now = state.project, datetime.now(UTC)
    one = project.select_one(stream)
    if one is not None:
        return StatusDocument.from_status(get_status(project.for_stream(one), now))
    return StreamsStatusDocument.from_status(get_streams_status(project, now, project.select_streams(stream)))


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **failures()},
)
async def metrics(state: State) -> Response:
    """Return the metrics in the text format of Prometheus."""
    now = datetime.now(UTC)
    compute, keep = partial(state.project_metrics.text, now), partial(state.project_metrics.may_be_kept, now)
    try:
        of_project = await state.threads.run("look", state.responses.get, "metrics", compute, keep)
    except RetrainerError as error:  # then the metrics of the server matter all the more
        log.warning("The metrics omit what is in the database: %s", error)
        of_project = metrics_without_database()
    return Response(of_project + state.metrics.text(), media_type=CONTENT_TYPE_LATEST)

"""The endpoint that lists streams."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from retrainer.api.dependencies import (
    Limit,
    ManyStreams,
    OptionalModelType,
    Page,
    State,
    failures,
    in_thread,
    reject_unknown_parameters,
)
from retrainer.overview import OverviewFilter, SortKey, list_streams
from retrainer.render.documents.streams import StreamsDocument

router = APIRouter(tags=["look"], dependencies=[Depends(reject_unknown_parameters)])


@router.get("/streams", responses=failures(404))
@in_thread("inspect", cached="briefly")
def streams(
    state: State,
    stream: ManyStreams = None,
    model_type: OptionalModelType = None,
    due: Annotated[bool, Query(description="Only models that are due.")] = False,
    held: Annotated[bool, Query(description="Only models whose automatic promotion is on hold.")] = False,
    failed: Annotated[bool, Query(description="Only models whose latest run failed.")] = False,
    not_live: Annotated[
        bool, Query(description="Only models that are retrained but have no version in production.")
    ] = False,
    sort: Annotated[
        SortKey,
        Query(description="The order: the most posts, the newest, the latest failure, or the lowest score first."),
    ] = "name",
    limit: Limit = 20,
    page: Page = 1,
) -> StreamsDocument:
    """List streams: their posts, and what is in production, due, on hold or failed. It may be one second old."""
    only = OverviewFilter(model_type, due=due, held=held, failed=failed, not_live=not_live)
    selected = state.project.select_streams(stream)
    found, total = list_streams(
        state.project, datetime.now(UTC), selected, only, sort=sort, limit=limit, offset=(page - 1) * limit
    )
    return StreamsDocument.from_overviews(found, total)

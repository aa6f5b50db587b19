"""The endpoints for those who operate the server: whether it lives and is ready, and its figures."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from retrainer.api.dependencies import Of, answers, reject_unknown_parameters
from retrainer.errors import RequestTimeout, ServerBusy


class Health(BaseModel):
    """That the server is alive, or ready."""

    status: Annotated[str, Field(examples=["ready"])]


router = APIRouter(tags=["operate"], dependencies=[Depends(reject_unknown_parameters)])


@router.get("/health/live", responses={200: {"model": Health}, **answers()})
async def live() -> JSONResponse:
    """Say that the process answers. Asks nothing of the database."""
    return JSONResponse({"status": "live"})


@router.get("/health/ready", responses={200: {"model": Health}, **answers()})
async def ready(service: Of) -> JSONResponse:
    """Say whether requests can be served.

    The database answers and was not made by a later release, and a thread is left to ask an algorithm in.
    """
    service.work.require_threads()
    await service.work.look(service.project.registry.database.revision)
    return JSONResponse({"status": "ready"})


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **answers()},
)
async def metrics(service: Of) -> Response:
    """Return the figures in the text format of Prometheus."""
    try:
        of_the_project = await service.work.look(service.monitoring.of_the_project)
    except (RequestTimeout, ServerBusy):  # the more there is to be told of the server
        of_the_project = service.monitoring.without_the_project()
    return Response(of_the_project + service.monitoring.of_the_server(), media_type=CONTENT_TYPE_LATEST)

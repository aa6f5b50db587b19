"""A running run, followed by server-sent events: its steps and its log, whenever they have changed."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from retrainer.errors import RetrainerError
from retrainer.escapes import visible, visible_lines
from retrainer.web.pages import PAGE_HEADERS, get_site, read_parameters, refuse_reader
from retrainer.web.views.run import RunView, describe_state, find_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

MAX_FOLLOWERS = 50  # at a time
LINES = 500  # of the log
POLL_SECONDS = 1.0
FOLLOW_SECONDS = 300  # then the browser connects again
_RECONNECT_MILLISECONDS = 2000
_TICKS = 5  # looks at whether the server stops, for each at the run
_HEADERS = {**PAGE_HEADERS, "X-Accel-Buffering": "no"}  # a proxy must not collect the events


class _Followers:
    """How many streams of events are open."""

    def __init__(self) -> None:
        self.count = 0


_followers = _Followers()


async def run_events(request: Request) -> Response:
    """Answer with the events of a run: `run` whenever something has changed, `end` when nothing more follows."""
    if refuse_reader(request) is not None:
        return Response(status_code=401, headers=_HEADERS)
    try:
        query = read_parameters(request, {"stream"})
        first = await _look(request, query.get("stream"))
    except RetrainerError as error:
        return Response(error.message, error.http_status, _HEADERS, "text/plain")
    if _followers.count >= MAX_FOLLOWERS:
        return Response(status_code=503, headers={**_HEADERS, "Retry-After": "10"})
    return StreamingResponse(_follow(request, query.get("stream"), first), 200, _HEADERS, "text/event-stream")


async def _look(request: Request, stream: str | None) -> RunView:
    site = get_site(request)
    return await site.threads.run("look", find_run, site, request.path_params["run_id"], stream, datetime.now(UTC))


async def _follow(request: Request, stream: str | None, view: RunView) -> AsyncIterator[str]:
    _followers.count += 1
    try:
        yield f"retry: {_RECONNECT_MILLISECONDS}\n\n"
        deadline, sent = time.monotonic() + FOLLOW_SECONDS, ""
        while True:
            data = event_data(view)
            if data != sent:
                yield f"event: run\ndata: {data}\n\n"
                sent = data
            if not view.is_followed:
                yield "event: end\ndata: {}\n\n"
                return
            for _ in range(_TICKS):
                await asyncio.sleep(POLL_SECONDS / _TICKS)
                if getattr(request.app.state, "is_stopping", False):
                    return
            if time.monotonic() > deadline:
                return
            view = await _look(request, stream)
    except RetrainerError:  # the browser connects again
        return
    finally:
        _followers.count -= 1


def event_data(view: RunView) -> str:
    """Return what has changed as one line of JSON; its texts are shown as they are, and never as HTML."""
    steps = [
        {"number": step.number, "state": step.state, "took": step.took, "detail": visible(step.detail)}
        for step in view.steps
    ]
    log = "" if view.log is None else visible_lines("\n".join(view.log.lines[-LINES:]))
    return json.dumps({"state": describe_state(view), "running": view.is_running, "steps": steps, "log": log})


ROUTES = [Route("/run/{run_id}/events", run_events, name="run_events")]

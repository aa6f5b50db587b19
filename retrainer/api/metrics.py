"""Metrics of the server for Prometheus: requests and threads. Also the request log."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import ClientDisconnect

from retrainer.api.errors import internal_error, stopping
from retrainer.serving.threads import THREADS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from retrainer.serving.threads import Threads

log = logging.getLogger(__name__)

NO_ROUTE = "none"  # the label of requests for an unknown path


class Metrics:
    """The metrics of one server, which need no database."""

    def __init__(self, threads: Threads) -> None:
        self._registry = CollectorRegistry()
        stuck = Gauge(
            "retrainer_stuck_threads",
            "Threads stuck in abandoned calls, by the kind of work.",
            ["work"],
            registry=self._registry,
        )
        for work in THREADS:
            stuck.labels(work).set_function(partial(threads.count_stuck, work))
        self.requests = Counter(
            "retrainer_http_requests",
            "Requests, by method, route and status.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self.seconds = Histogram(
            "retrainer_http_request_duration_seconds",
            "Duration of requests, by route.",
            ["route"],
            registry=self._registry,
        )

    def text(self) -> bytes:
        """Return them in the text format of Prometheus."""
        return generate_latest(self._registry)


class MetricsMiddleware:
    """Counts, times and logs every request; answers a request whose endpoint raised an unexpected exception."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and record the result."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note_status)
        except asyncio.CancelledError:  # the server stops and has waited long enough
            if not status:
                await stopping()(scope, receive, send_and_note_status)
        except ClientDisconnect:  # before the body was complete
            pass
        except Exception as error:
            if status:  # part of the answer has been sent: the connection must break
                raise
            await internal_error(error)(scope, receive, send_and_note_status)
        finally:
            self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        method = scope["method"] if scope["method"] in {"GET", "POST", "HEAD"} else "other"
        self._metrics.requests.labels(method, route, status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        path = scope.get("raw_path", b"").decode("latin-1")  # still escaped: it cannot forge a log line
        kind = (method, route, status)
        log.info("%s %s %d %.0f ms", method, path[:200], status, seconds * 1000, extra={"kind": kind})

"""Metrics for Prometheus: requests, the production versions, and the runs. Also the request log."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import ClientDisconnect

from retrainer.api.errors import internal_error, stopping
from retrainer.api.threads import THREADS
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry.runs import RunFilter

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from retrainer.api.threads import Threads
    from retrainer.project import Project
    from retrainer.registry.registry import Registry

log = logging.getLogger(__name__)

_DATABASE_UP = ("retrainer_database_up", "Whether the database answers.")
NO_ROUTE = "none"  # the label of requests for an unknown path


class Metrics:
    """The metrics of one server, which need no database."""

    def __init__(self, threads: Threads) -> None:
        self._registry = CollectorRegistry()
        stuck = Gauge(
            "retrainer_stuck_threads",
            "Threads in calls that were given up, by the kind of work.",
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


def project_metrics(project: Project) -> bytes:
    """Query the database, and return its metrics in the text format of Prometheus."""
    registry = CollectorRegistry()
    _add_production(project.registry, registry)
    _add_runs(project.registry, registry)
    Gauge(*_DATABASE_UP, registry=registry).set(1)
    return generate_latest(registry)


def metrics_without_database() -> bytes:
    """Return the metrics of a project whose database does not answer."""
    registry = CollectorRegistry()
    Gauge(*_DATABASE_UP, registry=registry).set(0)
    return generate_latest(registry)


def _add_production(versions: Registry, registry: CollectorRegistry) -> None:
    labels = ["model_type", "version_id", "algorithm"]
    info = Gauge("retrainer_production_info", "The production version.", labels, registry=registry)
    trained = _gauge(
        "retrainer_production_trained_timestamp_seconds", "When the production version was trained.", registry
    )
    held = _gauge("retrainer_automatic_promotion_held", "Whether automatic promotion is on hold.", registry)
    for model_type in MODEL_TYPE_NAMES:
        held.labels(model_type).set(versions.get_hold(model_type) is not None)
        version = versions.get_production(model_type)
        if version is not None:
            info.labels(model_type, version.version_id, version.algorithm).set(1)
            trained.labels(model_type).set(version.trained_at.timestamp())


def _add_runs(runs: Registry, registry: CollectorRegistry) -> None:
    running = _gauge("retrainer_run_running", "Whether a run is in progress.", registry)
    failed = _gauge("retrainer_last_run_failed", "Whether the latest run that ended failed.", registry)
    completed = _gauge("retrainer_last_completed_run_timestamp_seconds", "When the latest run completed.", registry)
    in_progress = {run.model_type for run in runs.list_runs(run_filter=RunFilter(status="running"))}
    for model_type in MODEL_TYPE_NAMES:
        running.labels(model_type).set(model_type in in_progress)
        latest_completed, latest_failed = (
            runs.list_runs(model_type, 1, RunFilter(status=status)) for status in ("completed", "failed")
        )
        ended = [*latest_completed, *latest_failed]
        if ended:
            newest = max(ended, key=lambda run: run.started_at)
            failed.labels(model_type).set(newest.status != "completed")
        for run in latest_completed:
            if run.completed_at is not None:
                completed.labels(model_type).set(run.completed_at.timestamp())


def _gauge(name: str, documentation: str, registry: CollectorRegistry) -> Gauge:
    return Gauge(name, documentation, ["model_type"], registry=registry)

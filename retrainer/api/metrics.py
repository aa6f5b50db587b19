"""Metrics for Prometheus: requests, the production versions, and the runs. Also the request log."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from retrainer.api.errors import internal_error, stopping
from retrainer.api.threads import THREADS
from retrainer.errors import RetrainerError
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry.runs import RunFilter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from retrainer.api.threads import Threads
    from retrainer.project import Project

log = logging.getLogger(__name__)

_DATABASE_UP = ("retrainer_database_up", "Whether the database answers.")
NO_ROUTE = "none"  # the label of requests for an unknown path


class Metrics:
    """The metrics of one server."""

    def __init__(self, project: Project, threads: Threads) -> None:
        self._of_project = CollectorRegistry()
        self._of_project.register(_ProjectCollector(project))
        self._of_server = CollectorRegistry()
        stuck = Gauge(
            "retrainer_stuck_threads",
            "Threads in calls that were given up, by the kind of work.",
            ["work"],
            registry=self._of_server,
        )
        for work in THREADS:
            stuck.labels(work).set_function(partial(threads.count_stuck, work))
        self.requests = Counter(
            "retrainer_http_requests",
            "Requests, by method, route and status.",
            ["method", "route", "status"],
            registry=self._of_server,
        )
        self.seconds = Histogram(
            "retrainer_http_request_duration_seconds",
            "Duration of requests, by route.",
            ["route"],
            registry=self._of_server,
        )

    def of_project(self) -> bytes:
        """Query the database, and return its metrics in the text format of Prometheus."""
        return generate_latest(self._of_project)

    def without_database(self) -> bytes:
        """Return the metrics of a project whose database does not answer."""
        registry = CollectorRegistry()
        Gauge(*_DATABASE_UP, registry=registry).set(0)
        return generate_latest(registry)

    def of_server(self) -> bytes:
        """Return the metrics that need no database, in the text format of Prometheus."""
        return generate_latest(self._of_server)


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
        log.info("%s %s %d %.0f ms", method, path[:200], status, seconds * 1000)


class _ProjectCollector:
    """Queries the database at every scrape."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def describe(self) -> list[Metric]:
        """Describe nothing in advance, which would query the database when the server starts."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the database, or only that it does not answer."""
        try:
            families = [*self._production(), *self._runs()]
        except RetrainerError as error:
            log.warning("Metrics without the database: %s", error)
            families = []
        up = GaugeMetricFamily(*_DATABASE_UP)
        up.add_metric([], 1 if families else 0)
        yield up
        yield from families

    def _production(self) -> Iterator[Metric]:
        registry = self._project.registry
        info = GaugeMetricFamily(
            "retrainer_production_info", "The production version.", labels=["model_type", "version_id", "algorithm"]
        )
        trained = _gauge("retrainer_production_trained_timestamp_seconds", "When the production version was trained.")
        held = _gauge("retrainer_automatic_promotion_held", "Whether automatic promotion is on hold.")
        for model_type in MODEL_TYPE_NAMES:
            held.add_metric([model_type], 0 if registry.get_hold(model_type) is None else 1)
            version = registry.get_production(model_type)
            if version is not None:
                info.add_metric([model_type, version.version_id, version.algorithm], 1)
                trained.add_metric([model_type], version.trained_at.timestamp())
        yield from (info, trained, held)

    def _runs(self) -> Iterator[Metric]:
        registry = self._project.registry
        running = _gauge("retrainer_run_running", "Whether a run is in progress.")
        failed = _gauge("retrainer_last_run_failed", "Whether the latest run that ended failed.")
        completed = _gauge("retrainer_last_completed_run_timestamp_seconds", "When the latest run completed.")
        dead = [run for run, _ in registry.find_dead_runs()]  # failed, although still recorded as running
        in_progress = {run.model_type for run in registry.list_running_runs()} - {run.model_type for run in dead}
        for model_type in MODEL_TYPE_NAMES:
            running.add_metric([model_type], 1 if model_type in in_progress else 0)
            latest_completed, latest_failed = (
                registry.list_runs(model_type, 1, RunFilter(status=status)) for status in ("completed", "failed")
            )
            ended = [*latest_completed, *latest_failed, *(run for run in dead if run.model_type == model_type)]
            if ended:
                newest = max(ended, key=lambda run: run.started_at)
                failed.add_metric([model_type], 0 if newest.status == "completed" else 1)
            for run in latest_completed:
                if run.completed_at is not None:
                    completed.add_metric([model_type], run.completed_at.timestamp())
        yield from (running, failed, completed)


def _gauge(name: str, documentation: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, labels=["model_type"])

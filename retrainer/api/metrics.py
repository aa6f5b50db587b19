"""What Prometheus reads: how the requests went, what is live, and how the runs go."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from retrainer.api.errors import fault, stopping
from retrainer.errors import RetrainerError
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry.runs import RunFilter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from retrainer.api.threads import Work
    from retrainer.project import Project

log = logging.getLogger(__name__)

_DATABASE_UP = ("retrainer_database_up", "Whether the database answers.")
NO_ROUTE = "none"  # the label of requests for a path that there is not


class Monitoring:
    """The figures of one server."""

    def __init__(self, project: Project, work: Work) -> None:
        self._of_the_project = CollectorRegistry()
        self._of_the_project.register(_OfTheProject(project))
        self._of_the_server = CollectorRegistry()
        self._of_the_server.register(_OfTheThreads(work))
        self.requests = Counter(
            "retrainer_http_requests",
            "Requests, by method, route and status.",
            ["method", "route", "status"],
            registry=self._of_the_server,
        )
        self.seconds = Histogram(
            "retrainer_http_request_duration_seconds",
            "How long requests took, by route.",
            ["route"],
            registry=self._of_the_server,
        )

    def of_the_project(self) -> bytes:
        """Return what the database says, in the text format of Prometheus."""
        return generate_latest(self._of_the_project)

    def without_the_project(self) -> bytes:
        """Return what is said of the project where the database does not answer."""
        registry = CollectorRegistry()
        Gauge(*_DATABASE_UP, registry=registry).set(0)
        return generate_latest(registry)

    def of_the_server(self) -> bytes:
        """Return what the server knows by itself, in the text format of Prometheus."""
        return generate_latest(self._of_the_server)


class MetricsMiddleware:
    """Counts, times and logs every request; answers for one that met a fault of ours."""

    def __init__(self, app: ASGIApp, monitoring: Monitoring) -> None:
        self._app = app
        self._monitoring = monitoring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note what came of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:  # the server stops and has waited long enough; its task ends here
            if not status:
                await stopping()(scope, receive, noted)
        except Exception as error:
            if status:  # half an answer is out: the connection must break
                raise
            await fault(error)(scope, receive, noted)
        finally:
            self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        method = scope["method"] if scope["method"] in {"GET", "POST", "HEAD"} else "other"
        self._monitoring.requests.labels(method, route, status).inc()
        self._monitoring.seconds.labels(route).observe(seconds)
        path = scope.get("raw_path", b"").decode("latin-1")  # still escaped: no line can be forged by it
        log.info("%s %s %d %.0f ms", method, path[:200], status, seconds * 1000)


class _OfTheThreads:
    """Looks at the threads at every scrape."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def collect(self) -> Iterator[Metric]:
        """Yield how many threads of each kind of work do not come back."""
        stuck = GaugeMetricFamily(
            "retrainer_stuck_threads", "Threads taken by what was given up, by the kind of work.", labels=["work"]
        )
        for kind, count in self._work.stuck().items():
            stuck.add_metric([kind], count)
        yield stuck


class _OfTheProject:
    """Asks the database at every scrape."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def describe(self) -> list[Metric]:
        """Name nothing beforehand: that would ask the database when the server starts."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield what the database says; where it is out of reach, only that it is."""
        try:
            found = [*self._production(), *self._runs()]
        except RetrainerError as error:
            log.warning("Metrics without the database: %s", error)
            found = []
        up = GaugeMetricFamily(*_DATABASE_UP)
        up.add_metric([], 1 if found else 0)
        yield up
        yield from found

    def _production(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "retrainer_production_info", "The version that is live.", labels=["model_type", "version_id", "algorithm"]
        )
        trained = GaugeMetricFamily(
            "retrainer_production_trained_timestamp_seconds", "When it was trained.", labels=["model_type"]
        )
        held = GaugeMetricFamily(
            "retrainer_automatic_promotion_held", "Whether automatic promotion is on hold.", labels=["model_type"]
        )
        for model_type in MODEL_TYPE_NAMES:
            held.add_metric([model_type], 0 if self._project.registry.get_hold(model_type) is None else 1)
            version = self._project.registry.get_production(model_type)
            if version is not None:
                info.add_metric([model_type, version.version_id, version.algorithm], 1)
                trained.add_metric([model_type], version.trained_at.timestamp())
        yield from (info, trained, held)

    def _runs(self) -> Iterator[Metric]:
        running = GaugeMetricFamily("retrainer_run_running", "Whether a run is going on.", labels=["model_type"])
        failed = GaugeMetricFamily(
            "retrainer_last_run_failed", "Whether the latest run that ended failed.", labels=["model_type"]
        )
        completed = GaugeMetricFamily(
            "retrainer_last_completed_run_timestamp_seconds", "When the latest run completed.", labels=["model_type"]
        )
        dead = [run for run, _ in self._project.registry.find_dead_runs()]  # failed, but nobody has closed them yet
        going_on = {run.model_type for run in self._project.registry.list_running_runs()} - {
            run.model_type for run in dead
        }
        for model_type in MODEL_TYPE_NAMES:
            running.add_metric([model_type], 1 if model_type in going_on else 0)
            latest = {
                status: self._project.registry.list_runs(model_type, 1, RunFilter(status=status))
                for status in ("completed", "failed")
            }
            ended = [run for runs in latest.values() for run in runs]
            ended += [run for run in dead if run.model_type == model_type]
            if ended:
                newest = max(ended, key=lambda run: run.started_at)
                failed.add_metric([model_type], 0 if newest.status == "completed" else 1)
            for run in latest["completed"]:
                if run.completed_at is not None:
                    completed.add_metric([model_type], run.completed_at.timestamp())
        yield from (running, failed, completed)

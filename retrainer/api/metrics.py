"""Metrics for Prometheus: requests, production versions, runs and posts. Also the request log."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from cachetools import TTLCache
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector
from starlette.requests import ClientDisconnect

from retrainer.api.errors import internal_error, stopping
from retrainer.api.threads import THREADS
from retrainer.errors import RetrainerError
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry.runs import RunFilter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from prometheus_client import Metric
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from retrainer.api.threads import Threads
    from retrainer.posts.freshness import PostsActivity
    from retrainer.project import Project
    from retrainer.registry.registry import Registry
    from retrainer.registry.runs import RunTotal

log = logging.getLogger(__name__)

_DATABASE_UP = ("retrainer_database_up", "Whether the database answers.")
FOREIGN_POSTS_SECONDS = 60.0  # how old the figures of posts in a foreign table may be, which is read as a whole
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


class ProjectMetrics:
    """The metrics of a project, from its database. None of them depends on the time."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._foreign_posts: TTLCache[None, PostsActivity] = TTLCache(1, FOREIGN_POSTS_SECONDS)
        self._lock = Lock()

    def text(self, now: datetime) -> bytes:
        """Query the database, and return the metrics in the text format of Prometheus; no post after `now` counts."""
        registry, versions = CollectorRegistry(), self._project.registry
        _add_production(versions, registry)
        _add_scores(versions, registry)
        _add_runs(versions, registry)
        registry.register(_RunTotals(versions.total_runs()))
        try:
            _add_posts(self._measure_posts(now), registry)
        except RetrainerError as error:  # the posts may be in another database
            log.warning("Metrics without the posts: %s", error)
        Gauge(*_DATABASE_UP, registry=registry).set(1)
        return generate_latest(registry)

    def may_be_kept(self, now: datetime) -> bool:
        """Whether they stay the same while the database does: no run is in progress, and no post is later than now."""
        try:
            return not self._project.registry.list_running_runs() and self._project.posts.are_past(now)
        except RetrainerError:
            return False

    def _measure_posts(self, now: datetime) -> PostsActivity:
        posts = self._project.posts
        if not posts.is_foreign:
            return posts.activity(now)
        with self._lock:
            kept = self._foreign_posts.get(None)
        if kept is None:
            kept = posts.activity(now)  # not under the lock: a large table would delay every other scrape
            with self._lock:
                self._foreign_posts[None] = kept
        return kept


def metrics_without_database() -> bytes:
    """Return the metrics of a project whose database does not answer."""
    registry = CollectorRegistry()
    Gauge(*_DATABASE_UP, registry=registry).set(0)
    return generate_latest(registry)


def _add_production(versions: Registry, registry: CollectorRegistry) -> None:
    labels = ["model_type", "version_id", "algorithm"]
    info = Gauge(
        "retrainer_production_info", "The production version of a model type; always 1.", labels, registry=registry
    )
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


def _add_scores(versions: Registry, registry: CollectorRegistry) -> None:
    """Add the latest evaluation of each production version."""
    gauges = {
        "overall_score": _gauge(
            "retrainer_production_score", "Score of the production version in its latest evaluation.", registry
        ),
        "skill": _gauge(
            "retrainer_production_skill",
            "Skill of the production version against the naive forecast, in its latest evaluation.",
            registry,
        ),
        "interval_coverage": _gauge(
            "retrainer_production_interval_coverage",
            "Share of posts in the 80% interval of the production version, in its latest evaluation.",
            registry,
        ),
    }
    for model_type in MODEL_TYPE_NAMES:
        version = versions.get_production(model_type)
        evaluations = versions.list_evaluations(version.version_id, limit=1) if version is not None else []
        for evaluation in evaluations:
            for name, gauge in gauges.items():
                if evaluation.metrics.get(name) is not None:
                    gauge.labels(model_type).set(evaluation.metrics[name])


def _add_posts(posts: PostsActivity, registry: CollectorRegistry) -> None:
    Gauge("retrainer_posts", "The number of posts.", registry=registry).set(posts.count)
    if posts.freshness is None:
        return
    newest = Gauge("retrainer_newest_post_timestamp_seconds", "When the newest post was created.", registry=registry)
    newest.set(posts.freshness.newest_at.timestamp())
    if posts.freshness.stale_at is not None:
        stale = Gauge(
            "retrainer_posts_stale_timestamp_seconds",
            "When the posts become stale unless another one arrives: the newest post plus the longest usual gap.",
            registry=registry,
        )
        stale.set(posts.freshness.stale_at.timestamp())


class _RunTotals(Collector):
    """The durations of all runs by outcome, and their cost, as counters that the database keeps."""

    def __init__(self, totals: Sequence[RunTotal]) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        durations = SummaryMetricFamily(
            "retrainer_run_duration_seconds",
            "Duration of runs, by outcome: promoted, not_promoted, failed.",
            labels=["model_type", "outcome"],
        )
        cost = CounterMetricFamily(
            "retrainer_cost_usd", "Cost of the paid calls of all runs, in US dollars.", labels=["model_type"]
        )
        for total in self._totals:
            durations.add_metric([total.model_type, total.outcome], total.count, total.seconds)
        for model_type in MODEL_TYPE_NAMES:
            spent = sum(total.cost_usd for total in self._totals if total.model_type == model_type)
            cost.add_metric([model_type], spent)
        yield durations
        yield cost


def _gauge(name: str, documentation: str, registry: CollectorRegistry) -> Gauge:
    return Gauge(name, documentation, ["model_type"], registry=registry)

"""Metrics of a project for Prometheus: production versions, runs, posts and, if there are several, streams."""

from __future__ import annotations

import logging
from threading import Lock
from typing import TYPE_CHECKING

from cachetools import TTLCache
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector

from retrainer.errors import RetrainerError
from retrainer.live.summary import summarize_live
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry.runs import RunFilter
from retrainer.streams import ModelKey

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from prometheus_client import Metric

    from retrainer.live.summary import LiveSummary
    from retrainer.model_types import ModelTypeName
    from retrainer.posts.freshness import PostsActivity
    from retrainer.project import Project
    from retrainer.registry.registry import Registry
    from retrainer.registry.runs import RunTotal

log = logging.getLogger(__name__)

MAX_STREAMS = 100  # that have metrics of their own: each is up to 20 time series
OLD_SECONDS = 60.0  # how old figures may be that take long: of posts in a foreign table, and of several streams
_NEWEST_POST = ("newest_post_timestamp_seconds", "When the newest post was created.")


class ProjectMetrics:
    """The metrics of a project, from its database. None of them depends on the time.

    With several streams, those of models and posts have the label `stream`, and there are totals; with more than
    `MAX_STREAMS`, only totals.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._all_streams = project.registry.across(None)
        self._cached_gauges: TTLCache[None, _Gauges] = TTLCache(1, OLD_SECONDS)
        self._foreign_posts: TTLCache[str, PostsActivity] = TTLCache(MAX_STREAMS, OLD_SECONDS)
        self._lock = Lock()

    def text(self, now: datetime) -> bytes:
        """Query the database, and return the metrics in the text format of Prometheus; no post after `now` counts."""
        registry = CollectorRegistry()
        registry.register(_RunTotals(self._all_streams.total_runs()))
        registry.register(self._measure(now))
        registry.register(_database_up(1))
        return generate_latest(registry)

    def may_be_kept(self, now: datetime) -> bool:
        """Whether they stay the same while the database does: no run is in progress, and no post is later than now."""
        try:
            if self._cached_gauges or self._all_streams.list_running_runs():
                return False
            names = self._project.list_streams()  # another one may have come since
            return len(names) == 1 and self._project.posts.for_stream(names[0]).are_past(now)
        except RetrainerError:
            return False

    def _measure(self, now: datetime) -> _Gauges:
        with self._lock:
            kept = self._cached_gauges.get(None)
        if kept is not None:
            return kept
        streams, gauges = self._project.list_streams(), _Gauges()
        live, damaged = summarize_live(self._all_streams)
        for key, error in damaged.items():
            log.warning(
                "The metrics omit the live scores of the %s model of '%s': %s", key.model_type, key.stream, error
            )
        if len(streams) <= MAX_STREAMS:
            running = {run.model_key for run in self._all_streams.list_runs(run_filter=RunFilter(status="running"))}
            for name in streams:
                self._add_stream(gauges, name, {"stream": name} if len(streams) > 1 else {}, running, now)
            for key, found in live.items():
                _add_live(gauges, found, key, {"stream": key.stream} if len(streams) > 1 else {})
        if len(streams) > 1:
            self._add_totals(gauges, streams, live, now)
            with self._lock:
                self._cached_gauges[None] = gauges
        return gauges

    def _add_stream(
        self, gauges: _Gauges, name: str, label: Mapping[str, str], running: Collection[ModelKey], now: datetime
    ) -> None:
        project = self._project.for_stream(name)
        for model_type in MODEL_TYPE_NAMES:
            labels = {**label, "model_type": model_type}
            _add_production(gauges, project.registry, model_type, labels)
            is_running = ModelKey(name, model_type) in running
            gauges.add("run_running", "Whether a run is in progress.", is_running, **labels)
            _add_last_runs(gauges, project.registry, model_type, labels)
        try:
            _add_posts(gauges, self._measure_posts(project, now), label)
        except RetrainerError as error:  # the posts may be in another database
            log.warning("The metrics omit the posts: %s", error)

    def _measure_posts(self, project: Project, now: datetime) -> PostsActivity:
        posts = project.posts
        if not posts.is_foreign:
            return posts.activity(now)
        with self._lock:
            kept = self._foreign_posts.get(project.stream)
        if kept is None:
            kept = posts.activity(now)  # not under the lock: a large table would delay every other scrape
            with self._lock:
                self._foreign_posts[project.stream] = kept
        return kept

    def _add_totals(
        self, gauges: _Gauges, streams: Sequence[str], live: Mapping[ModelKey, LiveSummary], now: datetime
    ) -> None:
        gauges.add("streams", "The number of streams.", len(streams))
        in_production = [key.model_type for key in self._all_streams.production_algorithms()]
        held = [hold.model_type for hold in self._all_streams.list_holds()]
        failed = [key.model_type for key, run in self._all_streams.last_runs().items() if run.status == "failed"]
        running = [run.model_type for run in self._all_streams.list_running_runs()]
        worse = [key.model_type for key, one in live.items() if one.find_worse(several=True)]
        for name, documentation, model_types in (
            ("streams_in_production", "Streams with a production version.", in_production),
            ("streams_held", "Streams whose automatic promotion is on hold.", held),
            ("streams_failed", "Streams whose latest run failed.", failed),
            ("streams_running", "Streams with a run in progress.", running),
            ("streams_worse", _STREAMS_WORSE, worse),
        ):
            for model_type in MODEL_TYPE_NAMES:
                gauges.add(name, documentation, model_types.count(model_type), model_type=model_type)
        if len(streams) > MAX_STREAMS:
            try:
                newest = max(self._project.posts.table.newest_times(now).values())
            except (RetrainerError, ValueError) as error:  # as above, or there are none
                log.debug("The metrics omit the newest post: %s", error)
            else:
                gauges.add(*_NEWEST_POST, newest.timestamp())


def metrics_without_database() -> bytes:
    """Return the metrics of a project whose database does not answer."""
    registry = CollectorRegistry()
    registry.register(_database_up(0))
    return generate_latest(registry)


def _database_up(value: int) -> _Gauges:
    gauges = _Gauges()
    gauges.add("database_up", "Whether the database answers.", value)
    return gauges


class _Gauges(Collector):
    """Gauges, each with the labels that its first value has."""

    def __init__(self) -> None:
        self._families: dict[str, GaugeMetricFamily] = {}

    def add(self, name: str, documentation: str, value: float, **labels: str) -> None:
        """Add a value of the gauge `retrainer_{name}`."""
        if name not in self._families:
            self._families[name] = GaugeMetricFamily(f"retrainer_{name}", documentation, labels=list(labels))
        self._families[name].add_metric(list(labels.values()), value)

    def collect(self) -> Iterator[Metric]:
        yield from self._families.values()


def _add_production(gauges: _Gauges, registry: Registry, model_type: ModelTypeName, labels: Mapping[str, str]) -> None:
    """Add the production version of a model, with the scores of its latest evaluation."""
    is_held = registry.get_hold(model_type) is not None
    gauges.add("automatic_promotion_held", "Whether automatic promotion is on hold.", is_held, **labels)
    version = registry.get_production(model_type)
    if version is None:
        return
    of_version = {**labels, "version_id": version.version_id, "algorithm": version.algorithm}
    gauges.add("production_info", "The production version of a model type; always 1.", 1, **of_version)
    trained_at = version.trained_at.timestamp()
    gauges.add("production_trained_timestamp_seconds", "When the production version was trained.", trained_at, **labels)
    for evaluation in registry.list_evaluations(version.version_id, limit=1):
        for figure, (name, documentation) in _SCORES.items():
            if evaluation.metrics.get(figure) is not None:
                gauges.add(name, documentation, evaluation.metrics[figure], **labels)


def _add_live(gauges: _Gauges, found: LiveSummary, key: ModelKey, label: Mapping[str, str]) -> None:
    """Add how a production version does on the posts that came since."""
    labels = {**label, "model_type": key.model_type}
    gauges.add("live_posts", "Live posts that the production version was scored on.", found.num_posts, **labels)
    naive = found.against("naive")
    if naive is not None and naive.live is not None and naive.skill is not None:
        gauges.add("live_score", "Score of the production version on live posts.", naive.live.score, **labels)
        gauges.add("live_skill", "Skill against the naive forecast on live posts.", naive.skill, **labels)
        if naive.live.coverage is not None:
            coverage = "Share of live posts in the 80% interval of the production version."
            gauges.add("live_interval_coverage", coverage, naive.live.coverage, **labels)
    worse = "E-value that the production version is worse than another forecast on live posts; 20 is a verdict."
    better = "E-value that the production version is better than another forecast on live posts."
    for one in found.comparisons:
        against = {**labels, "against": one.against}
        gauges.add("live_e_worse", worse, one.e_worse, **against)
        gauges.add("live_e_better", better, one.e_better, **against)
    is_tested = found.against("challenger") is not None
    gauges.add("ab_test_running", "Whether an A/B test is running.", is_tested, **labels)


_STREAMS_WORSE = "Streams whose production version is worse on live posts than the naive or previous one (E of 100)."
_SCORES = {  # by their names in an evaluation
    "overall_score": ("production_score", "Score of the production version in its latest evaluation."),
    "skill": (
        "production_skill",
        "Skill of the production version against the naive forecast, in its latest evaluation.",
    ),
    "interval_coverage": (
        "production_interval_coverage",
        "Share of posts in the 80% interval of the production version, in its latest evaluation.",
    ),
}


def _add_last_runs(gauges: _Gauges, registry: Registry, model_type: ModelTypeName, labels: Mapping[str, str]) -> None:
    completed, failed = (
        registry.list_runs(model_type, 1, RunFilter(status=status)) for status in ("completed", "failed")
    )
    ended = [*completed, *failed]
    if ended:
        newest = max(ended, key=lambda run: run.started_at)
        has_failed = newest.status != "completed"
        gauges.add("last_run_failed", "Whether the latest run that ended failed.", has_failed, **labels)
    for run in completed:
        if run.completed_at is not None:
            at = run.completed_at.timestamp()
            gauges.add("last_completed_run_timestamp_seconds", "When the latest run completed.", at, **labels)


def _add_posts(gauges: _Gauges, posts: PostsActivity, label: Mapping[str, str]) -> None:
    gauges.add("posts", "The number of posts.", posts.count, **label)
    if posts.freshness is None:
        return
    gauges.add(*_NEWEST_POST, posts.freshness.newest_at.timestamp(), **label)
    if posts.freshness.stale_at is not None:
        gauges.add(
            "posts_stale_timestamp_seconds",
            "When the posts become stale unless another one arrives: the newest post plus the longest usual gap.",
            posts.freshness.stale_at.timestamp(),
            **label,
        )


class _RunTotals(Collector):
    """The durations of all runs by outcome, and their cost, as counters that the database keeps."""

    def __init__(self, totals: Sequence[RunTotal]) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
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

"""How production does on live posts, and the A/B tests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from retrainer.console import Styled
from retrainer.errors import RetrainerError, ServerBusy
from retrainer.live.ab_tests import get_latest_test, measure_test
from retrainer.live.drift import measure_drift
from retrainer.live.report import report_live
from retrainer.live.summary import list_comparisons
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.posts.validation import number
from retrainer.registry.live import Progress
from retrainer.render import ab_tests as ab_text
from retrainer.render import live as live_text
from retrainer.render.charts import live as live_charts
from retrainer.web.rendering import NOTHING, Page, score
from retrainer.web.specs import page

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from datetime import datetime

    from retrainer.live.ab_tests import ABTestState
    from retrainer.live.drift import Drift
    from retrainer.live.error_interval import ErrorInterval
    from retrainer.live.report import LiveReport
    from retrainer.live.summary import ComparisonReport
    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.live_tables import ABTest
    from retrainer.render.charts.chart import Chart
    from retrainer.web.background import Background
    from retrainer.web.site import Visit

    GetReport = Callable[[Project, ModelTypeName, datetime], LiveReport]

SHOWN_TESTS = 20
MAX_AGE_SECONDS = 60.0  # of what is shown of the posts, while the live scores stay the same
WAIT_SECONDS = 30.0  # until a million scores are read
MAX_DRIFT_AGE_SECONDS = 600.0  # while the number of posts up to midnight stays the same
DRIFT_WAIT_SECONDS = 1.0
STILL_MEASURED = "Drift is still being measured. Reload the page in a moment."
COMPARISON_HEADERS = (
    "Against",
    "Posts",
    "Score",
    "Other score",
    "CRPS",
    "Other CRPS",
    "E worse",
    "E better",
    "Live error",
)
_LARGE = 1_000_000  # of e-values


@dataclass(frozen=True)
class LiveModel:
    """One model type.

    Attributes:
        report: how production does; None if nothing is in production.
        tone: whether the verdict is `good`, `bad` or neither.
        charts: of the scores, the error and the evidence; none without live posts.
        comparisons: with each other forecast, as the cells of `COMPARISON_HEADERS`.
        notes: what else there is to say, each with its tone.
        test: the running A/B test or, if none is running, the last one.
        test_words: how that test stands, in a few words.
        test_posts: on how many posts, in words.
        test_evidence: that production is better, and that the challenger is.
        earlier_tests: those before, newest first.
    """

    model_type: ModelTypeName
    report: LiveReport | None
    tone: str = ""
    charts: Sequence[Chart] = ()
    comparisons: Sequence[Sequence[str]] = ()
    notes: Sequence[tuple[str, str]] = ()
    test: ABTestState | None = None
    test_words: str = ""
    test_posts: str = ""
    test_evidence: tuple[str, str] = ("", "")
    earlier_tests: Sequence[ABTest] = ()
    comparison_headers: Sequence[str] = COMPARISON_HEADERS


def gather_live(
    project: Project,
    now: datetime,
    model_types: Sequence[ModelTypeName] = MODEL_TYPE_NAMES,
    report: GetReport = report_live,
) -> list[LiveModel]:
    """Return how production does by the scores recorded so far. Nothing is scored, decided or written.

    Args:
        project: the project seen from the stream.
        model_types: the types to show.
        report: returns the report on a model type with a production version.
    """
    return [_with_tests(project, _gather_scores(project, model_type, now, report), now) for model_type in model_types]


def _gather_scores(project: Project, model_type: ModelTypeName, now: datetime, get: GetReport) -> LiveModel:
    if project.registry.get_production(model_type) is None:
        return LiveModel(model_type, None)
    report = get(project, model_type, now)
    verdict = live_text.VERDICTS[report.verdict]
    drawn = (live_charts.scores(report), live_charts.errors(report), live_charts.evidence(report))
    return LiveModel(
        model_type,
        report,
        tone=verdict.style if isinstance(verdict, Styled) else "",
        charts=[chart for chart in drawn if chart is not None],
        comparisons=[_cells(one) for one in report.comparisons if one.num_posts],
        notes=[(note.text, note.style) if isinstance(note, Styled) else (note, "") for note in live_text.notes(report)],
    )


def _with_tests(project: Project, model: LiveModel, now: datetime) -> LiveModel:
    latest = get_latest_test(project, model.model_type)
    if latest is None:
        return model
    state = measure_test(project, latest, now)
    listed = project.registry.list_tests(model.model_type, SHOWN_TESTS + 1)
    return replace(
        model,
        test=state,
        test_words="running" if latest.status == "running" else ab_text.OUTCOMES.get(str(latest.outcome), "ended"),
        test_posts=number(state.num_posts, "live post"),
        test_evidence=(
            ab_text.format_evidence(state.evidence_for_production),
            ab_text.format_evidence(state.evidence_for_challenger),
        ),
        earlier_tests=[test for test in listed if test.test_id != latest.test_id],
    )


def _cells(one: ComparisonReport) -> tuple[str, ...]:
    name = live_text.NAMES[one.against]
    return (
        name if one.other_version_id is None else f"{name}: {one.other_version_id}",
        f"{one.num_posts:,}",
        score(one.live.score if one.live else None),
        score(one.other.score if one.other else None),
        live_text.format_crps(one.live),
        live_text.format_crps(one.other),
        _format_evidence(one.e_worse),
        _format_evidence(one.e_better),
        NOTHING if one.error is None else _describe_error(one.error),
    )


def _format_evidence(value: float) -> str:
    if value >= _LARGE:
        return f"over {_LARGE:,}"
    return f"{value:.2g}" if value < 1 else f"{value:,.0f}"


def _describe_error(interval: ErrorInterval) -> str:
    """Return by how much the error is smaller or larger, such as `at least 8% smaller`."""
    if not interval.is_known:
        return "not known yet"
    return interval.describe().removesuffix(" than").removesuffix(" of")


@dataclass
class CachedReports:
    """Reports that were made in the background: they read all live scores and all posts.

    Attributes:
        without_drift: the model types whose drift is still being measured.
    """

    background: Background
    without_drift: list[ModelTypeName] = field(default_factory=list)

    def get(self, project: Project, model_type: ModelTypeName, now: datetime) -> LiveReport:
        """Return the report on the live scores that there are, up to a minute old as to the posts.

        Raises:
            ServerBusy: it is still being made.
        """
        version = project.registry.get_production(model_type)
        fit = None if version is None else (version.fit, version.promoted_at)
        rows = list_comparisons(project.registry, model_type)
        scored = tuple((row.comparison_id, row.num_scored, *Progress.of(row)) for row in rows)

        def report() -> LiveReport | RetrainerError:
            try:
                return report_live(project, model_type, now, drift=[])
            except RetrainerError as error:
                return error

        key = ("live", project.stream, model_type, fit, scored)
        found = self.background.get(key, report, max_age=MAX_AGE_SECONDS, wait=WAIT_SECONDS)
        if found is None:
            raise ServerBusy("the live scores are still being read", hint="Reload the page in a moment")
        if isinstance(found, RetrainerError):
            self.background.forget(key)
            raise found
        return replace(found, drift=self._drift(project, model_type, fit, now))

    def _drift(self, project: Project, model_type: ModelTypeName, fit: Hashable, now: datetime) -> list[Drift]:
        """Return the drift, which the posts of whole days decide; none if it is still being measured."""
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)

        def measure() -> list[Drift] | RetrainerError:
            try:
                return measure_drift(project, model_type, now)
            except RetrainerError as error:
                return error

        key = ("drift", project.stream, model_type, fit, midnight, project.posts.count(midnight))
        found = self.background.get(key, measure, max_age=MAX_DRIFT_AGE_SECONDS, wait=DRIFT_WAIT_SECONDS)
        if isinstance(found, RetrainerError):
            self.background.forget(key)
            raise found
        if found is None:
            self.without_drift.append(model_type)
        return found or []


def live(visit: Visit) -> Page:
    """Return the page of the live scores and the A/B tests of a stream."""
    reports = CachedReports(visit.site.background)
    models = [
        replace(model, notes=[*model.notes, (STILL_MEASURED, "")])
        if model.model_type in reports.without_drift
        else model
        for model in gather_live(visit.project, visit.now, report=reports.get)
    ]
    return Page("live.html", "Live and A/B", {"models": models}, "/live")


ROUTES = [page("/live", live, work="inspect", cached="briefly")]

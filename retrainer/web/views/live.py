"""How production does on the posts since its promotion, and the A/B tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from retrainer.console import Styled
from retrainer.live.ab_tests import get_latest_test, measure_test
from retrainer.live.report import report_live
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.posts.validation import number
from retrainer.render import ab_tests as ab_text
from retrainer.render import live as live_text
from retrainer.render.charts import live as live_charts
from retrainer.web.rendering import NOTHING, Page, score
from retrainer.web.specs import page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from retrainer.live.ab_tests import ABTestState
    from retrainer.live.error_interval import ErrorInterval
    from retrainer.live.report import LiveReport
    from retrainer.live.summary import ComparisonReport
    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.live_tables import ABTest
    from retrainer.render.charts.chart import Chart
    from retrainer.web.site import Visit

SHOWN_TESTS = 20
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
    project: Project, now: datetime, model_types: Sequence[ModelTypeName] = MODEL_TYPE_NAMES
) -> list[LiveModel]:
    """Return how production does by the scores recorded so far. Nothing is scored, decided or written."""
    return [_with_tests(project, _gather_scores(project, model_type, now), now) for model_type in model_types]


def _gather_scores(project: Project, model_type: ModelTypeName, now: datetime) -> LiveModel:
    if project.registry.get_production(model_type) is None:
        return LiveModel(model_type, None)
    report = report_live(project, model_type, now)
    verdict = live_text.VERDICTS[report.verdict]
    return LiveModel(
        model_type,
        report,
        tone=verdict.style if isinstance(verdict, Styled) else "",
        charts=_charts(report),
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


def _charts(report: LiveReport) -> list[Chart]:
    drawn = (live_charts.scores(report), live_charts.errors(report), live_charts.evidence(report))
    return [chart for chart in drawn if chart is not None]


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


def live(visit: Visit) -> Page:
    """Return the page of the live scores and the A/B tests of a stream."""
    models = gather_live(visit.project, visit.now)
    return Page("live.html", "Live and A/B", {"models": models}, "/live")


ROUTES = [page("/live", live, work="inspect", cached="briefly")]

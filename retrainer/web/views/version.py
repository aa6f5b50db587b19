"""The page of a version: its history, its scores, how reliable it is, where it errs, what it forecast, its files."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

import numpy as np

from retrainer.errors import RetrainerError, UnknownName
from retrainer.live.summary import score_versions
from retrainer.model_types import get_model_type
from retrainer.model_types.base import Origins, silences, utc_times
from retrainer.pipeline.loading import load_forecasts
from retrainer.render.charts import importance, results
from retrainer.render.explanations import describe, describe_reading
from retrainer.render.ledger import describe_event, describe_reason, flatten_options
from retrainer.web.rendering import Page, name_stream
from retrainer.web.specs import page
from retrainer.web.views.scores import MetricTable, metric_table
from retrainer.web.views.similarity import TextPair, pair_texts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from retrainer.algorithms import Importance
    from retrainer.live.summary import Score
    from retrainer.project import Project
    from retrainer.registry.tables import LedgerEntry, ModelEvaluation, ModelExplanation, ModelVersion, VersionFile
    from retrainer.render.charts.chart import Chart
    from retrainer.web.site import Visit

log = logging.getLogger(__name__)

MAX_LOADED_POSTS = 200_000  # to know the silence before each forecast


@dataclass(frozen=True)
class HistoryEntry:
    """Something that happened to a version.

    Attributes:
        sentence: what happened, and why.
        who: who did it.
        run_id: the run that did it, if one did.
        other: another version concerned, if there is one.
    """

    at: datetime
    sentence: str
    who: str
    run_id: str | None
    other: str | None


@dataclass(frozen=True)
class EvaluationView:
    """One evaluation of a version.

    Attributes:
        row: its record.
        metrics: of the version and the naive forecast.
        charts: of its forecasts; none if they cannot be read.
        texts: a sample of forecast texts and the actual ones; of content only.
        has_forecasts: whether its forecasts could be read.
    """

    row: ModelEvaluation
    metrics: MetricTable
    charts: Sequence[Chart]
    texts: Sequence[TextPair]
    has_forecasts: bool


@dataclass(frozen=True)
class VersionView:
    """What the page shows.

    Attributes:
        history: what happened to the version, the latest first.
        evaluation: the latest, or the one that was chosen; None without any.
        evaluations: all of them, the latest first.
        importances: what its forecasts depend on; empty if it does not say, None if that is not known for now.
        importance_chart: the same as bars.
        explanation: what they depend on, as measured last; None if it was not.
        explanation_text: when and on which posts, and how to read it; empty without any.
        explanation_charts: the same.
        live: its score on live posts.
        production: the version in production, if that is another one.
        files: with sizes and hashes.
        options: with values.
    """

    version: ModelVersion
    history: Sequence[HistoryEntry]
    evaluation: EvaluationView | None
    evaluations: Sequence[ModelEvaluation]
    importances: Sequence[Importance] | None
    importance_chart: Chart | None
    explanation: ModelExplanation | None
    explanation_text: str
    explanation_charts: Sequence[Chart]
    live: Score | None
    production: str | None
    files: Sequence[VersionFile]
    options: Sequence[tuple[str, str]]


def version(visit: Visit) -> Page:
    """Return the page of the version that the address names."""
    project, found = visit.site.streams.find_version(visit.path["version_id"], visit.stream)
    importances = visit.site.versions.importance(found)
    view = gather_version(project, found, importances, visit.query.get("evaluation"))
    stream = name_stream(visit, found.stream)
    return Page("version.html", f"Version {found.version_id}", {"view": view}, "/versions", stream)


def gather_version(
    project: Project, version: ModelVersion, importances: Sequence[Importance] | None, evaluation_id: str | None = None
) -> VersionView:
    """Gather what is known about a version.

    Args:
        project: seen from the stream of the version.
        importances: see `loading.feature_importance`.
        evaluation_id: the evaluation to show in full; None for the latest.

    Raises:
        UnknownName: the version has no such evaluation.
    """
    registry = project.registry
    evaluations = registry.list_evaluations(version.version_id)
    entries = registry.version_history(version.version_id)
    shown = _choose_evaluation(version, evaluations, evaluation_id)
    production = registry.get_production(version.model_type_name)
    explanation = registry.get_explanation(version.version_id)
    scored = registry.list_scored_versions([version.version_id])
    return VersionView(
        version=version,
        history=[_describe(entry, version.version_id) for entry in entries],
        evaluation=None if shown is None else gather_evaluation(project, version, shown),
        evaluations=evaluations,
        importances=importances,
        importance_chart=importance.bars(importances or []),
        explanation=explanation,
        explanation_text="" if explanation is None else f"{describe(explanation)}. {describe_reading(explanation)}",
        explanation_charts=importance.parts(explanation),
        live=score_versions(scored).get(version.version_id) if scored else None,
        production=production.version_id if production and not version.is_production else None,
        files=registry.list_files(version.version_id),
        options=list(flatten_options(version.hyperparameters)),
    )


def _choose_evaluation(
    version: ModelVersion, evaluations: Sequence[ModelEvaluation], evaluation_id: str | None
) -> ModelEvaluation | None:
    if evaluation_id is None:
        return evaluations[0] if evaluations else None
    for row in evaluations:
        if row.evaluation_id == evaluation_id:
            return row
    raise UnknownName(
        f"'{version.version_id}' has no evaluation '{evaluation_id}'", hint="The page of the version lists them"
    )


def _describe(entry: LedgerEntry, version_id: str) -> HistoryEntry:
    who = f"automatically, {entry.actor}" if entry.automatic else entry.actor
    others = [one for one in (entry.from_version_id, entry.to_version_id) if one not in {None, version_id}]
    other = others[0] if others and entry.action in {"promotion", "rejection", "rollback"} else None
    sentence = f"It {describe_event(entry, version_id)}. {describe_reason(entry)}"
    return HistoryEntry(entry.recorded_at, sentence, who, entry.run_id, other)


def gather_evaluation(project: Project, version: ModelVersion, row: ModelEvaluation) -> EvaluationView:
    """Gather the metrics of an evaluation, and charts of its forecasts."""
    model_type = get_model_type(version.model_type_name)
    table = metric_table(model_type, {"version": row.metrics, "naive": row.baseline_metrics})
    stored = load_forecasts(project, version, row)
    texts: list[TextPair] = []
    charts: list[Chart | None] = []
    if version.model_type == "content":
        texts = [pair_texts(prediction) for prediction in row.predictions_json]
    elif stored is not None:
        waits, silence = stored.targets.wait_hours, _silences(project, row, stored.times)
        charts = results.of_timing(stored.times, stored.forecasts, stored.naive, waits, silence)
    return EvaluationView(row, table, [chart for chart in charts if chart], texts, stored is not None)


def _silences(project: Project, row: ModelEvaluation, times: NDArray[np.datetime64]) -> NDArray[np.float64] | None:
    """Return (n,) hours of silence before the forecasts; None if the posts are too many, gone or unreadable."""
    count = int(row.window.get("posts", 0)) + 2
    if count > MAX_LOADED_POSTS or not len(times):
        return None
    last = times.max().astype("datetime64[us]").item()
    try:
        posts = project.posts.load_before((last.replace(tzinfo=UTC), None), count, with_content=False)
    except RetrainerError as error:  # the rest of the page does not need the posts
        log.warning("The charts of '%s' omit the silences: %s", row.model_version_id, error)
        return None
    known = utc_times(posts)
    position = np.searchsorted(known, times, side="right") - 1
    if (position < 1).any():
        return None
    return silences(known, Origins(times, position.astype(np.int64)))


ROUTES = [
    page(
        "/version/{version_id}",
        version,
        about="project",
        parameters=("evaluation",),
        work="inspect",
        cached="briefly",
    )
]

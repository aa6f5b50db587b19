"""The page that compares two versions on the same posts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrainer.errors import RetrainerError
from retrainer.escapes import shorten
from retrainer.model_types import MODEL_TYPE_NAMES, get_model_type
from retrainer.pipeline.comparing import compare_versions
from retrainer.pipeline.loading import is_paid
from retrainer.pipeline.split import load_posts
from retrainer.render.charts import results
from retrainer.render.scores import add_skill, describe_evidence
from retrainer.web.rendering import Page
from retrainer.web.specs import page
from retrainer.web.views.scores import MetricTable, metric_table
from retrainer.web.views.similarity import MAX_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from retrainer.evaluation.comparison import Comparison
    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.tables import LedgerEntry, ModelVersion
    from retrainer.render.charts.chart import Chart
    from retrainer.runtime import Runtime
    from retrainer.web.site import Visit

CHOICES = 50  # versions of each type to choose from
SHOWN_POSTS = 10  # on which the two differ most


@dataclass(frozen=True)
class PostDifference:
    """A post that the two forecast differently.

    Attributes:
        at: the time of the post.
        actual, a, b: the actual post and the two forecasts, in words.
        difference: by how much b's contribution to the score is higher.
    """

    post_id: str
    at: datetime
    actual: str
    a: str
    b: str
    difference: float


@dataclass(frozen=True)
class ComparisonView:
    """Two versions compared.

    Attributes:
        a, b: the versions; b is judged.
        comparison: made now; None if it was not, see `problem` and `recorded`.
        metrics: of b, a and the naive forecast on the same posts.
        evidence: how certain b is better, in a sentence.
        charts: the bootstrap's distribution, the sum of the differences over time, where they differ most.
        posts: on which they differ most.
        problem: why they are not compared.
        recorded: the entry of the ledger with an earlier comparison of the two, if forecasts cost money.
    """

    a: ModelVersion
    b: ModelVersion
    comparison: Comparison | None = None
    metrics: MetricTable | None = None
    evidence: str | None = None
    charts: Sequence[Chart] = ()
    posts: Sequence[PostDifference] = ()
    problem: RetrainerError | None = None
    recorded: LedgerEntry | None = None
    is_paid: bool = False


def compare(visit: Visit) -> Page:
    """Return the page that compares the versions `a` and `b`, or lets one choose them."""
    choices = {name: visit.project.registry.list_versions(name, CHOICES) for name in MODEL_TYPE_NAMES}
    a, b = (_find(visit, visit.query.get(side)) for side in ("a", "b"))
    view = None
    if a is not None and b is not None:
        view = gather_comparison(visit.project, visit.site.runtime, a, b, visit.now)
    values = {"choices": choices, "view": view, "a": a, "b": b, "suggested": _suggest(choices)}
    return Page("compare.html", "Compare versions", values, "/versions")


def _find(visit: Visit, name: str | None) -> ModelVersion | None:
    return None if name is None else visit.site.streams.find_version(name, visit.project.stream)[1]


def _suggest(choices: Mapping[ModelTypeName, Sequence[ModelVersion]]) -> list[tuple[ModelVersion, ModelVersion]]:
    """Return, of each type, the production version and the latest other one."""
    found = []
    for versions in choices.values():
        live = next((version for version in versions if version.is_production), None)
        other = next((version for version in versions if not version.is_production and version.pruned_at is None), None)
        if live is not None and other is not None:
            found.append((live, other))
    return found


def gather_comparison(
    project: Project, runtime: Runtime, a: ModelVersion, b: ModelVersion, now: datetime
) -> ComparisonView:
    """Compare two versions, unless that costs money: then return what is recorded of an earlier comparison.

    Args:
        project: seen from the stream of the versions.
    """
    try:
        if is_paid(runtime, a) or is_paid(runtime, b):
            return ComparisonView(a, b, recorded=_find_recorded(project, a, b), is_paid=True)
        comparison = compare_versions(project, runtime, a, b, now)
    except RetrainerError as error:
        return ComparisonView(a, b, problem=error)
    model_type = get_model_type(comparison.model_type)
    sides = {"B": comparison.metrics_b, "A": comparison.metrics_a, "naive": comparison.naive_metrics}
    metrics = metric_table(model_type, add_skill(comparison.model_type, sides))
    evidence = None if comparison.evidence is None else describe_evidence("B", comparison.evidence)
    charts = [chart for chart in results.of_comparison(comparison, ("A", "B")) if chart]
    posts = _largest_differences(project, comparison, now)
    return ComparisonView(a, b, comparison, metrics, evidence, charts, posts)


def _find_recorded(project: Project, a: ModelVersion, b: ModelVersion) -> LedgerEntry | None:
    for entry in project.registry.version_history(b.version_id):
        if {entry.evidence.get("version_a"), entry.evidence.get("version_b")} == {a.version_id, b.version_id}:
            return entry
    return None


def _largest_differences(project: Project, comparison: Comparison, now: datetime) -> list[PostDifference]:
    """Return the posts on which the two differ most, the largest difference first."""
    a, b = comparison.evaluation_a, comparison.evaluation_b
    if a is None or b is None or comparison.window is None:
        return []
    both = a.scored & b.scored
    overall = get_model_type(comparison.model_type).overall_score
    differences = overall(b.contributions_on(both)) - overall(a.contributions_on(both))
    rows = np.flatnonzero(both)
    largest = [index for index in np.argsort(-np.abs(differences), kind="stable")[:SHOWN_POSTS] if differences[index]]
    at = load_posts(project, comparison.model_type, now)["created_at"].iloc[comparison.window.rows[rows]]
    return [
        _describe_post(comparison, at.iloc[index].to_pydatetime(), int(rows[index]), float(differences[index]))
        for index in largest
    ]


def _describe_post(comparison: Comparison, at: datetime, row: int, difference: float) -> PostDifference:
    model_type = get_model_type(comparison.model_type)
    a, b = (
        model_type.describe(side.forecasts, side.targets, row)
        for side in (comparison.evaluation_a, comparison.evaluation_b)
        if side is not None
    )
    post_id = comparison.evaluation_a.post_ids[row] if comparison.evaluation_a else ""
    if "text" in a:
        actual, one, other = (shorten(text or "", MAX_CHARACTERS) for text in (a["actual"], a["text"], b["text"]))
    else:
        actual, one, other = (f"{hours:.2f} h" for hours in (a["actual_hours"], a["point_hours"], b["point_hours"]))
    return PostDifference(post_id, at, actual, one, other, difference)


ROUTES = [page("/compare", compare, parameters=("a", "b"), work="forecast", cached="always")]

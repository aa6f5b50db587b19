"""Step 5: compare two versions on the same posts, none of which either was trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from retrainer.algorithms.budget import opened_workspace
from retrainer.errors import RetrainerError, UsageError
from retrainer.evaluation.bootstrap import Evidence, bootstrap_comparison
from retrainer.evaluation.decision_rule import Costs, Recommendation, improvement_percentage, recommend
from retrainer.model_types import get_model_type
from retrainer.pipeline.evaluations import (
    Evaluation,
    Window,
    evaluate,
    held_out_window,
    no_later_posts_error,
    resolve_origin_rule,
    trained_through,
)
from retrainer.pipeline.loading import TrainedModel, load_version
from retrainer.pipeline.split import load_posts

if TYPE_CHECKING:
    from datetime import datetime

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.config import RetrainingSettings
    from retrainer.model_types import ModelTypeName, OriginRule
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion

MIN_COMPARED_POSTS = 10
MIN_POSTS_IN_SITUATION = 5
DIFFERENCES_SHOWN = 3


@dataclass(frozen=True)
class Difference:
    """A situation in which two versions do not score alike.

    Attributes:
        situation: in a user's words.
        num_predictions: how many of the posts were foretold in it.
        score_a: a's overall score on these.
        score_b: b's.
    """

    situation: str
    num_predictions: int
    score_a: float
    score_b: float


@dataclass(frozen=True)
class Comparison:
    """Version b against version a, scored on the same posts by the same scorer.

    Attributes:
        version_a: the id of the version that b is held against, such as production.
        version_b: the id of the other, such as the candidate.
        metrics_a: the deciding metrics of a.
        metrics_b: those of b.
        naive_metrics: those of the naive forecast.
        num_predictions: how many posts both were scored on.
        window: the posts' window; None where there is no post later than both trainings.
        improvement_percentage: by how much b's score is better than a's; None where a scored 0, or nothing could be
            compared.
        recommendation: what to do with b.
        reason: why, in one sentence.
        evidence: how sure the improvement is; None where nothing, or too little, could be compared.
        costs: what the forecasts of both cost; None where neither costs anything.
        differences: where the two differ most, the weightiest first.
        of_a: a's evaluation on that window.
        of_b: b's.
        production_broken: whether nothing was compared because production could not be loaded, or could not forecast.
    """

    model_type: ModelTypeName
    version_a: str
    version_b: str
    metrics_a: dict[str, float] | None
    metrics_b: dict[str, float] | None
    naive_metrics: dict[str, float] | None
    num_predictions: int
    window: Window | None
    improvement_percentage: float | None
    recommendation: Recommendation
    reason: str
    evidence: Evidence | None = None
    costs: Costs | None = None
    differences: tuple[Difference, ...] = ()
    of_a: Evaluation | None = None
    of_b: Evaluation | None = None
    production_broken: bool = False

    @property
    def winner(self) -> str | None:
        """The id of the version with the higher score; None on a tie, or where nothing could be compared."""
        if self.metrics_a is None or self.metrics_b is None:
            return None
        a, b = self.metrics_a["overall_score"], self.metrics_b["overall_score"]
        if a == b:
            return None
        return self.version_b if b > a else self.version_a

    def figures(self) -> dict[str, Any]:
        """Return the figures behind the recommendation, for the record."""
        return {
            "version_a": self.version_a,
            "version_b": self.version_b,
            "metrics_a": self.metrics_a,
            "metrics_b": self.metrics_b,
            "baseline_metrics": self.naive_metrics,
            "num_predictions": self.num_predictions,
            "window": self.window.document() if self.window else None,
            "evidence": self.evidence.document() if self.evidence else None,
            "cost_usd": self.costs._asdict() if self.costs else None,
            "differences": [asdict(difference) for difference in self.differences],
        }


def common_window(
    posts: pd.DataFrame, a: ModelVersion, b: ModelVersion, most: int, origin: OriginRule
) -> Window | None:
    """Return the window of the posts later than the training of both versions; None without any."""
    return held_out_window(posts, max(trained_through(a), trained_through(b)), most, origin)


def compare(
    a: ModelVersion,
    b: ModelVersion,
    scores: tuple[Evaluation, Evaluation],
    posts: pd.DataFrame,
    settings: RetrainingSettings,
) -> Comparison:
    """Compare two evaluations of the same posts, on those that both have a forecast for.

    Args:
        a: the version that b is held against.
        b: the other.
        scores: the evaluations of a and of b, on one window.
        posts: the posts that they were made on.
        settings: `min_improvement_threshold` and `min_confidence` decide; see `verdict.judge`.
    """
    of_a, of_b = scores
    if not of_a.has_same_targets(of_b):
        raise ValueError("two versions can only be compared on the same posts, forecast from the same origins")
    both = of_a.scored & of_b.scored
    count = int(both.sum())
    if not count:
        return _nothing_to_compare(a, b, of_a.window, "no post has a forecast of both versions")
    metrics_a, metrics_b = of_a.score_on(both), of_b.score_on(both)
    old, new = metrics_a["overall_score"], metrics_b["overall_score"]
    evidence = None
    costs = _costs(of_a, of_b)
    if count < MIN_COMPARED_POSTS:
        recommendation: Recommendation = "not_enough_evidence"
        reason = f"Not enough evidence: only {count} posts could be compared ({MIN_COMPARED_POSTS} are needed)"
    else:
        overall = get_model_type(of_a.model_type).overall_score
        parts = (of_a.contributions_on(both), of_b.contributions_on(both))
        evidence = bootstrap_comparison(*parts, overall, confidence=settings.min_confidence)
        recommendation, reason = recommend(old, new, evidence, settings, costs)
    return Comparison(
        model_type=of_a.model_type,
        version_a=a.version_id,
        version_b=b.version_id,
        metrics_a=metrics_a,
        metrics_b=metrics_b,
        naive_metrics=of_a.naive_metrics_on(both),
        num_predictions=count,
        window=of_a.window,
        improvement_percentage=improvement_percentage(old, new),
        recommendation=recommendation,
        reason=reason,
        evidence=evidence,
        costs=costs,
        differences=_differences(of_a, of_b, both, posts),
        of_a=of_a,
        of_b=of_b,
    )


def compare_with_production(
    project: Project,
    posts: pd.DataFrame,
    production: ModelVersion,
    candidate: ModelVersion,
    ready: TrainedModel,
    of_candidate: Evaluation,
) -> Comparison:
    """Let production forecast the posts that the candidate did, and compare.

    Where production was trained on some of those posts, both forecast the later ones afresh.
    """
    settings = project.settings.retraining
    most = settings.max_predictions(of_candidate.model_type)
    window = common_window(posts, production, candidate, most, of_candidate.window.origin)
    if window is None:
        nothing = "no post is later than the training of both versions"
        return _nothing_to_compare(production, candidate, None, nothing)
    if window.first_row != of_candidate.window.first_row:
        of_candidate = evaluate(ready, posts, window)
    try:
        of_production = evaluate(load_version(project, production), posts, window)
    except RetrainerError as error:
        broken = f"production '{production.version_id}' cannot forecast: {error.message}"
        hint = f"{broken}. If the new version is good, promote it by hand"
        return replace(_nothing_to_compare(production, candidate, window, hint), production_broken=True)
    return compare(production, candidate, (of_production, of_candidate), posts, settings)


def compare_versions(
    project: Project, a: ModelVersion, b: ModelVersion, now: datetime, origin: OriginRule | None = None
) -> Comparison:
    """Let two registered versions forecast the posts later than the training of both, and compare.

    Args:
        origin: from where they forecast; None: as the settings say.

    Raises:
        UsageError: the versions are of different types, or the origin is not for their type.
        InsufficientData: no post is later than the training of both.
    """
    if a.model_type != b.model_type:
        raise UsageError(
            f"'{a.version_id}' forecasts {a.model_type} and '{b.version_id}' {b.model_type}",
            hint="Compare versions of one model type",
        )
    rule = resolve_origin_rule(project, a.model_type_name, origin)
    ready_a, ready_b = load_version(project, a), load_version(project, b)
    posts = load_posts(project, ready_a.model_type, now)
    settings = project.settings.retraining
    window = common_window(posts, a, b, settings.max_predictions(ready_a.model_type), rule)
    if window is None:
        raise no_later_posts_error(max(a, b, key=trained_through), rule)
    for ready in (ready_a, ready_b):
        ready.algorithm.check_ready(ready.options)
    with opened_workspace(project.answers_dir):
        scores = (evaluate(ready_a, posts, window), evaluate(ready_b, posts, window))
    return compare(a, b, scores, posts, settings)


def _costs(of_a: Evaluation, of_b: Evaluation) -> Costs | None:
    """Return what all forecasts of the window cost, those that cannot be scored included."""
    a, b = (get_model_type(of.model_type).count_outcomes(of.forecasts).get("cost_usd", 0.0) for of in (of_a, of_b))
    return Costs(a, b) if a or b else None


def _differences(
    of_a: Evaluation, of_b: Evaluation, both: NDArray[np.bool_], posts: pd.DataFrame
) -> tuple[Difference, ...]:
    """Return the situations that make most of the difference: that of the scores, times the number of posts."""
    kind = get_model_type(of_a.model_type)
    found = []
    for situation, is_so in kind.segments(posts, of_a.origins).items():
        chosen = both & is_so
        if chosen.sum() < MIN_POSTS_IN_SITUATION or chosen.sum() == both.sum():
            continue
        old, new = (float(kind.overall_score(of.contributions_on(chosen).mean(axis=0))) for of in (of_a, of_b))
        if old != new:
            found.append(Difference(situation, int(chosen.sum()), old, new))
    found.sort(key=lambda one: -abs(one.score_b - one.score_a) * one.num_predictions)
    return tuple(found[:DIFFERENCES_SHOWN])


def _nothing_to_compare(a: ModelVersion, b: ModelVersion, window: Window | None, why: str) -> Comparison:
    return Comparison(
        model_type=a.model_type_name,
        version_a=a.version_id,
        version_b=b.version_id,
        metrics_a=None,
        metrics_b=None,
        naive_metrics=None,
        num_predictions=0,
        window=window,
        improvement_percentage=None,
        recommendation="not_enough_evidence",
        reason=f"Not enough evidence: {why}",
    )

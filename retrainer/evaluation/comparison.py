"""Compare two evaluations of the same posts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from retrainer.evaluation.bootstrap import Evidence, bootstrap_comparison
from retrainer.evaluation.decision_rule import Costs, Recommendation, improvement_percentage, recommend
from retrainer.model_types import get_model_type

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.config import RetrainingSettings
    from retrainer.evaluation.evaluate import Evaluation
    from retrainer.evaluation.windows import Window
    from retrainer.model_types import ModelTypeName

MIN_COMPARED_POSTS = 10
MIN_POSTS_IN_SITUATION = 5
MAX_DIFFERENCES = 3


@dataclass(frozen=True)
class Difference:
    """A situation in which two versions score differently.

    Attributes:
        situation: a description for users, such as "on a weekend".
        num_predictions: the number of posts in this situation.
        score_a: the overall score of a on these posts.
        score_b: the overall score of b on these posts.
    """

    situation: str
    num_predictions: int
    score_a: float
    score_b: float


@dataclass(frozen=True)
class Comparison:
    """Version b compared with version a: the same posts, the same scorer.

    Attributes:
        version_a: the id of the reference version, such as production.
        version_b: the id of the other version, such as the candidate.
        metrics_a: the metrics of a; None if nothing could be compared.
        metrics_b: the metrics of b; None if nothing could be compared.
        naive_metrics: the metrics of the naive forecast; None if nothing could be compared.
        num_predictions: the number of posts on which both were scored.
        window: the window of these posts; None if no post is later than both trainings.
        improvement_percentage: by how much b's score is better than a's; None if a scored 0 or nothing could be
            compared.
        recommendation: what to do with b.
        reason: why, in one sentence.
        evidence: how certain the improvement is; None if too little could be compared.
        costs: what the forecasts of both cost; None if both are free.
        differences: the situations in which the two differ most, largest difference first.
        evaluation_a: the evaluation of a on that window.
        evaluation_b: the evaluation of b on that window.
        production_broken: whether nothing was compared because production could not be loaded or could not forecast.
    """

    model_type: ModelTypeName
    version_a: str
    version_b: str
    recommendation: Recommendation
    reason: str
    metrics_a: dict[str, float] | None = None
    metrics_b: dict[str, float] | None = None
    naive_metrics: dict[str, float] | None = None
    num_predictions: int = 0
    window: Window | None = None
    improvement_percentage: float | None = None
    evidence: Evidence | None = None
    costs: Costs | None = None
    differences: tuple[Difference, ...] = ()
    evaluation_a: Evaluation | None = None
    evaluation_b: Evaluation | None = None
    production_broken: bool = False

    @property
    def winner(self) -> str | None:
        """The id of the version with the higher score; None on a tie or if nothing could be compared."""
        if self.metrics_a is None or self.metrics_b is None:
            return None
        a, b = self.metrics_a["overall_score"], self.metrics_b["overall_score"]
        if a == b:
            return None
        return self.version_b if b > a else self.version_a

    def document(self) -> dict[str, Any]:
        """Return the figures behind the recommendation, as the ledger records them."""
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


def compare(
    versions: tuple[str, str],
    evaluations: tuple[Evaluation, Evaluation],
    posts: pd.DataFrame,
    settings: RetrainingSettings,
) -> Comparison:
    """Compare two evaluations of the same window, on the posts that both forecast.

    Args:
        versions: the ids of a, the reference, and of b.
        evaluations: of a and of b.
        posts: all posts in order.
        settings: `min_improvement_threshold` and `min_confidence` decide; see `decision_rule.recommend`.
    """
    a, b = evaluations
    if not a.has_same_targets(b):
        raise ValueError("two versions can only be compared on the same posts, forecast from the same origins")
    both = a.scored & b.scored
    count = int(both.sum())
    if not count:
        return no_comparison(a.model_type, versions, a.window, "no post has a forecast of both versions")
    metrics_a, metrics_b = a.metrics_on(both), b.metrics_on(both)
    old, new = metrics_a["overall_score"], metrics_b["overall_score"]
    costs = _costs(a, b)
    evidence = None
    if count < MIN_COMPARED_POSTS:
        recommendation: Recommendation = "not_enough_evidence"
        reason = f"Not enough evidence: only {count} posts could be compared ({MIN_COMPARED_POSTS} required)"
    else:
        contributions = (a.contributions_on(both), b.contributions_on(both))
        evidence = bootstrap_comparison(
            *contributions, get_model_type(a.model_type).overall_score, confidence=settings.min_confidence
        )
        recommendation, reason = recommend(old, new, evidence, settings, costs)
    return Comparison(
        model_type=a.model_type,
        version_a=versions[0],
        version_b=versions[1],
        recommendation=recommendation,
        reason=reason,
        metrics_a=metrics_a,
        metrics_b=metrics_b,
        naive_metrics=a.naive_metrics_on(both),
        num_predictions=count,
        window=a.window,
        improvement_percentage=improvement_percentage(old, new),
        evidence=evidence,
        costs=costs,
        differences=_largest_differences(a, b, both, posts),
        evaluation_a=a,
        evaluation_b=b,
    )


def no_comparison(
    model_type: ModelTypeName,
    versions: tuple[str, str],
    window: Window | None,
    reason: str,
    *,
    production_broken: bool = False,
) -> Comparison:
    """Return the comparison of two versions that could not be compared, with the reason."""
    return Comparison(
        model_type,
        *versions,
        "not_enough_evidence",
        f"Not enough evidence: {reason}",
        window=window,
        production_broken=production_broken,
    )


def _costs(a: Evaluation, b: Evaluation) -> Costs | None:
    """Return the cost of all forecasts, including those that cannot be scored."""
    cost_a, cost_b = (
        get_model_type(side.model_type).count_outcomes(side.forecasts).get("cost_usd", 0.0) for side in (a, b)
    )
    return Costs(cost_a, cost_b) if cost_a or cost_b else None


def _largest_differences(
    a: Evaluation, b: Evaluation, both: NDArray[np.bool_], posts: pd.DataFrame
) -> tuple[Difference, ...]:
    """Return the situations with the largest difference of scores times number of posts."""
    model_type = get_model_type(a.model_type)
    found = []
    for situation, mask in model_type.segments(posts, a.origins).items():
        chosen = both & mask
        if chosen.sum() < MIN_POSTS_IN_SITUATION or chosen.sum() == both.sum():
            continue
        old, new = (float(model_type.overall_score(side.contributions_on(chosen).mean(axis=0))) for side in (a, b))
        if old != new:
            found.append(Difference(situation, int(chosen.sum()), old, new))
    found.sort(key=lambda difference: -abs(difference.score_b - difference.score_a) * difference.num_predictions)
    return tuple(found[:MAX_DIFFERENCES])

"""Step 5: compare two versions on the same posts, none of which either was trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from retrainer.errors import RetrainerError, UsageError
from retrainer.pipeline.evaluation import (
    Evaluation,
    Window,
    chosen_origin,
    evaluate,
    nothing_later,
    trained_through,
    window_after,
)
from retrainer.pipeline.posts import load_latest
from retrainer.pipeline.versions import ReadyModel, load_version

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from retrainer.model_types import ModelTypeName, OriginRule
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion

FEWEST_TARGETS = 10
_ROUNDING = 1e-9  # 0.51 against 0.50 is 2%, whatever the last binary digit says

Recommendation = Literal["promote", "reject", "not_enough_evidence"]


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

    def evidence(self) -> dict[str, Any]:
        """Return the figures behind the recommendation, for the record."""
        return {
            "version_a": self.version_a,
            "version_b": self.version_b,
            "metrics_a": self.metrics_a,
            "metrics_b": self.metrics_b,
            "baseline_metrics": self.naive_metrics,
            "num_predictions": self.num_predictions,
            "window": self.window.document() if self.window else None,
        }


def common_window(
    posts: pd.DataFrame, a: ModelVersion, b: ModelVersion, most: int, origin: OriginRule
) -> Window | None:
    """Return the window of the posts later than the training of both versions; None without any."""
    return window_after(posts, max(trained_through(a), trained_through(b)), most, origin)


def compare(a: ModelVersion, b: ModelVersion, scores: tuple[Evaluation, Evaluation], threshold: float) -> Comparison:
    """Compare two evaluations of the same posts, on those that both have a forecast for.

    Args:
        a: the version that b is held against.
        b: the other.
        scores: the evaluations of a and of b, on one window.
        threshold: the smallest improvement that counts, in percent.
    """
    of_a, of_b = scores
    if not of_a.foretells_the_same(of_b):
        raise ValueError("two versions can only be compared on the same posts, forecast from the same origins")
    both = of_a.scored & of_b.scored
    count = int(both.sum())
    if not count:
        return _nothing_to_compare(a, b, of_a.window, "no post has a forecast of both versions")
    metrics_a, metrics_b = of_a.score_where(both), of_b.score_where(both)
    old, new = metrics_a["overall_score"], metrics_b["overall_score"]
    improvement = improvement_percentage(old, new)
    if count < FEWEST_TARGETS:
        recommendation: Recommendation = "not_enough_evidence"
        reason = f"Not enough evidence: only {count} posts could be compared ({FEWEST_TARGETS} are needed)"
    else:
        recommendation = "promote" if is_enough(old, new, threshold) else "reject"
        reason = verdict(old, new, threshold)
    return Comparison(
        model_type=of_a.model_type,
        version_a=a.version_id,
        version_b=b.version_id,
        metrics_a=metrics_a,
        metrics_b=metrics_b,
        naive_metrics=of_a.naive_where(both),
        num_predictions=count,
        window=of_a.window,
        improvement_percentage=improvement,
        recommendation=recommendation,
        reason=reason,
        of_a=of_a,
        of_b=of_b,
    )


def compare_with_production(
    project: Project,
    posts: pd.DataFrame,
    production: ModelVersion,
    candidate: ModelVersion,
    ready: ReadyModel,
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
    return compare(production, candidate, (of_production, of_candidate), settings.min_improvement_threshold)


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
    rule = chosen_origin(project, a.type_name, origin)
    ready_a, ready_b = load_version(project, a), load_version(project, b)
    posts = load_latest(project, ready_a.model_type, now)
    settings = project.settings.retraining
    window = common_window(posts, a, b, settings.max_predictions(ready_a.model_type), rule)
    if window is None:
        raise nothing_later(max(a, b, key=trained_through), rule)
    for ready in (ready_a, ready_b):
        ready.algorithm.check_ready(ready.options)
    scores = (evaluate(ready_a, posts, window), evaluate(ready_b, posts, window))
    return compare(a, b, scores, settings.min_improvement_threshold)


def improvement_percentage(old: float, new: float) -> float | None:
    """Return (new − old) / old · 100; None where the old score is 0."""
    return (new - old) / old * 100 if old > 0 else None


def is_enough(old: float, new: float, threshold: float) -> bool:
    """Whether the new score is better by at least the threshold, in percent; than 0, any score is better."""
    improvement = improvement_percentage(old, new)
    return new > old and (improvement is None or improvement >= threshold - _ROUNDING)


def verdict(old: float, new: float, threshold: float) -> str:
    """Say how the new score compares, in the specification's words."""
    improvement = improvement_percentage(old, new)
    if new == old:
        return "New model scores the same"
    if improvement is None:
        return f"New model scores {new:.4f} against 0"
    if improvement < 0:
        return f"New model is {_shown(-improvement)}% worse"
    if is_enough(old, new, threshold):
        return f"New model is {_shown(improvement)}% better"
    written = f"{threshold:.1f}" if round(threshold, 1) == threshold else f"{threshold:g}"
    return f"New model is {_shown(improvement, below=threshold)}% better (below {written}% threshold)"


def _shown(percentage: float, below: float | None = None) -> str:
    """Write a percentage with one decimal, or with more where rounding would belie it."""
    for decimals in (1, 2, 3, 4):
        text = f"{percentage:.{decimals}f}"
        if float(text) > 0 and (below is None or float(text) < below):
            return text
    return f"{percentage:.1g}"


def _nothing_to_compare(a: ModelVersion, b: ModelVersion, window: Window | None, why: str) -> Comparison:
    return Comparison(
        model_type=a.type_name,
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

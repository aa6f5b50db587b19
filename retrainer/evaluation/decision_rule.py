"""The rule that decides on a comparison: promote, reject, or not enough evidence, with a one-sentence reason."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from retrainer.config import RetrainingSettings
    from retrainer.evaluation.bootstrap import Evidence

Recommendation = Literal["promote", "reject", "not_enough_evidence"]

_ROUNDING = 1e-9  # 0.51 is 2% better than 0.50, whatever the last binary digit says


class Costs(NamedTuple):
    """What the forecasts of a and b cost on the same posts, in US dollars."""

    a: float
    b: float

    @property
    def increase_percentage(self) -> float | None:
        """By how much b costs more than a, in percent; None if a is free."""
        return (self.b - self.a) / self.a * 100 if self.a > 0 else None

    def exceed(self, max_increase: float | None) -> bool:
        """Whether b costs over `max_increase` percent more than a; if a is free, whether b is not."""
        increase = self.increase_percentage
        if max_increase is None:
            return False
        return self.b > self.a if increase is None else increase > max_increase + _ROUNDING


def recommend(
    old: float, new: float, evidence: Evidence, settings: RetrainingSettings, costs: Costs | None = None
) -> tuple[Recommendation, str]:
    """Return the recommendation for two scores and its reason.

    A model that would be promoted is rejected if it costs more than `max_cost_increase` allows.
    """
    recommendation, reason = _recommend_by_score(old, new, evidence, settings, costs)
    max_increase = settings.content_model.max_cost_increase
    if recommendation == "promote" and costs is not None and costs.exceed(max_increase):
        return "reject", f"{reason}; max_cost_increase is {max_increase:g}%"
    return recommendation, reason


def _recommend_by_score(
    old: float, new: float, evidence: Evidence, settings: RetrainingSettings, costs: Costs | None
) -> tuple[Recommendation, str]:
    """Return the recommendation based on the scores alone.

    The improvement must reach the threshold. With `min_confidence` the new model must also be better with that
    probability; an improvement that is neither proved nor ruled out is not enough evidence. It is ruled out if the 95%
    interval lies below the threshold, if the new model is worse with that confidence, or if both score the same.
    Without `min_confidence`, weak evidence is reported but blocks nothing.
    """
    threshold, min_confidence = settings.min_improvement_threshold, settings.min_confidence
    enough = meets_threshold(old, new, threshold)
    reason = _add_figures(_add_cost(describe_improvement(old, new, threshold), costs), evidence)
    if min_confidence is None:
        if enough and not evidence.is_settled:
            reason += f"; not enough evidence to be sure{_posts_needed(evidence)}"
        return ("promote" if enough else "reject"), reason
    if enough and evidence.probability_better >= min_confidence:
        return "promote", reason
    interval = evidence.interval_percentage
    ruled_out = (
        new == old
        or 1 - evidence.probability_better >= min_confidence
        or (interval is not None and interval[1] < threshold)
    )
    if not enough and ruled_out:
        return "reject", reason
    unproved = _unproved(evidence, threshold, min_confidence)
    return "not_enough_evidence", f"Not enough evidence: {reason[0].lower()}{reason[1:]}; {unproved}"


def improvement_percentage(old: float, new: float) -> float | None:
    """Return (new − old) / old · 100; None if the old score is 0."""
    return (new - old) / old * 100 if old > 0 else None


def meets_threshold(old: float, new: float, threshold: float) -> bool:
    """Whether the new score is better by at least `threshold` percent; any score is better than 0."""
    improvement = improvement_percentage(old, new)
    return new > old and (improvement is None or improvement >= threshold - _ROUNDING)


def describe_improvement(old: float, new: float, threshold: float) -> str:
    """Describe how the new score compares, such as `New model is 5.2% better`."""
    improvement = improvement_percentage(old, new)
    if new == old:
        return "New model scores the same"
    if improvement is None:
        return f"New model scores {new:.4f} against 0"
    if improvement < 0:
        return f"New model is {_format_percentage(-improvement)}% worse"
    if meets_threshold(old, new, threshold):
        return f"New model is {_format_percentage(improvement)}% better"
    limit = f"{threshold:.1f}" if round(threshold, 1) == threshold else f"{threshold:g}"
    return f"New model is {_format_percentage(improvement, below=threshold)}% better (below {limit}% threshold)"


def _format_percentage(percentage: float, below: float | None = None) -> str:
    """Format with one decimal, or more if rounding would show 0 or reach the bound `below`."""
    for decimals in (1, 2, 3, 4):
        text = f"{percentage:.{decimals}f}"
        if float(text) > 0 and (below is None or float(text) < below):
            return text
    return f"{Decimal(f'{percentage:.1g}'):f}"  # without an exponent


def _add_cost(reason: str, costs: Costs | None) -> str:
    """Add the difference in cost, before the parenthesis of a reason."""
    if costs is None or costs.a == costs.b:
        return reason
    increase = costs.increase_percentage
    if increase is None:
        cost = f"${costs.b:.4f} more cost"
    else:
        cost = f"{_format_percentage(abs(increase))}% {'more' if increase > 0 else 'less'} cost"
    start, parenthesis, rest = reason.partition(" (")
    return f"{start} at {cost}{parenthesis}{rest}"


def _add_figures(reason: str, evidence: Evidence) -> str:
    """Add the interval and the number of posts in the parenthesis at the end of a reason."""
    interval = evidence.interval_percentage
    figures = f"{evidence.num_predictions} posts"
    if interval is not None:
        figures = f"95% interval {interval[0]:.1f} to {interval[1]:.1f}, {figures}"
    return f"{reason[:-1]}; {figures})" if reason.endswith(")") else f"{reason} ({figures})"


def _unproved(evidence: Evidence, threshold: float, min_confidence: float) -> str:
    """Say what is not proved: that the new model is better or, if it is, that it misses the threshold."""
    if evidence.probability_better >= min_confidence:
        return f"it is better, but an improvement of {threshold:g}% is not ruled out"
    probability = math.floor(evidence.probability_better * 100) / 100  # rounded up, it could look sufficient
    return f"better with probability {probability:.2f}, {min_confidence:g} required{_posts_needed(evidence)}"


def _posts_needed(evidence: Evidence) -> str:
    return f", about {evidence.more_posts} more posts would settle it" if evidence.more_posts else ""

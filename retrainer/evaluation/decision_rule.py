"""What a comparison means: promote, reject, or not enough evidence; and why, in one sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from retrainer.config import RetrainingSettings
    from retrainer.evaluation.bootstrap import Evidence

Recommendation = Literal["promote", "reject", "not_enough_evidence"]

_ROUNDING = 1e-9  # 0.51 against 0.50 is 2%, whatever the last binary digit says


class Costs(NamedTuple):
    """What the forecasts of both sides cost, on the same posts, in US dollars."""

    a: float
    b: float

    @property
    def increase_percentage(self) -> float | None:
        """By how much b costs more than a, in percent; None where a costs nothing."""
        return (self.b - self.a) / self.a * 100 if self.a > 0 else None

    def exceed(self, most: float | None) -> bool:
        """Whether b costs more than `most` percent more than a; than nothing, any cost is more."""
        increase = self.increase_percentage
        return most is not None and (self.b > self.a if increase is None else increase > most + _ROUNDING)


def recommend(
    old: float, new: float, evidence: Evidence, settings: RetrainingSettings, costs: Costs | None = None
) -> tuple[Recommendation, str]:
    """Return the verdict on two scores, and the reason for it in one sentence.

    A model that would be promoted is rejected where it costs more than `max_cost_increase` allows.
    """
    recommendation, reason = _recommend(old, new, evidence, settings, costs)
    most = settings.content_model.max_cost_increase
    if recommendation == "promote" and costs is not None and costs.exceed(most):
        return "reject", f"{reason}; max_cost_increase is {most:g}%"
    return recommendation, reason


def _recommend(
    old: float, new: float, evidence: Evidence, settings: RetrainingSettings, costs: Costs | None
) -> tuple[Recommendation, str]:
    """Return the verdict on the scores alone.

    The threshold decides, as the specification says. Where `min_confidence` is set, the new model must be better with
    that probability as well; what is then neither proved nor ruled out is not enough evidence. An improvement below the
    threshold is ruled out where the 95% interval lies below the threshold, where the new model is worse with that
    confidence, or where both score the same. Where `min_confidence` is not set, thin evidence is told and stops
    nothing.
    """
    enough = meets_threshold(old, new, settings.min_improvement_threshold)
    words = _with_figures(
        _with_cost(describe_improvement(old, new, settings.min_improvement_threshold), costs), evidence
    )
    if settings.min_confidence is None:
        thin = enough and not evidence.is_settled
        return ("promote" if enough else "reject"), words + (
            f"; not enough evidence to be sure{_more(evidence)}" * thin
        )
    if enough and evidence.probability_better >= settings.min_confidence:
        return "promote", words
    interval = evidence.interval_percentage
    ruled_out = (
        new == old
        or 1 - evidence.probability_better >= settings.min_confidence
        or (interval is not None and interval[1] < settings.min_improvement_threshold)
    )
    if not enough and ruled_out:
        return "reject", words
    return "not_enough_evidence", f"Not enough evidence: {words[0].lower()}{words[1:]}; {_open(evidence, settings)}"


def improvement_percentage(old: float, new: float) -> float | None:
    """Return (new − old) / old · 100; None where the old score is 0."""
    return (new - old) / old * 100 if old > 0 else None


def meets_threshold(old: float, new: float, threshold: float) -> bool:
    """Whether the new score is better by at least the threshold, in percent; than 0, any score is better."""
    improvement = improvement_percentage(old, new)
    return new > old and (improvement is None or improvement >= threshold - _ROUNDING)


def describe_improvement(old: float, new: float, threshold: float) -> str:
    """Say how the new score compares, in the specification's words."""
    improvement = improvement_percentage(old, new)
    if new == old:
        return "New model scores the same"
    if improvement is None:
        return f"New model scores {new:.4f} against 0"
    if improvement < 0:
        return f"New model is {_shown(-improvement)}% worse"
    if meets_threshold(old, new, threshold):
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


def _with_cost(words: str, costs: Costs | None) -> str:
    """Say what the new model costs more or less, before the brackets of a verdict."""
    if costs is None or costs.a == costs.b:
        return words
    increase = costs.increase_percentage
    if increase is None:
        said = f"${costs.b:.4f} more cost"
    else:
        said = f"{_shown(abs(increase))}% {'more' if increase > 0 else 'less'} cost"
    start, bracket, rest = words.partition(" (")
    return f"{start} at {said}{bracket}{rest}"


def _with_figures(words: str, evidence: Evidence) -> str:
    """Put the interval and the number of posts into the brackets at the end of a verdict."""
    interval = evidence.interval_percentage
    figures = f"{evidence.num_predictions} posts"
    if interval is not None:
        figures = f"95% interval {interval[0]:.1f} to {interval[1]:.1f}, {figures}"
    return f"{words[:-1]}; {figures})" if words.endswith(")") else f"{words} ({figures})"


def _open(evidence: Evidence, settings: RetrainingSettings) -> str:
    """Say what is not proved: that the new model is better or, where that is, that it is by less than the threshold."""
    asked = settings.min_confidence or 0.0
    if evidence.probability_better >= asked:
        return f"it is better, but an improvement of {settings.min_improvement_threshold:g}% is not ruled out"
    shown = math.floor(evidence.probability_better * 100) / 100  # rounded up, it would look like what is asked for
    return f"better with probability {shown:.2f}, {asked:g} is asked for{_more(evidence)}"


def _more(evidence: Evidence) -> str:
    return f", about {evidence.more_posts} more posts would settle it" if evidence.more_posts else ""

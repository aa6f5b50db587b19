"""The results of a replay: how well each policy would have done, and whether the difference is more than noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from retrainer.evaluation.bootstrap import LEVEL, Evidence, bootstrap_comparison, score_interval
from retrainer.evaluation.comparison import MIN_COMPARED_POSTS
from retrainer.evaluation.decision_rule import improvement_percentage
from retrainer.model_types import get_model_type
from retrainer.model_types.base import skill_score
from retrainer.replay.policies import CONFIGURED
from retrainer.replay.step import REVIEWED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from retrainer.model_types import ModelTypeName
    from retrainer.replay.policies import Policy
    from retrainer.replay.step import StepResult

    Floats = NDArray[np.float64]

_WEEK = timedelta(days=7)
_FALSE_POSITIVE_RATE = 0.05  # of calling any difference real although there is none


class Figure(NamedTuple):
    """A figure with its 95% interval; None if there are too few posts for an interval."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class LiveScores:
    """How well the production versions forecast the posts that followed.

    Attributes:
        rows: (n) the rows of the posts.
        figures: (n, k) their contributions to the score.
        naive_figures: (n, k) the contributions of the naive forecasts.
    """

    model_type: ModelTypeName
    rows: NDArray[np.int64]
    figures: Floats
    naive_figures: Floats

    @classmethod
    def from_steps(cls, model_type: ModelTypeName, steps: Sequence[StepResult]) -> LiveScores:
        """Combine the posts of all steps."""
        width = len(get_model_type(model_type).component_names)
        rows = np.array([row for step in steps for row in step.rows], dtype=np.int64)
        figures, naive = (
            np.array([figure for step in steps for figure in getattr(step, name)], dtype=float).reshape(-1, width)
            for name in ("figures", "naive_figures")
        )
        return cls(model_type, rows, figures, naive)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def score(self) -> Figure:
        return self._figure(self.figures)

    @cached_property
    def naive_score(self) -> Figure:
        """The overall score of the naive forecast on the same posts."""
        return self._figure(self.naive_figures)

    @property
    def skill(self) -> float:
        """The skill against the naive forecast: 0 is equally good, 1 is perfect."""
        return skill_score(self.score.value, self.naive_score.value)

    @cached_property
    def parts(self) -> dict[str, Figure]:
        """The figures whose means give the score, by metric key."""
        kind = get_model_type(self.model_type)
        in_hours = {metric.key for metric in kind.metrics if metric.unit == "hours"}
        figures = {}
        for key, column in zip(kind.component_names, self.figures.T, strict=True):
            interval = score_interval(column[:, None], lambda means: means[..., 0])
            figures[key] = Figure(float(column.mean()), _within(interval, math.inf if key in in_hours else 1.0))
        return figures

    def on(self, rows: NDArray[np.int64]) -> LiveScores:
        """Return the scores on a subset of the posts."""
        chosen = np.isin(self.rows, rows)
        return LiveScores(self.model_type, self.rows[chosen], self.figures[chosen], self.naive_figures[chosen])

    def _figure(self, figures: Floats) -> Figure:
        overall = get_model_type(self.model_type).overall_score
        return Figure(float(overall(figures.mean(axis=0))), _within(score_interval(figures, overall), 1.0))


def _within(interval: tuple[float, float] | None, highest: float) -> tuple[float, float] | None:
    """Clip an interval to the range from 0 to the highest value: widened for few posts, it may exceed it."""
    return interval and (max(interval[0], 0.0), min(interval[1], highest))


class NaiveComparison(NamedTuple):
    """For how long a policy was live, and for how long it was worse than the naive forecast.

    Measured in weeks from the start of the replay, whatever the policy's own steps are, so that policies can be
    compared. In each week the score of its posts is compared with that of the naive forecasts of the same posts. The
    naive forecast is that of the step: it knows the posts up to it.

    Attributes:
        live: the duration of the weeks with posts that could be scored.
        worse: the duration of those weeks in which the score was below the naive score.
    """

    live: timedelta = timedelta()
    worse: timedelta = timedelta()

    @classmethod
    def from_scores(
        cls, live: LiveScores, times: NDArray[np.datetime64], start: datetime, done: tuple[datetime, datetime]
    ) -> NaiveComparison:
        """Sum over the weeks.

        Args:
            live: the policy's scores.
            times: (n,) the times of all posts, UTC.
            start: the start of the replay.
            done: start and end of the policy's steps; weeks are cut to this period.
        """
        since = times[live.rows] - np.datetime64(start.astimezone(UTC).replace(tzinfo=None), "us")
        week_of = -(-since // np.timedelta64(_WEEK)) - 1  # a post at the very end of a week counts for it
        overall = get_model_type(live.model_type).overall_score
        total = worse = timedelta()
        for week in np.unique(week_of):
            own, naive = (figures[week_of == week].mean(axis=0) for figures in (live.figures, live.naive_figures))
            begin = start + int(week) * _WEEK
            time = min(begin + _WEEK, done[1]) - max(begin, done[0])
            total += time
            worse += time if overall(own) < overall(naive) else timedelta()
        return cls(total, worse)


@dataclass(frozen=True)
class PolicyReport:
    """The results of a policy.

    Attributes:
        steps: the results of its steps, in order.
        live: its live scores; None if it forecast no posts.
        naive_comparison: for how long it was live, and for how long it was worse than the naive forecast.
        against_configured: how certain the difference from the configured policy is, on the posts that both forecast;
            None for that policy itself, and for fewer than ten posts.
    """

    policy: Policy
    steps: list[StepResult]
    live: LiveScores | None
    naive_comparison: NaiveComparison
    against_configured: Evidence | None = None

    @property
    def trainings(self) -> int:
        """The number of versions trained."""
        return sum(step.version_id is not None for step in self.steps)

    @property
    def failures(self) -> int:
        """The number of failed runs."""
        return sum(step.failed for step in self.steps)

    @property
    def promotions(self) -> int:
        """The number of promotions, including the first."""
        return sum(step.promoted for step in self.steps)

    @property
    def reversed_promotions(self) -> int:
        """The number of promotions that were wrong in hindsight."""
        return sum(step.promoted and step.later_look == "wrong" for step in self.steps)

    @property
    def missed(self) -> int:
        """The number of rejections that were wrong in hindsight."""
        return sum(not step.promoted and step.later_look == "wrong" for step in self.steps)

    @property
    def decisions(self) -> int:
        """The number of decisions between two versions."""
        return sum(step.later_look is not None for step in self.steps)

    @property
    def looked_at(self) -> int:
        """The number of decisions that later posts could review."""
        return sum(step.later_look in REVIEWED for step in self.steps)

    @property
    def seconds(self) -> float:
        """The processor time of training and evaluating, as if nothing had been cached."""
        return sum(step.seconds for step in self.steps)

    @property
    def tokens(self) -> int:
        """The tokens of the runs' paid forecasts."""
        return sum(step.tokens for step in self.steps)

    @property
    def cost_usd(self) -> float:
        """The cost of the runs' paid forecasts."""
        return sum(step.cost_usd for step in self.steps)

    @property
    def live_cost_usd(self) -> float:
        """The cost of the paid live forecasts."""
        return sum(step.live_cost_usd for step in self.steps)


class Ending(NamedTuple):
    """How a replay ended.

    Attributes:
        stopped: why it ended before its last step; empty if it did not.
        interrupted: whether the user interrupted it.
        spent_usd: what its paid forecasts have cost since it was first started.
    """

    stopped: str = ""
    interrupted: bool = False
    spent_usd: float = 0.0


@dataclass(frozen=True)
class ReplayReport:
    """The results of a replay.

    Attributes:
        start: its start, UTC.
        end: its end, UTC.
        policies: the results of each policy, in the order given.
        best: the policy with the highest live score on the posts that all policies forecast; None if unknown.
        conclusion: one sentence about it.
        ending: how the replay ended.
        times: (n,) datetime64[us], UTC: the times of all posts.
    """

    model_type: ModelTypeName
    start: datetime
    end: datetime
    policies: list[PolicyReport]
    best: str | None
    conclusion: str
    ending: Ending
    times: NDArray[np.datetime64]

    def policy(self, name: str) -> PolicyReport:
        """Return the results of the policy of this name."""
        return next(report for report in self.policies if report.policy.name == name)


def report(
    model_type: ModelTypeName,
    span: tuple[datetime, datetime],
    done: Sequence[tuple[Policy, list[StepResult]]],
    ending: Ending,
    times: NDArray[np.datetime64],
) -> ReplayReport:
    """Summarize the steps of all policies.

    Args:
        span: start and end, UTC.
        done: each policy with the results of its steps.
        ending: how the replay ended.
        times: (n,) the times of all posts, UTC.
    """
    lives = {policy.name: LiveScores.from_steps(model_type, steps) for policy, steps in done}
    configured = lives[CONFIGURED]
    reports = [
        PolicyReport(
            policy,
            steps,
            lives[policy.name] if len(lives[policy.name]) else None,
            NaiveComparison.from_scores(lives[policy.name], times, span[0], (steps[0].at, steps[-1].until))
            if steps
            else NaiveComparison(),
            None if policy.name == CONFIGURED else evidence_of(configured, lives[policy.name]),
        )
        for policy, steps in done
    ]
    best, conclusion = conclude({report.policy.name: report.live for report in reports if report.live is not None})
    return ReplayReport(model_type, *span, reports, best, conclusion, ending, times)


def evidence_of(a: LiveScores, b: LiveScores, *, level: float = LEVEL) -> Evidence | None:
    """Return how certain b's difference from a is, on the posts that both forecast; None for fewer than ten posts.

    Args:
        a: the scores of one policy.
        b: the scores of another policy.
        level: the level of the interval.
    """
    common, in_a, in_b = np.intersect1d(a.rows, b.rows, return_indices=True)
    if len(common) < MIN_COMPARED_POSTS:
        return None
    overall = get_model_type(a.model_type).overall_score
    return bootstrap_comparison(a.figures[in_a], b.figures[in_b], overall, level=level)


def conclude(lives: dict[str, LiveScores]) -> tuple[str | None, str]:
    """Return the best policy on the posts that all policies forecast, and one sentence about it.

    The difference is more than noise if the interval of the improvement lies above 0. The level of the interval rises
    with the number of policies (Bonferroni), so that equally good policies are called different in at most 5% of
    replays.
    """
    if not lives:
        return None, "No posts were forecast yet."
    common = next(iter(lives.values())).rows
    for live in lives.values():
        common = np.intersect1d(common, live.rows)
    shared = {name: live.on(common) for name, live in lives.items()}
    if len(common) < MIN_COMPARED_POSTS:
        return None, f"Only {len(common)} posts were forecast under all policies: too few to compare them."
    score = {name: round(live.score.value, 4) for name, live in shared.items()}  # as it is shown
    best = [name for name in score if score[name] == max(score.values())]
    chosen = CONFIGURED if CONFIGURED in best else best[0]
    others = [name for name in score if name not in best]
    where = f"On {len(common):,} posts"
    if not others:
        return chosen, f"{where}, all policies score the same ({score[chosen]:.4f})."
    other = CONFIGURED if CONFIGURED in others else max(others, key=lambda name: score[name])
    evidence = evidence_of(shared[other], shared[chosen], level=1 - _FALSE_POSITIVE_RATE / (len(score) - 1))
    difference = _describe_difference(score[other], score[chosen], evidence, other)
    first = f"{where}, {quote_names(best)} forecast best, {difference}"
    if evidence is not None and _is_more_than_noise(evidence):
        return chosen, f"{first}: that is more than noise."
    return chosen, f"{first}: the difference is within noise, and no reason to prefer a policy."


def _is_more_than_noise(evidence: Evidence) -> bool:
    """Whether the interval lies above 0; without an interval, whether enough of the resamples do."""
    if evidence.interval_percentage is None:
        return evidence.probability_better >= (1 + evidence.level) / 2
    return evidence.interval_percentage[0] > 0


def quote_names(names: Sequence[str]) -> str:
    """Return quoted names, joined as in a sentence."""
    quoted = [f"'{name}'" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _describe_difference(old: float, new: float, evidence: Evidence | None, other: str) -> str:
    """Describe how much better the new score is, with the interval that decides whether it is more than noise."""
    improvement = improvement_percentage(old, new)
    shown = "" if improvement is None else f"{improvement:.1f}% "
    if shown == "0.0% ":
        shown = "slightly "
    figures = f"{new:.4f} against {old:.4f}"
    if evidence is not None and evidence.interval_percentage is not None:
        low, high = evidence.interval_percentage
        figures += f", {100 * evidence.level:.4g}% interval {low:.1f} to {high:.1f}%"
    return f"{shown}better than '{other}' ({figures})"

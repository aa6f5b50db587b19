"""What a replay came to: how well each policy would have done, and whether the difference is more than noise."""

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
_DOUBT = 0.05  # the probability of calling any of the differences real where there is none


class Figure(NamedTuple):
    """A figure with its 95% interval; None where so few posts say nothing of how it varies."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class LiveScores:
    """How well what was live forecast the posts that came.

    Attributes:
        rows: (n) the posts, by their place among all.
        figures: (n, k) what each adds to the score.
        naive_figures: (n, k) the same of the naive forecast.
    """

    model_type: ModelTypeName
    rows: NDArray[np.int64]
    figures: Floats
    naive_figures: Floats

    @classmethod
    def of(cls, model_type: ModelTypeName, records: Sequence[StepResult]) -> LiveScores:
        """Put the posts of all steps together."""
        width = len(get_model_type(model_type).component_names)
        rows = np.array([row for record in records for row in record.rows], dtype=np.int64)
        figures, naive = (
            np.array([one for record in records for one in getattr(record, name)], dtype=float).reshape(-1, width)
            for name in ("figures", "naive_figures")
        )
        return cls(model_type, rows, figures, naive)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def score(self) -> Figure:
        """The overall score."""
        return self._figure(self.figures)

    @cached_property
    def naive_score(self) -> Figure:
        """That of the naive forecast on the same posts."""
        return self._figure(self.naive_figures)

    @property
    def skill(self) -> float:
        """The gain over the naive forecast: 0 is as good, 1 is perfect."""
        return skill_score(self.score.value, self.naive_score.value)

    @cached_property
    def parts(self) -> dict[str, Figure]:
        """The figures whose means make the score, by the metric's key."""
        kind = get_model_type(self.model_type)
        in_hours = {metric.key for metric in kind.metrics if metric.unit == "hours"}
        figures = {}
        for key, column in zip(kind.component_names, self.figures.T, strict=True):
            interval = score_interval(column[:, None], lambda means: means[..., 0])
            figures[key] = Figure(float(column.mean()), _within(interval, math.inf if key in in_hours else 1.0))
        return figures

    def on(self, rows: NDArray[np.int64]) -> LiveScores:
        """Return the scores on some of the posts only."""
        chosen = np.isin(self.rows, rows)
        return LiveScores(self.model_type, self.rows[chosen], self.figures[chosen], self.naive_figures[chosen])

    def _figure(self, figures: Floats) -> Figure:
        overall = get_model_type(self.model_type).overall_score
        return Figure(float(overall(figures.mean(axis=0))), _within(score_interval(figures, overall), 1.0))


def _within(interval: tuple[float, float] | None, highest: float) -> tuple[float, float] | None:
    """Cut an interval at 0 and at the highest value: widened, as it is on few posts, it may end beyond them."""
    return interval and (max(interval[0], 0.0), min(interval[1], highest))


class NaiveComparison(NamedTuple):
    """For how long a policy was live, and worse than the naive forecast, by the weeks of the replay.

    The weeks count from the replay's start, whatever the policy's own steps are, so that policies can be held side by
    side. In each, the score of its posts is held against that of the naive forecasts of the same posts. The naive
    forecast is that of the step: it knows the posts up to it.

    Attributes:
        live: the time of the weeks in which posts came that could be scored.
        worse: of these, that of the weeks in which the score was below the naive one.
    """

    live: timedelta = timedelta()
    worse: timedelta = timedelta()

    @classmethod
    def of(
        cls, live: LiveScores, times: NDArray[np.datetime64], start: datetime, done: tuple[datetime, datetime]
    ) -> NaiveComparison:
        """Sum up the weeks.

        Args:
            live: the policy's scores.
            times: (n,) when each of all the posts came, UTC.
            start: of the replay.
            done: from when to when the policy took steps; a week reaches no farther.
        """
        since = times[live.rows] - np.datetime64(start.astimezone(UTC).replace(tzinfo=None), "us")
        week_of = -(-since // np.timedelta64(_WEEK)) - 1  # a post at the very end of a week belongs to it
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
    """What a policy came to.

    Attributes:
        records: its steps, in order.
        live: its live scores; None where it forecast no post.
        naive_comparison: for how long it was live, and worse than the naive forecast.
        against_configured: how sure the difference from the configured policy is, on the posts that both forecast; None
            for that policy itself, and where these are fewer than ten.
    """

    policy: Policy
    records: list[StepResult]
    live: LiveScores | None
    naive_comparison: NaiveComparison
    against_configured: Evidence | None = None

    @property
    def trainings(self) -> int:
        """How many versions were trained."""
        return sum(record.version_id is not None for record in self.records)

    @property
    def failures(self) -> int:
        """How many runs failed."""
        return sum(record.failed for record in self.records)

    @property
    def promotions(self) -> int:
        """How many versions went live, the first one included."""
        return sum(record.promoted for record in self.records)

    @property
    def reversed_promotions(self) -> int:
        """How many promotions a later look would have reversed."""
        return sum(record.promoted and record.later_look == "wrong" for record in self.records)

    @property
    def missed(self) -> int:
        """How many rejected versions a later look would have promoted."""
        return sum(not record.promoted and record.later_look == "wrong" for record in self.records)

    @property
    def decisions(self) -> int:
        """How many decisions there were between two versions."""
        return sum(record.later_look is not None for record in self.records)

    @property
    def looked_at(self) -> int:
        """How many of them later posts could judge."""
        return sum(record.later_look in REVIEWED for record in self.records)

    @property
    def seconds(self) -> float:
        """Processor time that training and evaluating took, or would have, had nothing been shared."""
        return sum(record.seconds for record in self.records)

    @property
    def tokens(self) -> int:
        """Tokens of the runs' paid forecasts."""
        return sum(record.tokens for record in self.records)

    @property
    def cost_usd(self) -> float:
        """Dollars of the runs' paid forecasts."""
        return sum(record.cost_usd for record in self.records)

    @property
    def live_cost_usd(self) -> float:
        """Dollars of the paid forecasts that were made live."""
        return sum(record.live_cost_usd for record in self.records)


class Ending(NamedTuple):
    """How a replay ended.

    Attributes:
        stopped: why it ended before its last step; empty where it did not.
        interrupted: whether the user stopped it.
        spent_usd: what its paid forecasts cost since it was begun, each counted once.
    """

    stopped: str = ""
    interrupted: bool = False
    spent_usd: float = 0.0


@dataclass(frozen=True)
class ReplayReport:
    """What a replay came to.

    Attributes:
        start: from when on, UTC.
        end: up to when.
        policies: what each came to, in the order given.
        best: the policy with the highest live score on the posts that all forecast; None where that cannot be told.
        conclusion: one sentence about it.
        ending: how the replay ended.
        times: (n,) datetime64[us], UTC: when each of all the posts came.
    """

    model_type: ModelTypeName
    start: datetime
    end: datetime
    policies: list[PolicyReport]
    best: str | None
    conclusion: str
    ending: Ending
    times: NDArray[np.datetime64]

    def of(self, name: str) -> PolicyReport:
        """Return what the policy of this name came to."""
        return next(one for one in self.policies if one.policy.name == name)


def report(
    model_type: ModelTypeName,
    span: tuple[datetime, datetime],
    done: Sequence[tuple[Policy, list[StepResult]]],
    ending: Ending,
    times: NDArray[np.datetime64],
) -> ReplayReport:
    """Sum up the steps of all policies.

    Args:
        span: from when to when, UTC.
        done: each policy with the steps that were taken.
        ending: how the replay ended.
        times: (n,) when each of all the posts came, UTC.
    """
    lives = {policy.name: LiveScores.of(model_type, records) for policy, records in done}
    configured = lives[CONFIGURED]
    reports = [
        PolicyReport(
            policy,
            records,
            lives[policy.name] if len(lives[policy.name]) else None,
            NaiveComparison.of(lives[policy.name], times, span[0], (records[0].at, records[-1].until))
            if records
            else NaiveComparison(),
            None if policy.name == CONFIGURED else evidence_of(configured, lives[policy.name]),
        )
        for policy, records in done
    ]
    best, conclusion = conclude({one.policy.name: one.live for one in reports if one.live is not None})
    return ReplayReport(model_type, *span, reports, best, conclusion, ending, times)


def evidence_of(a: LiveScores, b: LiveScores, *, level: float = LEVEL) -> Evidence | None:
    """Return how sure b's difference from a is, on the posts that both forecast; None with fewer than ten of them.

    Args:
        a: the scores of one policy.
        b: those of another.
        level: of the interval.
    """
    common, in_a, in_b = np.intersect1d(a.rows, b.rows, return_indices=True)
    if len(common) < MIN_COMPARED_POSTS:
        return None
    overall = get_model_type(a.model_type).overall_score
    return bootstrap_comparison(a.figures[in_a], b.figures[in_b], overall, level=level)


def conclude(lives: dict[str, LiveScores]) -> tuple[str | None, str]:
    """Return the best policy and one sentence about it: on the posts that all forecast, and whether it is but noise.

    It is more than noise where the interval of the improvement lies above 0. With several policies, one of them looks
    good by luck more easily: the level of the interval rises with their number (Bonferroni), so that in one replay of
    twenty at most, policies that are equally good are called different.
    """
    if not lives:
        return None, "Nothing is known yet: no post was forecast."
    common = next(iter(lives.values())).rows
    for live in lives.values():
        common = np.intersect1d(common, live.rows)
    shared = {name: live.on(common) for name, live in lives.items()}
    if len(common) < MIN_COMPARED_POSTS:
        return None, f"Only {len(common)} posts were forecast under all policies: too few to tell them apart."
    score = {name: live.score.value for name, live in shared.items()}
    best = [name for name in score if score[name] == max(score.values())]
    chosen = CONFIGURED if CONFIGURED in best else best[0]
    others = [name for name in score if name not in best]
    where = f"On the {len(common):,} posts that came"
    if not others:
        return chosen, f"{where}, all policies score the same, {score[chosen]:.4f}: it makes no difference here."
    other = CONFIGURED if CONFIGURED in others else max(others, key=lambda name: score[name])
    evidence = evidence_of(shared[other], shared[chosen], level=1 - _DOUBT / (len(score) - 1))
    first = f"{where}, {listed(best)} forecast best, {_by_how_much(score[other], score[chosen], evidence, other)}"
    if evidence is not None and _is_more_than_noise(evidence):
        return chosen, f"{first}: that is more than noise."
    return chosen, f"{first}: the difference is within noise, and no reason to prefer one of them."


def _is_more_than_noise(evidence: Evidence) -> bool:
    """Whether the interval lies above 0; where there is none, whether so many of the resamples do."""
    if evidence.interval_percentage is None:
        return evidence.probability_better >= (1 + evidence.level) / 2
    return evidence.interval_percentage[0] > 0


def listed(names: Sequence[str]) -> str:
    """Return names as in a sentence."""
    quoted = [f"'{name}'" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _by_how_much(old: float, new: float, evidence: Evidence | None, other: str) -> str:
    """Say how much better the new score is, with the interval that decides whether it is more than noise."""
    improvement = improvement_percentage(old, new)
    shown = "" if improvement is None else f"{improvement:.1f}% "
    if shown == "0.0% ":
        shown = "a trifle "
    figures = f"{new:.4f} against {old:.4f}"
    if evidence is not None and evidence.interval_percentage is not None:
        low, high = evidence.interval_percentage
        figures += f", {100 * evidence.level:.4g}% interval {low:.1f} to {high:.1f}%"
    return f"{shown}better than '{other}' ({figures})"

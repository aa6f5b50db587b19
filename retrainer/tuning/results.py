"""What tuning found: trials, studies, and what became of the winner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.pipeline.results import RunResult
    from retrainer.tuning.plan import StudyPlan

TrialState = Literal["waiting", "running", "complete", "pruned", "failed", "lost"]
FINISHED: frozenset[TrialState] = frozenset({"complete", "pruned", "failed"})  # the states that count as a trial


@dataclass(frozen=True)
class TrialResult:
    """One trial: an algorithm with options, scored on the folds.

    Attributes:
        number: its number in the study, from 0.
        state: `lost` if its process was interrupted or killed; such a trial waits to be tried again.
        algorithm: None if the trial did not get that far.
        options: all options, as JSON.
        params: the parameters that were suggested, by name, such as `prophet.weeks`.
        value: the mean of the metric over the folds; None unless the trial is complete.
        standard_error: of the mean over the folds.
        fold_values: the metric on each fold that was scored, oldest first.
        cost_usd: of its paid forecasts.
        seconds: how long it took; None while it runs.
        is_default: whether these are the configured options of the algorithm.
        error: why it failed, in one line.
        same_as: the number of an earlier trial with the same options, whose values it has at no cost; None for most.
    """

    number: int
    state: TrialState
    algorithm: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    value: float | None = None
    standard_error: float | None = None
    fold_values: tuple[float, ...] = ()
    cost_usd: float = 0.0
    seconds: float | None = None
    is_default: bool = False
    error: str | None = None
    same_as: int | None = None


@dataclass(frozen=True)
class Gain:
    """How much better options b are than options a on the same posts, in units of the metric; positive is better.

    Attributes:
        value: the difference of the metric, with the sign turned for a metric of which less is better.
        interval: the paired 95% interval of the difference, by bootstrap of the posts.
        probability_better: the share of resamples in which b is better; ties count half.
        score_a: the metric of a.
        score_b: the metric of b.
        num_predictions: the number of posts that both forecast.
    """

    value: float
    interval: tuple[float, float]
    probability_better: float
    score_a: float
    score_b: float
    num_predictions: int


@dataclass(frozen=True)
class StudyOutcome:
    """How a study ended, as it is kept with it.

    Attributes:
        winner: the number of the winning trial; None if no trial is better than the configured options on the folds.
        gain_on_folds: of the winner over trial 0 on the folds by which it was chosen; this overestimates the gain.
        held_back: the gain on the held-back fold, which took no part in the choice; None without a winner.
        kept: whether the winner is better there too, so that it was trained as a candidate.
        reason: why it was kept or not, in one sentence.
        run_id: the run that trained the winner; None if there was none.
        promoted: whether that run promoted it.
    """

    winner: int | None
    gain_on_folds: float | None
    held_back: Gain | None
    kept: bool
    reason: str
    run_id: str | None = None
    promoted: bool = False


@dataclass(frozen=True)
class StudySummary:
    """A study as it is listed.

    Attributes:
        name: Optuna's name of the study.
        created_at: UTC.
        plan: what it was made for.
        counts: the number of trials by state.
        default: trial 0, the configured options; None before it is complete.
        best: the complete trial with the best value; None before there is one.
        outcome: None while the study is unfinished.
    """

    name: str
    created_at: datetime
    plan: StudyPlan
    counts: dict[TrialState, int]
    default: TrialResult | None
    best: TrialResult | None
    outcome: StudyOutcome | None

    @property
    def model_type(self) -> ModelTypeName:
        return self.plan.model_type

    @property
    def finished_trials(self) -> int:
        """The number of trials that count: complete, pruned and failed."""
        return sum(self.counts.get(state, 0) for state in FINISHED)


@dataclass(frozen=True)
class StudyReport:
    """A study with its trials.

    Attributes:
        summary: as it is listed.
        trials: in the order of their numbers.
        importances: Optuna's importance of each parameter, largest first; empty with too few complete trials.
        pareto: the numbers of the trials of the Pareto set, if cost is a second objective; else empty.
    """

    summary: StudySummary
    trials: tuple[TrialResult, ...]
    importances: dict[str, float] = field(default_factory=dict)
    pareto: tuple[int, ...] = ()


@dataclass(frozen=True)
class TuningProgress:
    """How far a study is.

    Attributes:
        done: the number of trials that count.
        total: the number that was asked for.
        best: the best value so far; None before there is one.
        seconds_left: None before the first trial of this call is over.
    """

    done: int
    total: int
    best: float | None
    seconds_left: float | None


@dataclass(frozen=True)
class TuningResult:
    """What one call of `tune` did.

    Attributes:
        report: the study.
        interrupted: whether Ctrl-C ended it; the study is unfinished, and another call resumes it.
        run: the run that trained the winner; None if there was none.
        resumed: the number of trials that were done before this call.
    """

    report: StudyReport
    interrupted: bool = False
    run: RunResult | None = None
    resumed: int = 0

    @property
    def outcome(self) -> StudyOutcome | None:
        """How the study ended; None if it is unfinished."""
        return self.report.summary.outcome

    @property
    def winner(self) -> TrialResult | None:
        """The winning trial; None if no trial is better than the configured options."""
        number = None if self.outcome is None else self.outcome.winner
        return next((trial for trial in self.report.trials if trial.number == number), None)

    @property
    def promoted(self) -> bool:
        """Whether the winner was promoted."""
        return self.run is not None and self.run.promoted

"""What a call of `retrainer tune` asks for, and the state that its trials share while they run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from retrainer.tuning.results import FINISHED, TuningProgress
from retrainer.tuning.study import best_trial

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.runtime import Runtime
    from retrainer.tuning.objective import Objective
    from retrainer.tuning.plan import MetricName
    from retrainer.tuning.queue import TrialQueue
    from retrainer.tuning.study import OpenStudy

DEFAULT_TRIALS = 30


@dataclass(frozen=True)
class TuningRequest:
    """What a call asks for.

    Attributes:
        model_type: what the algorithms forecast.
        algorithms: that compete in one study; empty for the configured one.
        trials: the number of trials of the study, over all calls that work on it.
        timeout_seconds: after which no trial is started; None for no limit.
        metric: what a trial is judged by; `crps` applies to timing only.
        seed: of the sampler.
        max_cost: what the paid forecasts of all trials may cost in US dollars; required if there are any.
        cost_objective: whether the cost of a trial is a second objective.
        auto_promote: overrides `retraining.auto_promote` for the run that trains the winner.
    """

    model_type: ModelTypeName
    algorithms: tuple[str, ...] = ()
    trials: int = DEFAULT_TRIALS
    timeout_seconds: float | None = None
    metric: MetricName = "overall_score"
    seed: int = 0
    max_cost: float | None = None
    cost_objective: bool = False
    auto_promote: bool | None = None


@dataclass(frozen=True)
class Trials:
    """The trials of a study that are still to be run by a call.

    Attributes:
        project, runtime: what the call works with.
        request: what it asks for.
        now: the time that the call counts from; no later post is used.
        study: the study.
        queue: its trials.
        objective: what a trial is judged by, on the posts of this process.
        on_progress: called after every trial.
        started: when the trials began, by the monotonic clock.
        before: the number of trials that counted before this call.
    """

    project: Project
    runtime: Runtime
    request: TuningRequest
    now: datetime
    study: OpenStudy
    queue: TrialQueue
    objective: Objective
    on_progress: Callable[[TuningProgress], None]
    started: float
    before: int

    def is_stopping(self) -> bool:
        """Whether no trial may be started any more: the time is up, or another process has ended the study."""
        return self.is_out_of_time() or self.study.outcome() is not None

    def is_out_of_time(self) -> bool:
        """Whether no trial may be started any more, since the time is up."""
        limit = self.request.timeout_seconds
        return limit is not None and time.monotonic() - self.started >= limit

    def report_progress(self) -> None:
        """Report how far the study is."""
        trials = self.study.trials()
        done = sum(trial.state in FINISHED for trial in trials)
        best = best_trial(self.study.plan, trials)
        total, own = self.request.trials, done - self.before
        left = (time.monotonic() - self.started) / own * max(total - done, 0) if own > 0 else None
        self.on_progress(TuningProgress(done, total, None if best is None else best.value, left))


class TrialRunner(Protocol):
    """Runs the remaining trials of a study: in this process, in several, or on the workers of a cluster."""

    def __call__(self, trials: Trials) -> None:
        """Run trials until the study has as many as the request asks for, or the time is up.

        Raises:
            KeyboardInterrupt: the trials were interrupted.
        """

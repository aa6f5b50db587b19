"""What a call of `retrainer tune` asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrainer.model_types import ModelTypeName
    from retrainer.tuning.plan import MetricName

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

"""The results of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.errors import RetrainerError
from retrainer.streams import DEFAULT_STREAM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.evaluation.comparison import Comparison
    from retrainer.evaluation.evaluate import Evaluation
    from retrainer.model_types import ModelTypeName
    from retrainer.registry.promotions import Decision
    from retrainer.registry.tables import TrainingRun


@dataclass(frozen=True)
class RunResult:
    """The result of a run that completed.

    Attributes:
        run: the recorded run; None for a dry run.
        evaluation: of the candidate; None if a dry run would have had to pay for it.
        comparison: of the candidate with production; None if there was no production version.
        decision: what was decided, or would be.
        race_lost: whether production changed between the comparison and the promotion.
    """

    model_type: ModelTypeName
    algorithm: str
    run: TrainingRun | None = None
    evaluation: Evaluation | None = None
    comparison: Comparison | None = None
    decision: Decision | None = None
    race_lost: bool = False
    stream: str = DEFAULT_STREAM

    @property
    def needs_attention(self) -> bool:
        """Whether somebody should look at the result although the run completed."""
        production_broken = self.comparison is not None and self.comparison.production_broken
        return self.race_lost or production_broken or (self.decision is not None and self.decision.refit_failed)

    @property
    def promoted(self) -> bool:
        """Whether the candidate was promoted."""
        return self.run is not None and self.run.promoted_to_production

    @property
    def reason(self) -> str | None:
        """Why the candidate was promoted or not, or would be; None if a dry run did not evaluate it."""
        if self.run is not None:
            return self.run.promotion_reason
        return self.decision.reason if self.decision else None


@dataclass(frozen=True)
class Failure:
    """A run that failed.

    Attributes:
        error: why.
        run: the recorded run; None if it failed before it was recorded.
    """

    model_type: ModelTypeName
    error: RetrainerError
    run: TrainingRun | None = None
    stream: str = DEFAULT_STREAM


def exit_code(outcomes: Sequence[RunResult | Failure]) -> int:
    """Return 0 if all runs completed, else the smallest exit code of their errors.

    A lost race, a production version that cannot forecast, and one that cannot be fitted again count as 1.
    """
    codes = {outcome.error.exit_code for outcome in outcomes if isinstance(outcome, Failure)}
    if any(isinstance(outcome, RunResult) and outcome.needs_attention for outcome in outcomes):
        codes.add(RetrainerError.exit_code)
    return min(codes, default=0)

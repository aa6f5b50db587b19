"""What a study may cost: one budget for all of its paid forecasts, and the cost of each trial.

Both are kept in the project's database, so the workers of all commands share them, and what a killed trial has spent is
known. A call reserves its estimated cost before it is made: see `registry.budgets`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.errors import CostLimitReached, RetrainerError, UsageError
from retrainer.pipeline.loading import is_paid
from retrainer.registry.budgets import SharedBudget

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from retrainer.project import Project
    from retrainer.registry.database import Database
    from retrainer.registry.tables import ModelVersion
    from retrainer.runtime import Runtime
    from retrainer.tuning.request import TuningRequest
    from retrainer.tuning.search_space import SearchSpace


RESERVED_FOLDS = 4  # the held-back fold and the test posts, by the winner and by what it is compared with


@dataclass(frozen=True)
class StudyBudget:
    """The budget of a study.

    Attributes:
        shared: what all trials, the held-back fold and the run of the winner may cost together.
        now: when the call that uses it started.
    """

    shared: SharedBudget
    now: datetime

    @classmethod
    def open(cls, database: Database, budget_id: str, study: str, max_cost: float, now: datetime) -> StudyBudget:
        """Return the budget of a study, with a new limit from now on; what it has used stays used."""
        return cls(SharedBudget.open(database, budget_id, max_cost, now, f"the study '{study}'"), now)

    @classmethod
    def find(cls, database: Database, budget_id: str, study: str, now: datetime) -> StudyBudget:
        """Return the budget of a study that another process has opened."""
        return cls(SharedBudget(database, budget_id, f"the study '{study}'"), now)

    def of_trial(self, number: int) -> SharedBudget:
        """Return what a trial has used of it, over all processes that worked on the trial."""
        shared = self.shared
        limit, _ = shared.limit_and_use()
        return SharedBudget.open(shared.database, f"{shared.budget_id}_{number}", limit, self.now, f"trial {number}")

    def require(self, max_fold_cost: float) -> None:
        """Check that a fold, and what comes after the trials, can be paid for.

        Args:
            max_fold_cost: the cost of the most expensive fold so far, in US dollars.

        Raises:
            CostLimitReached: it could exceed the limit.
        """
        limit, used = self.shared.limit_and_use()
        if used + (1 + RESERVED_FOLDS) * max_fold_cost > limit:
            raise CostLimitReached(
                f"one more fold and the comparison of the winner could raise the cost of {self.shared.whose} above "
                f"${limit:g} (--max-cost): ${used:.4f} is used"
            )


def check_costs(project: Project, runtime: Runtime, request: TuningRequest, spaces: Sequence[SearchSpace]) -> None:
    """Check that paid forecasts have a limit, and that there are some if their cost is an objective.

    Raises:
        UsageError: --max-cost is missing, or --cost-objective has nothing to minimize.
    """
    paid = [space.name for space in spaces if space.algorithm.description.paid]
    if request.cost_objective and not paid:
        raise UsageError("--cost-objective applies to paid algorithms only: these forecasts are free", hint="Omit it")
    if request.max_cost is not None:
        return
    if paid:
        raise UsageError(
            f"forecasts of '{paid[0]}' cost money, but there is no --max-cost",
            hint="Add --max-cost DOLLARS, the maximum total cost of all trials",
        )
    production = project.registry.get_production(request.model_type)
    if production is not None and _is_known_to_be_paid(runtime, production):
        raise UsageError(
            f"the winner is compared with production, and forecasts of '{production.algorithm}' cost money, but there "
            "is no --max-cost",
            hint="Add --max-cost DOLLARS, the maximum total cost of the comparison",
        )


def _is_known_to_be_paid(runtime: Runtime, production: ModelVersion) -> bool:
    try:
        return is_paid(runtime, production)
    except RetrainerError:  # its plugin is missing, which the run of the winner reports
        return False

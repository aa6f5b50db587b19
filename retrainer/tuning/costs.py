"""What a study may cost: one budget for all of its paid forecasts, and the cost of each trial.

Both are kept in the project's database, so the workers of all commands share them, and what a killed trial has spent is
known. A call reserves its estimated cost before it is made: see `registry.budgets`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.registry.budgets import SharedBudget

if TYPE_CHECKING:
    from datetime import datetime

    from retrainer.registry.database import Database


class BudgetSpent(Exception):
    """One more paid forecast could exceed the budget of the study. The message says so."""


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
    def open(cls, database: Database, study: str, max_cost: float, now: datetime) -> StudyBudget:
        """Return the budget of a study, with a limit of its own from now on; what it has used stays used."""
        return cls(SharedBudget.open(database, study, max_cost, now, f"the study '{study}'"), now)

    @classmethod
    def find(cls, database: Database, study: str, now: datetime) -> StudyBudget:
        """Return the budget of a study that another process has opened."""
        return cls(SharedBudget(database, study, f"the study '{study}'"), now)

    def of_trial(self, number: int) -> SharedBudget:
        """Return what a trial has used of it, over all processes that worked on the trial."""
        shared = self.shared
        limit, _ = shared.limit_and_use()
        return SharedBudget.open(shared.database, f"{shared.budget_id}_{number}", limit, self.now, f"trial {number}")

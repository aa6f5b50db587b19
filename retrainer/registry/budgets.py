"""Budgets of paid calls that several processes share, such as the workers of a fleet.

A call reserves its estimated cost in one transaction before it is made, and settles it afterwards. What a process had
reserved when it died stays reserved, since its calls may have been paid for: so the limit is never exceeded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from sqlalchemy import update

from retrainer.registry.queries import new_id
from retrainer.registry.tables import Budget

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from retrainer.registry.database import Database

TestSide = Literal["production", "challenger"]
TEST_SIDES: tuple[TestSide, ...] = get_args(TestSide)


@dataclass(frozen=True)
class SharedBudget:
    """A budget in the database.

    Attributes:
        database: the open database.
        budget_id: its id, by which each process opens it; None for no budget, which refuses every call.
        whose: whose calls it limits, for messages.
    """

    database: Database
    budget_id: str | None
    whose: str = "all runs"

    @classmethod
    def create(cls, database: Database, limit_usd: float, now: datetime) -> SharedBudget:
        """Record a new budget."""
        with database.write() as session:
            budget_id = new_id(session, Budget, "budget", now)
            session.add(Budget(budget_id=budget_id, created_at=now, limit_usd=limit_usd, used_usd=0.0))
        return cls(database, budget_id)

    @classmethod
    def open(cls, database: Database, budget_id: str, limit_usd: float, now: datetime, whose: str) -> SharedBudget:
        """Return the budget of an id, with a limit of its own from now on; record it if there is none.

        What was used of it stays used.
        """
        with database.write() as session:
            budget = session.get(Budget, budget_id)
            if budget is None:
                session.add(Budget(budget_id=budget_id, created_at=now, limit_usd=limit_usd, used_usd=0.0))
            else:
                budget.limit_usd = limit_usd
        return cls(database, budget_id, whose)

    @staticmethod
    def add_for_test(session: Session, test_id: str, limit_usd: float, now: datetime) -> None:
        """Record the budgets of the two sides of a new A/B test."""
        for side in TEST_SIDES:
            row = Budget(budget_id=_of_side(test_id, side), created_at=now, limit_usd=limit_usd, used_usd=0.0)
            session.add(row)

    @classmethod
    def of_test(cls, database: Database, test_id: str, side: TestSide) -> SharedBudget:
        """Return the budget of a side of an A/B test."""
        return cls(database, _of_side(test_id, side), f"the {side} side of the A/B test")

    def reserve(self, estimate_usd: float) -> bool:
        """Reserve the estimated cost of a call; return False if it could exceed the limit."""
        if self.budget_id is None:
            return False
        query = update(Budget).where(
            Budget.budget_id == self.budget_id, Budget.used_usd + estimate_usd <= Budget.limit_usd
        )
        query = query.values(used_usd=Budget.used_usd + estimate_usd)
        with self.database.write() as session:
            return session.execute(query.returning(Budget.budget_id)).first() is not None

    def settle(self, estimate_usd: float, cost_usd: float) -> None:
        """Replace what a call reserved by what it cost."""
        query = update(Budget).where(Budget.budget_id == self.budget_id)
        with self.database.write() as session:
            session.execute(query.values(used_usd=Budget.used_usd - estimate_usd + cost_usd))

    def limit_and_use(self) -> tuple[float, float]:
        """Return the limit, and what is used of it: the cost of the calls made, and what is reserved."""
        if self.budget_id is None:
            return 0.0, 0.0
        with self.database.read() as session:
            budget = session.get_one(Budget, self.budget_id)
            return budget.limit_usd, max(0.0, budget.used_usd)  # sums of floats may end a little below 0


def _of_side(test_id: str, side: TestSide) -> str:
    return f"{test_id}_{side}"

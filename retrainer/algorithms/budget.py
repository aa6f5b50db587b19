"""The budget of a run: what its paid calls have used so far, within limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from retrainer.algorithms.answer_cache import AnswerCache

if TYPE_CHECKING:
    from collections.abc import Collection

    from retrainer.registry.budgets import SharedBudget


class BudgetExceeded(Exception):
    """One more call could exceed a limit of the run. The message says which."""


@dataclass
class Budget:
    """What the paid calls of one run have used, shared by both sides of its comparison.

    Attributes:
        answers: the answers that these calls got.
        calls: requests started.
        input_tokens: tokens read, as reported by the service.
        output_tokens: tokens written.
        refusals: answers in which the model refused.
        cost_usd: the cost of all answers; a call whose answer was lost counts at its estimate.
        reserved_usd: the estimated cost of the calls in flight.
        shared: budgets that other processes use too, such as that of all runs of a fleet; each call must fit in all.
        limit_usd: what all calls may cost; None for no limit of its own.
        exceeded: why a call was not made, the last time that one was not; empty if all were.
        exceeded_shared: whether that was since a shared budget is used up.
    """

    answers: AnswerCache = field(default_factory=AnswerCache)
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    refusals: int = 0
    cost_usd: float = 0.0
    reserved_usd: float = 0.0
    shared: tuple[SharedBudget, ...] = ()
    limit_usd: float | None = None
    exceeded: str = ""
    exceeded_shared: bool = False

    def reserve(self, estimate_usd: float, *, max_calls: int | None, max_cost: float | None) -> None:
        """Count a call and reserve its estimated cost.

        Raises:
            BudgetExceeded: the call could exceed a limit; nothing is counted.
        """
        if max_calls is not None and self.calls >= max_calls:
            self._refuse(f"the limit of {max_calls} calls (max_calls) is reached")
        if max_cost is not None and self.cost_usd + self.reserved_usd + estimate_usd > max_cost:
            self._refuse(
                f"one more call could raise the cost above ${max_cost:g} (max_cost): ${self.cost_usd:.4f} is spent"
            )
        if self.limit_usd is not None and self.cost_usd + self.reserved_usd + estimate_usd > self.limit_usd:
            self._refuse(
                f"one more call could raise the cost above ${self.limit_usd:g} (--max-cost): ${self.cost_usd:.4f} is "
                "spent"
            )
        for number, shared in enumerate(self.shared):
            if not shared.reserve(estimate_usd):
                for reserved in self.shared[:number]:
                    reserved.settle(estimate_usd, 0.0)
                limit, used = shared.limit_and_use()
                self.exceeded_shared = True
                self._refuse(
                    f"one more call could raise the cost of {shared.whose} above ${limit:g} (--max-cost): "
                    f"${used:.4f} is used"
                )
        self.calls += 1
        self.reserved_usd += estimate_usd

    def _refuse(self, reason: str) -> NoReturn:
        self.exceeded = reason
        raise BudgetExceeded(reason)

    def settle(self, estimate_usd: float, cost_usd: float) -> None:
        """Replace what a call reserved by what it cost."""
        self.reserved_usd -= estimate_usd
        self.cost_usd += cost_usd
        for shared in self.shared:
            shared.settle(estimate_usd, cost_usd)

    def settle_earlier(self, estimate_usd: float, cost_usd: float, reserved_in: Collection[str]) -> None:
        """Count the cost of a call that an earlier process made, and did not settle. No limit can undo it.

        Args:
            estimate_usd: what that process reserved.
            cost_usd: what the call cost.
            reserved_in: the ids of the shared budgets in which it is reserved.
        """
        self.cost_usd += cost_usd
        for shared in self.shared:
            shared.settle(estimate_usd if shared.budget_id in reserved_in else 0.0, cost_usd)

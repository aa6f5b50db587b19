"""What a run takes from outside: time, algorithms, listeners, and the budget of paid calls.

The program creates one `Runtime` and passes it down. Replay passes one of its own, with frozen time, cached algorithms
and no listeners.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from retrainer.algorithms.answer_cache import AnswerCache
from retrainer.algorithms.budget import Budget
from retrainer.algorithms.manager import load_algorithm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pandas as pd

    from retrainer.algorithms.events import EventBus
    from retrainer.algorithms.manager import AlgorithmSource
    from retrainer.algorithms.model import TrainedModel
    from retrainer.model_types.base import Origins
    from retrainer.registry.budgets import SharedBudget


class Stopwatch:
    """The time of a run: the time it started at, plus what has elapsed since."""

    def __init__(self, started_at: datetime) -> None:
        self.started_at = started_at
        self._monotonic = time.monotonic()

    def now(self) -> datetime:
        """Return the run's current time, UTC."""
        return self.started_at + timedelta(seconds=time.monotonic() - self._monotonic)


class FrozenStopwatch(Stopwatch):
    """The time of a run that takes no time, so that its record does not depend on the machine."""

    def now(self) -> datetime:
        """Return the time at which the run started, UTC."""
        return self.started_at


@dataclass(frozen=True)
class Runtime:
    """What a run takes from outside.

    Attributes:
        events: where the run publishes what happened.
        algorithms: returns an algorithm by name.
        answers_dir: where the answers of paid calls are cached until their run has completed; None for no cache.
        shared_budget: what the paid calls of all runs of a fleet share; None for a run of its own.
        stopwatch: starts the clock of a run.
        check_lookahead: checks that forecasts do not depend on later posts; None for `evaluation.lookahead`.
    """

    events: EventBus
    algorithms: AlgorithmSource = load_algorithm
    answers_dir: Path | None = None
    shared_budget: SharedBudget | None = None
    stopwatch: Callable[[datetime], Stopwatch] = Stopwatch
    check_lookahead: Callable[[TrainedModel, pd.DataFrame, Origins, Any, Any], None] | None = None

    @contextmanager
    def open_budget(self, *shared: SharedBudget, limit_usd: float | None = None) -> Iterator[Budget]:
        """Open the budget of a run, an evaluation or a comparison, within shared budgets besides that of the fleet.

        Its answers are deleted at the end, and kept if the block fails.

        Args:
            shared: other budgets.
            limit_usd: what its calls may cost; None for no limit of its own.
        """
        of_fleet = () if self.shared_budget is None else (self.shared_budget,)
        budget = Budget(AnswerCache(self.answers_dir), shared=(*of_fleet, *shared), limit_usd=limit_usd)
        yield budget
        budget.answers.clear_used()

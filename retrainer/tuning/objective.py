"""The objective of a study: how well an algorithm with some options forecasts the folds of the training posts."""

from __future__ import annotations

import math
import statistics
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retrainer.algorithms.model import TrainedModel
from retrainer.errors import CostLimitReached, RetrainerError
from retrainer.evaluation.bootstrap import LEVEL, resample_improvement
from retrainer.evaluation.evaluate import evaluate
from retrainer.model_types import get_model_type
from retrainer.pipeline.loading import train_naive_model
from retrainer.tuning.folds import open_fold
from retrainer.tuning.plan import METRIC_KEYS
from retrainer.tuning.results import Gain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd
    from numpy.typing import NDArray
    from pydantic import BaseModel

    from retrainer.algorithms.budget import Budget
    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.evaluation.evaluate import Evaluation
    from retrainer.registry.budgets import SharedBudget
    from retrainer.runtime import Runtime
    from retrainer.tuning.costs import StudyBudget
    from retrainer.tuning.folds import Fold
    from retrainer.tuning.plan import FoldBounds, MetricName, StudyPlan
    from retrainer.tuning.search_space import SearchSpace


@dataclass(frozen=True)
class Objective:
    """What a trial is judged by. It knows the training posts, and no test post.

    Attributes:
        plan: of the study.
        training: the training posts, in order.
        spaces: the search spaces of the algorithms that compete.
        runtime: where the naive algorithm and the check of forecasts come from.
        budget: of the paid forecasts; None if there are none.
    """

    plan: StudyPlan
    training: pd.DataFrame
    spaces: tuple[SearchSpace, ...]
    runtime: Runtime
    budget: StudyBudget | None = None

    @property
    def is_paid(self) -> bool:
        """Whether the forecasts of an algorithm cost money."""
        return any(space.algorithm.description.paid for space in self.spaces)

    def space(self, name: str) -> SearchSpace:
        """Return the search space of one of the algorithms."""
        return next(space for space in self.spaces if space.name == name)

    def fold(self, bounds: FoldBounds) -> Fold:
        plan = self.plan
        return open_fold(self.training, bounds, plan.model_type, plan.max_predictions, plan.origin)

    def evaluate(
        self, algorithm: LoadedAlgorithm, options: BaseModel, bounds: FoldBounds, budget: Budget
    ) -> Evaluation:
        """Train on the posts before a fold, forecast the posts in it and score the forecasts.

        Raises:
            InsufficientData: the posts contain nothing to learn from.
            AlgorithmError: a hook failed.
        """
        return evaluate_on_fold(self.runtime, algorithm, options, self.fold(bounds), self.plan, budget)

    @contextmanager
    def open_budget(self, *shared: SharedBudget) -> Iterator[Budget]:
        """Open the budget of an evaluation, within that of the study and other shared ones.

        Raises:
            CostLimitReached: at the end, if a call was not made since a shared budget is used up: what was forecast
                without it must not count.
        """
        within = shared if self.budget is None else (self.budget.shared, *shared)
        with self.runtime.open_budget(*within) as budget:
            try:
                yield budget
            except RetrainerError as error:
                if budget.exceeded_shared:
                    raise CostLimitReached(budget.exceeded) from error
                raise
            if budget.exceeded_shared:
                raise CostLimitReached(budget.exceeded)

    def value(self, evaluation: Evaluation) -> float:
        """Return the metric of a fold."""
        return float(evaluation.metrics[METRIC_KEYS[self.plan.metric]])


def evaluate_on_fold(
    runtime: Runtime, algorithm: LoadedAlgorithm, options: BaseModel, fold: Fold, plan: StudyPlan, budget: Budget
) -> Evaluation:
    """Train on the posts before a fold and evaluate on the posts in it, as a run does on its test posts.

    The model is saved and loaded, so that what is scored is what a version would be.

    Raises:
        InsufficientData: the posts contain nothing to learn from.
        AlgorithmError: a hook failed.
    """
    trained = algorithm.train(fold.training, options, plan.model_type)
    with tempfile.TemporaryDirectory(prefix="retrainer-") as folder:
        files = {name: (Path(folder) / name).read_bytes() for name in algorithm.save(trained, Path(folder))}
    model = TrainedModel(algorithm, options, algorithm.load(files), plan.model_type)
    fit_naive = partial(train_naive_model, runtime, plan.model_type)
    return evaluate(
        model,
        fit_naive,
        fold.posts,
        fold.window,
        budget=budget,
        check_lookahead=runtime.check_lookahead,
        with_likelihood=False,
    )


def mean_and_error(values: list[float]) -> tuple[float, float | None]:
    """Return the mean of the folds and its standard error, s / sqrt(k); None for one fold."""
    if len(values) == 1:
        return values[0], None
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))


def paired_gain(a: Evaluation, b: Evaluation, metric: MetricName) -> Gain:
    """Return by how much b is better than a on the posts that both forecast, with its paired interval.

    Raises:
        ValueError: they forecast different posts.
    """
    if not a.has_same_targets(b):
        raise ValueError("two evaluations can only be compared on the same posts, forecast from the same origins")
    model_type, both = get_model_type(a.model_type), a.scored & b.scored
    figures = [model_type.figures(*model_type.select(side.forecasts, side.targets, both)) for side in (a, b)]
    quality: Callable[[NDArray[np.float64]], NDArray[np.float64]] = model_type.overall_score
    sign = 1
    if metric == "crps":
        column = model_type.figure_names.index(METRIC_KEYS[metric])
        quality, sign = lambda means: -means[..., column], -1  # less is better
    score_a, score_b = (float(quality(side.mean(axis=0))) for side in figures)
    differences = resample_improvement(figures[0], figures[1], quality).differences
    low, high = (float(bound) for bound in np.quantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    return Gain(
        value=score_b - score_a,
        interval=(low, high),
        probability_better=float((differences > 0).mean() + (differences == 0).mean() / 2),
        score_a=sign * score_a,
        score_b=sign * score_b,
        num_predictions=int(both.sum()),
    )

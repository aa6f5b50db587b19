"""What forecasts depend on: how much worse they are without one of their inputs.

Content forecasts are made again without a part of their context (`ablation`), timing forecasts with an input permuted
(`permutation`). Both are scored on the same posts as the full forecasts, and the difference is resampled over the
posts, for both together (see `bootstrap`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from retrainer.errors import AlgorithmError, CostLimitReached, RetrainerError
from retrainer.evaluation.bootstrap import difference_interval
from retrainer.model_types import get_model_type
from retrainer.model_types.similarity import lift_contributions, similarity_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.algorithms.budget import Budget
    from retrainer.algorithms.hookspecs import ContextPart
    from retrainer.algorithms.model import TrainedModel
    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.base import Origins

    Floats = NDArray[np.float64]

Method = Literal["left_out", "permuted"]
_CRPS_COLUMN = 2  # of the figures of timing forecasts


class Worth(NamedTuple):
    """What a part is worth by a metric: how much better the forecasts are with it than without.

    Attributes:
        value: in the unit of the metric; positive if they are better with it, for the CRPS too, of
            which less is better.
        interval: of 95%; None for fewer than two posts.
    """

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class PartWorth:
    """What a part is worth.

    Attributes:
        name: of the part.
        label: the part in a user's words.
        num_predictions: the number of posts on which it was measured.
        worth: by metric; empty if it could not be measured.
        problem: why not; empty if it could.
    """

    name: str
    label: str
    num_predictions: int = 0
    worth: Mapping[str, Worth] | None = None
    problem: str = ""


@dataclass(frozen=True)
class Explanation:
    """What the forecasts of a version depend on.

    Attributes:
        method: whether the parts were left out or permuted.
        window: the posts, as it is recorded.
        num_predictions: the number of posts whose full forecasts can be scored.
        metrics: of these forecasts: those by which the parts are measured.
        parts: in the order of the plugin.
        seed: of the permutations; None without any.
        problem: why it ended before all parts were measured on all posts; empty if it did not.
    """

    method: Method
    window: dict[str, Any]
    num_predictions: int
    metrics: dict[str, float]
    parts: list[PartWorth]
    seed: int | None = None
    problem: str = ""


def full_forecasts(model: TrainedModel, posts: pd.DataFrame, origins: Origins, budget: Budget) -> Any:
    """Return the forecasts with all inputs.

    Raises:
        CostLimitReached: the budget does not suffice for them.
        AlgorithmError: they failed.
    """
    try:
        forecasts = model.predict(posts, origins, budget)
    except RetrainerError:
        if not budget.exceeded:
            raise
    else:
        if not budget.exceeded:
            return forecasts
    raise CostLimitReached(
        f"nothing was measured: {budget.exceeded}",
        hint="Raise --max-cost; the answers paid for so far are stored and used next time",
    )


def measure_parts(
    parts: Sequence[ContextPart], measure: Callable[[ContextPart], PartWorth], budget: Budget
) -> tuple[list[PartWorth], str]:
    """Measure each part; one that fails does not stop the others.

    Once the budget is used up, or any forecast would fail, no more forecasts are made.

    Args:
        parts: in the order in which they are measured.
        measure: forecasts without one, or with it permuted, and returns what it is worth.
        budget: of paid calls.

    Returns:
        What each part is worth, and why it ended before all were measured; empty if it did not.
    """
    measured: list[PartWorth] = []
    ended = ""
    for part in parts:
        if ended:
            measured.append(PartWorth(part.name, part.label, problem=ended))
            continue
        try:
            measured.append(measure(part))
        except RetrainerError as error:
            problem = budget.exceeded or error.message
            measured.append(PartWorth(part.name, part.label, problem=problem))
            if not isinstance(error, AlgorithmError):
                ended = problem
        ended = ended or budget.exceeded
    return measured, ended


class Contributions(NamedTuple):
    """What each of n posts contributes to a metric.

    Attributes:
        figures: (n, k) whose means give the metric.
        overall: maps means (…, k) to the metric (…); more is better.
    """

    figures: Floats
    overall: Callable[[Floats], Floats]


def contributions(model_type: ModelTypeName, forecasts: Any, targets: Any) -> dict[str, Contributions]:
    """Return, by metric, what each forecast contributes to it: to the score, and to lift or the negative CRPS.

    Args:
        forecasts: n that can be scored.
        targets: their actual values.
    """
    kind = get_model_type(model_type)
    found = {"overall_score": Contributions(kind.score_components(forecasts, targets), kind.overall_score)}
    if model_type == "timing":
        crps = kind.figures(forecasts, targets)[:, [_CRPS_COLUMN]]
        found["crps_hours"] = Contributions(-crps, _only_column)
    else:
        rows = similarity_rows([forecast.text or "" for forecast in forecasts], targets.texts)
        found["lift"] = Contributions(lift_contributions(rows)[:, None], _only_column)
    return found


def _only_column(means: Floats) -> Floats:
    return means[..., 0]


def metrics_of(full: Mapping[str, Contributions]) -> dict[str, float]:
    """Return the metrics themselves."""
    values = {name: float(one.overall(one.figures.mean(axis=0))) for name, one in full.items()}
    return {name: -value if name == "crps_hours" else value for name, value in values.items()}


def measure_worth(full: Mapping[str, Contributions], without: Mapping[str, Contributions]) -> dict[str, Worth]:
    """Return what a part is worth by each metric.

    Args:
        full: of the full forecasts.
        without: of those without the part, on the same posts.
    """
    return {
        name: Worth(*difference_interval(without[name].figures, one.figures, one.overall)) for name, one in full.items()
    }

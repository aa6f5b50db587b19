"""Checks that a model's forecasts do not depend on later posts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.algorithms.model import NOT_DETERMINISTIC, TrainedModel
from retrainer.errors import AlgorithmError
from retrainer.model_types import get_model_type
from retrainer.model_types.base import evenly_spaced

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from retrainer.model_types.base import Origins

CHECKED_FORECASTS = 3  # per evaluation


def check_lookahead(
    model: TrainedModel,
    posts: pd.DataFrame,
    origins: Origins,
    forecasts: Any,
    targets: Any,
    repeat: Callable[[TrainedModel, pd.DataFrame, Origins], Any] = TrainedModel.predict,
) -> None:
    """Repeat a few of a model's forecasts without any later post. They must not change.

    Args:
        repeat: makes forecasts by a new call of the algorithm.

    Raises:
        AlgorithmError: a forecast changes without later posts, or the model is not deterministic.
    """
    model_type = get_model_type(model.model_type)
    for index in evenly_spaced(len(origins), CHECKED_FORECASTS):
        known = posts.iloc[: origins.position[index] + 1]
        repeated = model.predict(known, origins[[index]])
        original, _ = model_type.select(forecasts, targets, np.arange(len(origins)) == index)
        if model_type.are_equal(original, repeated):
            continue
        for seen, some, made in ((known, origins[[index]], repeated), (posts, origins, forecasts)):
            if not model_type.are_equal(made, repeat(model, seen, some)):
                raise AlgorithmError(
                    f"the plugin '{model.algorithm.name}' {NOT_DETERMINISTIC}",
                    hint="Its scores cannot be reproduced. See retrainer.algorithms.testing",
                )
        raise AlgorithmError(
            f"the plugin '{model.algorithm.name}' looks into the future: its forecast from "
            f"{origins.time[index]} UTC changes when later posts are removed",
            hint="Its scores are meaningless. See retrainer.algorithms.testing",
        )

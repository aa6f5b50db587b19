"""Checks that a model's forecasts do not depend on later posts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.algorithms.model import NOT_DETERMINISTIC
from retrainer.errors import AlgorithmError
from retrainer.model_types import get_model_type
from retrainer.model_types.base import evenly_spaced

if TYPE_CHECKING:
    import pandas as pd

    from retrainer.algorithms.model import TrainedModel
    from retrainer.model_types.base import Origins

CHECKED_FORECASTS = 3  # per evaluation


class LookaheadCheck:
    """Repeats a few forecasts without any later post. They must not change."""

    def __call__(
        self, model: TrainedModel, posts: pd.DataFrame, origins: Origins, forecasts: Any, targets: Any
    ) -> None:
        """Check the forecasts that a model made from some origins.

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
            self._require_deterministic(model, known, origins[[index]], repeated)
            self._require_deterministic(model, posts, origins, forecasts)
            raise AlgorithmError(
                f"the plugin '{model.algorithm.name}' looks into the future: its forecast from "
                f"{origins.time[index]} UTC changes when later posts are removed",
                hint="Its scores are meaningless. See retrainer.algorithms.testing",
            )

    def repeat(self, model: TrainedModel, posts: pd.DataFrame, origins: Origins) -> Any:
        """Return forecasts from a new call of the algorithm."""
        return model.predict(posts, origins)

    def _require_deterministic(
        self, model: TrainedModel, posts: pd.DataFrame, origins: Origins, forecasts: Any
    ) -> None:
        if not get_model_type(model.model_type).are_equal(forecasts, self.repeat(model, posts, origins)):
            raise AlgorithmError(
                f"the plugin '{model.algorithm.name}' {NOT_DETERMINISTIC}",
                hint="Its scores cannot be reproduced. See retrainer.algorithms.testing",
            )

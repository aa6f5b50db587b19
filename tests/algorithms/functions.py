"""Algorithms made of functions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.algorithms import Algorithm, hookimpl
from retrainer.model_types.base import Origins, hours_between, utc_times
from retrainer.model_types.timing import TimingForecasts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd

    from retrainer.model_types import ModelTypeName


def loaded(
    predict: Callable[..., Any],
    train: Callable[..., Any] | None = None,
    model_type: ModelTypeName = "timing",
    context_posts: Mapping[ModelTypeName, int] = {},
) -> SimpleNamespace:
    """Return an algorithm with these two functions."""

    @hookimpl
    def algorithm() -> Algorithm:
        return Algorithm(
            name="mine", model_types=(model_type,), summary="Made for a test.", context_posts=context_posts
        )

    def train_default(posts: pd.DataFrame) -> dict[str, int]:
        return {"count": len(posts)}

    return SimpleNamespace(algorithm=algorithm, train=hookimpl(train or train_default), predict=hookimpl(predict))


def constant(waits: np.ndarray) -> TimingForecasts:
    return TimingForecasts(np.repeat(waits[:, None], 99, axis=1), waits)


def last_gap(posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
    times = utc_times(posts)
    return constant(hours_between(times[origins.position - 1], times[origins.position]))

"""Scores of live posts are proper: the true distribution is not called worse."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from retrainer.evaluation.sequential import EProcess
from retrainer.live.forecasting import score_batch
from retrainer.live.posts import Batch, Context
from retrainer.live.scores import stakes_of
from retrainer.model_types.timing import LEVELS, TimingForecasts
from retrainer.registry.live_tables import LiveComparison

if TYPE_CHECKING:
    from retrainer.live.posts import PostKey
    from retrainer.model_types.base import Origins

START = datetime(2024, 1, 1, tzinfo=UTC)
POSTS = 1500


@dataclass(frozen=True)
class Exponential:
    """A side that forecasts exponential waits with the same mean, in hours, from every origin."""

    mean: float

    def context(self, after: PostKey) -> Context:
        return Context(1)

    def predict(self, posts: pd.DataFrame, origins: Origins) -> Any:
        quantiles = np.tile(-self.mean * np.log1p(-LEVELS), (len(origins), 1))
        return TimingForecasts(quantiles, quantiles[:, 49])


@pytest.mark.parametrize("origin", ["post", "clock"])
def test_the_true_distribution_is_better_than_one_that_is_too_early(origin: str) -> None:
    waits = np.random.default_rng(3).exponential(size=POSTS)
    times = pd.Series(pd.Timestamp(START) + pd.to_timedelta(np.cumsum(waits), unit="h")).dt.as_unit("us")
    posts = pd.DataFrame({"post_id": [f"{row:05d}" for row in range(POSTS)], "created_at": times})
    comparison = LiveComparison(
        model_type="timing", origin=origin, spacing_hours=1.0, starts_after=START - timedelta(hours=1)
    )
    batch = Batch((START, None), posts, np.arange(1, POSTS), posts, is_last=True)
    process = EProcess()
    process.update(stakes_of(score_batch(comparison, batch, (Exponential(1.0), Exponential(0.6)))))
    assert process.better > 1000
    assert process.worse < 1

"""Add the likelihood of the actual posts to the forecasts of a content model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from retrainer.errors import AlgorithmError
from retrainer.evaluation.lookahead import CHECKED_FORECASTS
from retrainer.model_types.base import evenly_spaced
from retrainer.model_types.likelihood import group_by_post, pair_origins_and_posts

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.algorithms.model import TrainedModel
    from retrainer.model_types.base import Origins
    from retrainer.model_types.content import ContentForecasts, ContentTargets
    from retrainer.model_types.likelihood import Likelihoods

TOLERANCE = 1e-3  # relative, and in nats: a network computes the same texts in another batch slightly differently


def add_likelihoods(
    model: TrainedModel, posts: pd.DataFrame, origins: Origins, forecasts: ContentForecasts, targets: ContentTargets
) -> ContentForecasts:
    """Return the forecasts with the likelihoods of their posts, if the algorithm has the hook `likelihood`.

    Args:
        origins: n origins, in order.
        forecasts: from these origins.
        targets: the posts that follow them.

    Raises:
        AlgorithmError: the hook failed, or it looks into the future.
    """
    pairs = pair_origins_and_posts(len(origins))
    texts = [targets.texts[post] for post in pairs[:, 1]]
    likelihoods = model.likelihood(posts, origins[pairs[:, 0]], texts)
    if likelihoods is None:
        return forecasts
    for index in evenly_spaced(len(origins), CHECKED_FORECASTS):
        _check_lookahead(model, posts, origins[[index]], texts, likelihoods, pairs[:, 0] == index)
    by_post = group_by_post(pairs, likelihoods, len(origins))
    return [replace(forecast, likelihood=likelihood) for forecast, likelihood in zip(forecasts, by_post, strict=True)]


def _check_lookahead(
    model: TrainedModel,
    posts: pd.DataFrame,
    origin: Origins,
    texts: list[str],
    likelihoods: Likelihoods,
    chosen: NDArray[np.bool_],
) -> None:
    """Check that the likelihoods of the chosen texts, all from one origin, stay the same without later posts."""
    rows = np.flatnonzero(chosen)
    known = posts.iloc[: origin.position[0] + 1]
    again = model.likelihood(known, origin[np.zeros(len(rows), dtype=np.int64)], [texts[row] for row in rows])
    if again is None or not np.allclose(again.nats, likelihoods.nats[rows], rtol=TOLERANCE, atol=TOLERANCE):
        raise AlgorithmError(
            f"the plugin '{model.algorithm.name}': its hook likelihood returned different values from "
            f"{origin.time[0]} UTC when later posts were removed",
            hint="It must use no later post, and be deterministic. See retrainer.algorithms.testing",
        )

"""The naive content forecast: the one of the last posts that is most like the others."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from retrainer.algorithms import ContentForecast, similarity

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from retrainer.algorithms import Origins


def predict(posts: pd.DataFrame, origins: Origins, window: int) -> list[ContentForecast]:
    """Return the medoid of the last `window` posts known at each origin."""
    texts = posts["content"].tolist()
    score = lru_cache(maxsize=2 * window**2)(similarity)  # the windows of neighbouring origins overlap
    return [
        ContentForecast(medoid(texts[max(0, position + 1 - window) : position + 1], score))
        for position in origins.position
    ]


def medoid(texts: list[str], score: Callable[[str, str], float] = similarity) -> str:
    """Return the text with the highest total content score against all texts; of equals, the last."""
    return max(reversed(texts), key=lambda text: sum(score(text, other) for other in texts))

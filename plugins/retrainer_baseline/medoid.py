"""Naive content: the one of the last posts that is most like the others of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.algorithms import ContentForecast, similarity

if TYPE_CHECKING:
    import pandas as pd

    from retrainer.algorithms import Origins


def predict(posts: pd.DataFrame, origins: Origins, window: int) -> list[ContentForecast]:
    """Return the medoid of the last `window` posts known at each origin; of equals, the latest."""
    return [
        ContentForecast(medoid(list(posts["content"].iloc[max(0, position + 1 - window) : position + 1])))
        for position in origins.position
    ]


def medoid(texts: list[str]) -> str:
    """Return the text with the highest mean content score against the others; of equals, the last."""
    totals = [sum(similarity(one, other) for other in texts) for one in texts]
    best = max(range(len(texts)), key=lambda row: (totals[row], row))
    return texts[best]

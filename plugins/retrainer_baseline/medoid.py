"""The naive content forecast: the one of the last posts that is most like the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.algorithms import ContentForecast, similarity

if TYPE_CHECKING:
    import pandas as pd

    from retrainer.algorithms import Origins


def predict(posts: pd.DataFrame, origins: Origins, window: int) -> list[ContentForecast]:
    """Return the medoid of the last `window` posts known at each origin."""
    texts = posts["content"].tolist()
    return [
        ContentForecast(medoid(texts[max(0, position + 1 - window) : position + 1])) for position in origins.position
    ]


def medoid(texts: list[str]) -> str:
    """Return the text with the highest total content score against all texts; of equals, the last."""
    return max(reversed(texts), key=lambda text: sum(similarity(text, other) for other in texts))

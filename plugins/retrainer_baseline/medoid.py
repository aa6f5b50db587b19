"""The naive content forecast: the one of the last posts that is most like the others."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from retrainer.algorithms import ContentForecast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from retrainer.algorithms import Origins


def predict(posts: pd.DataFrame, origins: Origins, window: int) -> list[ContentForecast]:
    """Return the medoid of the last `window` posts known at each origin."""
    texts = posts["content"].tolist()
    find_medoid = MovingMedoid(texts, window)
    return [ContentForecast(texts[find_medoid(int(position))]) for position in origins.position]


class MovingMedoid:
    """The medoid of the last `window` texts: the one with the highest total content score against all of them.

    Neighbouring windows share most of their scores, and a text may have a megabyte: its words are read once and held as
    hashes, and no more than those of a window are in memory.
    """

    def __init__(self, texts: Sequence[str], window: int) -> None:
        self._texts = texts
        self._window = window
        self._words = lru_cache(maxsize=window)(self._read_words)
        self._scores = lru_cache(maxsize=window)(self._compare_with_earlier)

    def __call__(self, last: int) -> int:
        """Return the row of the medoid of the texts up to a row; of equals, the last."""
        first = max(0, last + 1 - self._window)
        scores = np.eye(last + 1 - first)
        for row in range(1, len(scores)):
            scores[row, :row] = scores[:row, row] = self._scores(first + row)[-row:]
        totals = np.add.accumulate(scores, axis=1)[:, -1]  # unlike a sum, it adds in order: equals stay equal
        return last - int(np.argmax(totals[::-1]))

    def _compare_with_earlier(self, row: int) -> NDArray[np.float64]:
        """Return the content score of a text against each of those in the window before it, as `similarity` does."""
        *earlier, own = [self._words(other) for other in range(max(0, row + 1 - self._window), row + 1)]
        lengths = np.array([other.length for other in earlier], dtype=float)
        sizes = np.array([len(other.hashes) for other in earlier], dtype=np.int64)
        hashes = np.concatenate([np.empty(0, dtype=np.uint64), *(other.hashes for other in earlier)])
        found = own.hashes[np.minimum(np.searchsorted(own.hashes, hashes), len(own.hashes) - 1)] == hashes
        common = np.bincount(np.repeat(np.arange(len(earlier)), sizes)[found], minlength=len(earlier))
        length_similarity = 1 - np.abs(lengths - own.length) / np.maximum(lengths, own.length)
        scores: NDArray[np.float64] = (length_similarity + common / (len(own.hashes) + sizes - common)) / 2
        return scores

    def _read_words(self, row: int) -> _Words:
        text = self._texts[row]
        words = pd.util.hash_array(np.array(text.lower().split(), dtype=object), categorize=False)
        return _Words(len(text.rstrip()), np.unique(words))


class _Words(NamedTuple):
    """The length of a text in characters, and the sorted hashes of its different words."""

    length: int
    hashes: NDArray[np.uint64]

"""A trigram model with a cache: the reference for the likelihood of texts.

The probability of token w after u, v is

    λ3 f(w | u, v) + λ2 f(w | v) + λ1 f(w) + λc c(w) + λ0 / V

with f the relative frequencies in the training posts, c that in the last posts, and V the number of different tokens of
the training posts plus one for all others. The weights λ sum to 1 and are one set where (u, v) was seen, one where v
alone was, and one where neither was. They are found by the EM algorithm on the last tenth of the training posts, with
frequencies from the others (Jelinek and Mercer 1980, "Interpolated estimation of Markov source parameters from sparse
data"; cache: Kuhn and De Mori 1990, "A cache-based natural language model for speech recognition").
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Texts = Sequence[Sequence[int]]

CACHED_POSTS = 6
_HELD_OUT = 0.1
_ROUNDS = 30
_START = -1  # stands before the first token


class CachedTrigram:
    """A trigram model of texts, each a list of tokens that ends with an end token.

    Args:
        texts: the training texts, in order; at least two.
    """

    def __init__(self, texts: Texts) -> None:
        split = len(texts) - max(1, int(_HELD_OUT * len(texts)))
        self._count(texts[:split])
        parts, seen = [], []
        for row in range(split, len(texts)):
            found, kinds = self._parts(texts[row], texts[max(0, row - CACHED_POSTS) : row])
            parts.append(found)
            seen.append(kinds)
        self._weights = _fit_weights(np.concatenate(parts), np.concatenate(seen))
        self._count(texts)

    def log_likelihood(self, text: Sequence[int], cached: Texts) -> float:
        """Return the log likelihood of a text in nats, after the last posts."""
        parts, kinds = self._parts(text, cached)
        return float(np.log((parts * self._weights[kinds]).sum(axis=1)).sum())

    def _count(self, texts: Texts) -> None:
        self._trigrams, self._pairs = Counter[tuple[int, int, int]](), Counter[tuple[int, int]]()
        self._bigrams, self._histories, self._unigrams = Counter[tuple[int, int]](), Counter[int](), Counter[int]()
        for text in texts:
            for u, v, w in _windows(text):
                self._trigrams[u, v, w] += 1
                self._pairs[u, v] += 1
                self._bigrams[v, w] += 1
                self._histories[v] += 1
                self._unigrams[w] += 1
        self._total = self._unigrams.total()

    def _parts(self, text: Sequence[int], cached: Texts) -> tuple[Floats, NDArray[np.int64]]:
        """Return (n, 5) the probability of each token by each part, and (n,) how much of its history was seen."""
        cache = Counter(token for post in cached for token in post)
        size = max(1, cache.total())
        uniform = 1 / (len(self._unigrams) + 1)
        rows, kinds = [], []
        for u, v, w in _windows(text):
            pair, history = self._pairs[u, v], self._histories[v]
            rows.append(
                (
                    self._trigrams[u, v, w] / max(1, pair),
                    self._bigrams[v, w] / max(1, history),
                    self._unigrams[w] / self._total,
                    cache[w] / size,
                    uniform,
                )
            )
            kinds.append(0 if pair else 1 if history else 2)
        return np.array(rows), np.array(kinds)


def _windows(text: Sequence[int]) -> list[tuple[int, int, int]]:
    padded = [_START, _START, *text]
    return list(zip(padded, padded[1:], text, strict=False))


def _fit_weights(parts: Floats, kinds: NDArray[np.int64]) -> Floats:
    """Return (3, 5) the weights with the highest likelihood, by the EM algorithm."""
    weights = np.tile([[0.3, 0.2, 0.2, 0.2, 0.1], [0.0, 0.4, 0.3, 0.2, 0.1], [0.0, 0.0, 0.6, 0.3, 0.1]], 1)
    for kind in range(len(weights)):
        own = parts[kinds == kind]
        for _ in range(_ROUNDS if len(own) else 0):
            shares = own * weights[kind]
            weights[kind] = (shares / shares.sum(axis=1, keepdims=True)).mean(axis=0)
    weights[:, -1] = np.maximum(weights[:, -1], 1e-6)  # no token is impossible
    normalized: Floats = weights / weights.sum(axis=1, keepdims=True)
    return normalized

"""TF-IDF vectors of texts, and their cosine similarity."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WORD = re.compile(r"\w{3,}")
_LINK = re.compile(r"https?://\S+")


def tfidf_vectors(texts: Sequence[str]) -> list[dict[str, float]]:
    """Return each text's words with their weights, as a vector of length 1; empty for a text without words.

    The weight is the number of times the word occurs in the text, times ln((1 + n) / (1 + texts with it)) + 1 (Salton
    and Buckley 1988, "Term-weighting approaches in automatic text retrieval"; smoothed). Links and words of one or two
    letters are left out.
    """
    counts = [Counter(_WORD.findall(_LINK.sub(" ", text.casefold()))) for text in texts]
    document_frequency = Counter(word for count in counts for word in count)
    idf = {word: math.log((1 + len(texts)) / (1 + found)) + 1 for word, found in document_frequency.items()}
    return [_normalized({word: times * idf[word] for word, times in count.items()}) for count in counts]


def cosine_similarity(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """Return the cosine of two TF-IDF vectors: 0 without a common word, 1 for the same words."""
    shorter, longer = sorted((first, second), key=len)
    return sum(weight * longer.get(word, 0.0) for word, weight in shorter.items())


def _normalized(vector: dict[str, float]) -> dict[str, float]:
    length = math.sqrt(sum(weight**2 for weight in vector.values()))
    return {word: weight / length for word, weight in vector.items()}

"""What texts are about: the weights of their words, and how alike two of them are."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WORD = re.compile(r"\w{3,}")
_LINK = re.compile(r"https?://\S+")


def word_weights(texts: Sequence[str]) -> list[dict[str, float]]:
    """Return for each text its words with their weights, of length 1 as a vector; empty where it has no word.

    The weight is TF-IDF: how often the word is in the text, times ln((1 + n) / (1 + texts with it)) + 1 (Salton and
    Buckley 1988, "Term-weighting approaches in automatic text retrieval"; smoothed). Links and words of one or two
    letters are left out.
    """
    counts = [Counter(_WORD.findall(_LINK.sub(" ", text.casefold()))) for text in texts]
    found_in = Counter(word for count in counts for word in count)
    rarity = {word: math.log((1 + len(texts)) / (1 + found)) + 1 for word, found in found_in.items()}
    weighted = [{word: times * rarity[word] for word, times in count.items()} for count in counts]
    return [_of_length_one(weights) for weights in weighted]


def likeness(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Return the cosine of two texts' word weights: 0 without a word in common, 1 for the same words."""
    few, many = sorted((one, other), key=len)
    return sum(weight * many.get(word, 0.0) for word, weight in few.items())


def _of_length_one(weights: dict[str, float]) -> dict[str, float]:
    length = math.sqrt(sum(weight**2 for weight in weights.values()))
    return {word: weight / length for word, weight in weights.items()} if length else {}

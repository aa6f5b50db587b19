"""Minimum Bayes risk decoding: of several texts drawn for one forecast, the most typical one.

Kumar and Byrne 2004, "Minimum Bayes-risk decoding for statistical machine translation"; Eikema and Aziz 2022,
"Sampling-based approximations to minimum Bayes risk decoding for neural machine translation".
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from retrainer.model_types.content import normalize_text, similarity

if TYPE_CHECKING:
    from collections.abc import Sequence


def choose_text(samples: Sequence[str], known: Sequence[str], *, copies: bool) -> str:
    """Return the text with the highest expected content score.

    The samples and the last posts together represent what the next post may be; the forecast is the text most
    similar to them on average.

    Args:
        samples: drawn for this forecast. Empty ones are skipped.
        known: the last posts.
        copies: whether one of these may be chosen. Otherwise one is only if every sample is empty, and a sample that
            repeats one only if all do.

    Raises:
        ValueError: there is neither a sample with a text nor a post.
    """
    texts = [text for text in samples if text]
    drawn = texts
    if not copies:
        taken = {normalize_text(text) for text in known}
        drawn = [text for text in texts if normalize_text(text) not in taken] or texts
    candidates = list(dict.fromkeys([*drawn, *(known if copies or not drawn else [])]))
    if not candidates:
        raise ValueError("there is nothing to choose from")
    votes = [*texts, *known]
    expected = [sum(similarity(text, other) for other in votes) for text in candidates]
    return candidates[int(np.argmax(expected))]


def sample_agreement(samples: Sequence[str]) -> float | None:
    """Return how far several texts for the same post agree: the mean similarity of their pairs, 0 to 1.

    Returns:
        None for fewer than two texts.
    """
    pairs = [similarity(*pair) for pair in combinations(samples, 2)]
    return sum(pairs) / len(pairs) if pairs else None

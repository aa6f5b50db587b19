"""A forecast text and the actual post: which words both have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retrainer.model_types.content import length_similarity, similarity, word_overlap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_CHARACTERS = 1000  # of a text that is shown

_WORDS = re.compile(r"\S+|\s+")


@dataclass(frozen=True)
class Part:
    """A part of a text.

    Attributes:
        is_common: whether its words are in the other text too.
    """

    text: str
    is_common: bool


@dataclass(frozen=True)
class TextPair:
    """A forecast and the actual post.

    Attributes:
        outcome: `ok`, or why there is no text to score.
        forecast: the parts of the forecast.
        actual: the parts of the post.
        score: the mean of the two below; None without a text.
        length_similarity: 1 for texts of equal length.
        word_overlap: the share of the different words that both have: the words marked, once each.
    """

    post_id: str
    outcome: str
    forecast: Sequence[Part]
    actual: Sequence[Part]
    score: float | None
    length_similarity: float | None
    word_overlap: float | None


def pair_texts(prediction: Mapping[str, Any]) -> TextPair:
    """Return a forecast of content, as an evaluation records it, beside the post."""
    forecast, actual = prediction["text"] or "", prediction["actual"] or ""
    common = set(forecast.lower().split()) & set(actual.lower().split())
    is_scored = prediction["outcome"] == "ok"
    figures = [one(forecast, actual) if is_scored else None for one in (similarity, length_similarity, word_overlap)]
    parts = (_mark(forecast, common), _mark(actual, common))
    return TextPair(str(prediction["post_id"]), prediction["outcome"], *parts, *figures)


def _mark(text: str, common: set[str]) -> list[Part]:
    """Split a text, shortened if it is long, into parts that are in the other one and parts that are not."""
    shown = text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"
    parts: list[Part] = []
    for match in _WORDS.finditer(shown):
        word = match[0]
        is_common = (
            word.lower() in common if not word.isspace() else _is_between_common(shown, match.end(), parts, common)
        )
        if parts and parts[-1].is_common == is_common:
            parts[-1] = Part(parts[-1].text + word, is_common)
        else:
            parts.append(Part(word, is_common))
    return parts


def _is_between_common(text: str, end: int, parts: Sequence[Part], common: set[str]) -> bool:
    """Whether a space stands between two common words, so that both are one part."""
    following = _WORDS.match(text, end)
    return bool(parts and parts[-1].is_common and following and following[0].lower() in common)

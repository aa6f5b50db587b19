"""Whether forecasts are more similar to their own posts than to the others. No constant forecast can win at this."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Two different texts can otherwise reach 1: "a b" and "b a" have the same length and the same words.
MAX_SIMILARITY_OF_DIFFERENT_TEXTS = 1 - 1e-9


class MatchingScores(NamedTuple):
    """How well n forecasts can be matched with their posts by similarity.

    Attributes:
        lift: the mean similarity of forecasts to their own posts minus that to all other posts; 0 for a constant.
        rank_auc: the mean over the forecasts of the share of other posts that are less similar than the own one, with
            ties counted half: the area under the ROC curve. 0.5 for a constant, 1 if every own post is most similar.
    """

    lift: float
    rank_auc: float


def matching_scores(rows: Iterable[Floats]) -> MatchingScores:
    """Return lift and rank AUC of a similarity matrix, read row by row.

    A single forecast has no other posts to compare with: its lift is 0 and its rank AUC 0.5.

    Args:
        rows: n rows (n,): the similarity of forecast i to each post; its own is post i.
    """
    own = other = share = 0.0
    count = 0
    for index, row in enumerate(rows):
        others = np.delete(row, index)
        own += float(row[index])
        if len(others):
            other += float(others.mean())
            share += float((others < row[index]).mean() + (others == row[index]).mean() / 2)
        count += 1
    if count <= 1:
        return MatchingScores(lift=0.0, rank_auc=0.5)
    return MatchingScores(lift=(own - other) / count, rank_auc=share / count)


def lift_contributions(rows: Iterable[Floats]) -> Floats:
    """Return (n,) what each post contributes to the lift, whose mean is the lift.

    Lift is a U-statistic, so that a post counts as a forecast and as a post that other forecasts are compared with. The
    contribution of post i is s(i, i) − r(i) − c(i) + m: with r(i) the mean similarity of forecast i to the other posts,
    c(i) that of the other forecasts to post i, and m that of all mismatched pairs. Resampling these gives the
    uncertainty of the lift to first order (the projection of Hoeffding 1948, "A class of statistics with asymptotically
    normal distribution").

    Args:
        rows: as in `matching_scores`. A single forecast has no lift: 0.
    """
    own, of_forecast = [], []
    of_post: Floats = np.zeros(0)
    for index, row in enumerate(rows):
        own.append(row[index])
        of_forecast.append(row.sum())
        of_post = of_post + row if index else row
    count = len(own)
    if count <= 1:
        return np.zeros(count)
    forecasts, posts = ((np.array(sums) - own) / (count - 1) for sums in (of_forecast, of_post))
    contributions: Floats = np.array(own) - forecasts - posts + forecasts.mean()
    return contributions


def similarity_rows(forecasts: Sequence[str], posts: Sequence[str]) -> Iterator[Floats]:
    """Yield, for each of n forecasts, (m,) its similarity to all m posts; only one row is in memory.

    The similarity is `content.similarity`, at most `MAX_SIMILARITY_OF_DIFFERENT_TEXTS` for different texts. Texts that
    differ only in trailing white space are the same.
    """
    stripped = [post.rstrip() for post in posts]
    lengths = np.array([len(post) for post in stripped], dtype=float)
    words = [_words(post) for post in posts]
    num_words = np.array([len(own) for own in words], dtype=float)
    posts_with_word = _index(words)
    posts_with_text = _index([[post] for post in stripped])
    nowhere = np.empty(0, dtype=np.int64)
    for forecast in forecasts:
        text, own_words = forecast.rstrip(), _words(forecast)
        shared = [posts_with_word[word] for word in own_words if word in posts_with_word]
        common = np.bincount(np.concatenate([nowhere, *shared]), minlength=len(posts))
        overlap = _ratio(common, len(own_words) + num_words - common, empty=1)
        difference = _ratio(np.abs(lengths - len(text)), np.maximum(lengths, len(text)), empty=0)
        row = np.minimum((1 - difference + overlap) / 2, MAX_SIMILARITY_OF_DIFFERENT_TEXTS)
        row[posts_with_text.get(text, nowhere)] = 1.0
        yield row


def _words(text: str) -> set[str]:
    return set(text.lower().split())


def _index(groups: Sequence[Iterable[str]]) -> dict[str, NDArray[np.int64]]:
    """Return, for each item, the indices of the groups that contain it."""
    indices: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        for item in group:
            indices.setdefault(item, []).append(index)
    return {item: np.array(found, dtype=np.int64) for item, found in indices.items()}


def _ratio(part: NDArray[np.generic], whole: Floats, *, empty: float) -> Floats:
    """Return part / whole; `empty` where the whole is 0."""
    ratio: Floats = np.divide(part, whole, out=np.full(len(whole), empty, dtype=float), where=whole > 0)
    return ratio

"""Whether forecasts are more like their own posts than like the others: what no constant can win."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# What two texts that are not the same can reach: "a b" and "b a" have one length and the same words.
MOST_OF_DIFFERENT_TEXTS = 1 - 1e-9


class MatchingScores(NamedTuple):
    """How n forecasts stand to n posts.

    Attributes:
        lift: the mean similarity of the matching pairs minus that of all mismatched pairs; 0 for a constant.
        rank_auc: the mean over the forecasts of the share of other posts that are less similar than the own one, ties
            counted half: the area under the ROC curve of telling the own post by the similarity. 0.5 for a constant, 1
            where every own post is the most similar.
    """

    lift: float
    rank_auc: float


def matching_scores(rows: Iterable[Floats]) -> MatchingScores:
    """Return lift and rank AUC of a similarity matrix, read row by row.

    A single forecast has no other post to be held against: its lift is 0 and its rank AUC 0.5.

    Args:
        rows: n rows (n,): the similarity of forecast i to each post, the own one at place i.
    """
    own = mismatched = share = 0.0
    count = 0
    for place, row in enumerate(rows):
        others = np.delete(row, place)
        own += float(row[place])
        if len(others):
            mismatched += float(others.mean())
            share += float((others < row[place]).mean() + (others == row[place]).mean() / 2)
        count += 1
    if count <= 1:
        return MatchingScores(lift=0.0, rank_auc=0.5)
    return MatchingScores(lift=(own - mismatched) / count, rank_auc=share / count)


def similarity_rows(forecasts: Sequence[str], posts: Sequence[str]) -> Iterator[Floats]:
    """Yield (m,) the similarity of each of n forecasts to all m posts, by the documented content score.

    It is what `content.similarity` says of each pair, but that different texts reach `MOST_OF_DIFFERENT_TEXTS` at most.
    Texts are the same where they differ in trailing white space only. One row at a time is held.
    """
    stripped = [post.rstrip() for post in posts]
    lengths = np.array([len(post) for post in stripped], dtype=float)
    words = [_words(post) for post in posts]
    sizes = np.array([len(one) for one in words], dtype=float)
    posts_with = _places(words)
    same_posts = _places([[post] for post in stripped])
    nowhere = np.empty(0, dtype=np.int64)
    for forecast in forecasts:
        text, own_words = forecast.rstrip(), _words(forecast)
        shared = [posts_with[word] for word in own_words if word in posts_with]
        common = np.bincount(np.concatenate([nowhere, *shared]), minlength=len(posts))
        overlap = _ratio(common, len(own_words) + sizes - common)
        longest = np.maximum(lengths, len(text))
        row = np.minimum(
            (1 - _ratio(np.abs(lengths - len(text)), longest, empty=0) + overlap) / 2, MOST_OF_DIFFERENT_TEXTS
        )
        row[same_posts.get(text, nowhere)] = 1.0
        yield row


def _words(text: str) -> set[str]:
    return set(text.lower().split())


def _places(groups: Sequence[Iterable[str]]) -> dict[str, NDArray[np.int64]]:
    """Return by item the places of the groups that hold it."""
    places: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        for item in group:
            places.setdefault(item, []).append(place)
    return {item: np.array(found, dtype=np.int64) for item, found in places.items()}


def _ratio(part: NDArray[np.generic], whole: Floats, *, empty: float = 1) -> Floats:
    """Return part / whole; `empty` where the whole is 0."""
    ratio: Floats = np.divide(part, whole, out=np.full(len(whole), float(empty)), where=whole > 0)
    return ratio

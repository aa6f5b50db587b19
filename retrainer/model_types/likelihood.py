"""The likelihood of the actual posts under a content model. Neither a constant nor a copy can win at this.

An evaluation asks for the log-likelihood of each post from its own origin and from a few earlier ones. None of these
knows the post. A model that ignores its context gives a post the same likelihood from each of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

EARLIER_ORIGINS = 4  # from which the likelihood of each post is asked for, besides its own


@dataclass(frozen=True)
class Likelihoods:
    """The log-likelihoods of n texts, each as the post that follows an origin.

    Attributes:
        nats: (n,) log-likelihoods with the natural logarithm, at most 0.
        tokens: (n,) the number of tokens of each text, at least 1.
    """

    nats: NDArray[np.float64]
    tokens: NDArray[np.int64]


@dataclass(frozen=True)
class PostLikelihood:
    """The log-likelihood of an actual post.

    Attributes:
        nats: from its own origin, with the natural logarithm.
        tokens: the number of its tokens.
        earlier: (k,) from k earlier origins; empty for the first post of a window.
    """

    nats: float
    tokens: int
    earlier: tuple[float, ...] = ()


def validate_likelihoods(answer: Any, count: int) -> Likelihoods:
    """Return a plugin's answer as likelihoods of `count` texts.

    Raises:
        TypeError: it is not a `Likelihoods`, or holds no numbers.
        ValueError: it has another length, or one of its values is impossible.
    """
    if not isinstance(answer, Likelihoods):
        raise TypeError(f"a {type(answer).__name__} instead of Likelihoods")
    nats, tokens = (np.asarray(values, dtype=float) for values in (answer.nats, answer.tokens))
    for name, values in (("nats", nats), ("tokens", tokens)):
        if values.shape != (count,):
            raise ValueError(f"{name} of shape {values.shape} instead of {(count,)}")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} that are not finite")
    if (nats > 0).any():
        raise ValueError(f"the log-likelihood {nats.max():g}, which is above 0")
    if (tokens < 1).any() or (tokens % 1).any():
        raise ValueError(f"{tokens[(tokens < 1) | (tokens % 1 > 0)][0]:g} tokens for a text")
    return Likelihoods(nats, tokens.astype(np.int64))


def pair_origins_and_posts(count: int) -> NDArray[np.int64]:
    """Return (m, 2) which posts to ask for from which origins of a window, ordered by origin: origin, post.

    Each of the `count` posts is paired with its own origin, and with up to `EARLIER_ORIGINS` evenly spaced ones before.
    """
    pairs = [(post, post) for post in range(count)]
    for post in range(count):
        middles = (np.arange(EARLIER_ORIGINS) + 0.5) * post / EARLIER_ORIGINS
        pairs += [(int(origin), post) for origin in np.unique(middles.astype(np.int64)) if origin < post]
    return np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)


def group_by_post(pairs: NDArray[np.int64], likelihoods: Likelihoods, count: int) -> list[PostLikelihood]:
    """Return the likelihoods of each post.

    Args:
        pairs: (m, 2) origins and posts.
        likelihoods: of the m pairs.
        count: the number of posts.
    """
    own = np.zeros(count)
    tokens = np.zeros(count, dtype=np.int64)
    earlier: list[list[float]] = [[] for _ in range(count)]
    for (origin, post), nats, number in zip(pairs.tolist(), likelihoods.nats, likelihoods.tokens, strict=True):
        if origin == post:
            own[post], tokens[post] = nats, number
        else:
            earlier[post].append(float(nats))
    return [
        PostLikelihood(float(nats), int(number), tuple(others))
        for nats, number, others in zip(own, tokens, earlier, strict=True)
    ]


def likelihood_metrics(posts: Sequence[PostLikelihood]) -> dict[str, float]:
    """Return the nats per token, and the likelihood lift.

    `nats_per_token` is the negative log-likelihood of all posts over the number of their tokens. `likelihood_lift` is
    a mean over the posts that have earlier origins: the log-likelihood per token from a post's own origin minus the
    mean of those from the earlier ones. It estimates the pointwise mutual information of post and context (Church and
    Hanks 1990), in nats per token. It is exactly 0 for a model that ignores its context, and for a single post.
    """
    differences = [
        math.fsum(post.nats - other for other in post.earlier) / len(post.earlier) / post.tokens
        for post in posts
        if post.earlier
    ]
    return {
        "nats_per_token": -math.fsum(post.nats for post in posts) / sum(post.tokens for post in posts),
        "likelihood_lift": math.fsum(differences) / max(1, len(differences)),
    }


def parse_post_likelihood(stored: Any) -> PostLikelihood | None:
    """Return the likelihood of a post from a forecasts file; None if it has none."""
    if stored is None:
        return None
    return PostLikelihood(float(stored["nats"]), int(stored["tokens"]), tuple(map(float, stored["earlier"])))

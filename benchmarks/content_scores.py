"""Metrics of content forecasts with 95% intervals, by the bootstrap over blocks of posts that comparisons use.

Each metric is a mean over the test posts of one figure a post, so that posts are resampled for two forecasts together.
Lift and rank AUC are means over pairs of a forecast i and a post j: a_ij. The figure of post i is then

    (mean of a_ij over j ≠ i) + (mean of a_ji over j ≠ i) − (mean of all a_ij, i ≠ j)

its Hájek projection, which counts that a post is also the other post of all the other forecasts (Hoeffding 1948, "A
class of statistics with asymptotically normal distribution"). The mean of these figures is the metric itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrainer.evaluation.bootstrap import score_interval
from retrainer.model_types.content import Content, ContentForecast
from retrainer.model_types.embeddings import TIE_DECIMALS
from retrainer.model_types.similarity import similarity_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from retrainer.model_types.content import ContentTargets
    from retrainer.model_types.embeddings import SemanticModel

    Floats = NDArray[np.float64]
    Figures = dict[str, Floats]

INTERVALS = ("overall_score", "lift", "rank_auc", "embedding_rank_auc")
_CONTENT = Content()


def post_figures(texts: Sequence[str], targets: ContentTargets, encoder: SemanticModel | None) -> Figures:
    """Return, by the metric in `INTERVALS`, (n,) the figures of each post.

    Args:
        texts: n forecasts.
        targets: their posts.
        encoder: of the embeddings; without one there is no `embedding_rank_auc`.
    """
    components = _CONTENT.score_components([ContentForecast(text) for text in texts], targets)
    similarities = np.array(list(similarity_rows(texts, targets.texts)))
    figures = {
        "overall_score": components.mean(axis=1),
        "lift": _project(np.diag(similarities)[:, None] - similarities),
        "rank_auc": _project(_wins(similarities)),
    }
    if encoder is not None:
        cosines = encoder.embeddings(texts) @ encoder.embeddings(targets.texts).T
        figures["embedding_rank_auc"] = _project(_wins(np.round(cosines, TIE_DECIMALS)))
    return figures


def _wins(similarities: Floats) -> Floats:
    """Return (n, n) whether the own post of forecast i is more similar than post j; one half if equal."""
    own = np.diag(similarities)[:, None]
    wins: Floats = (own > similarities) + (own == similarities) / 2
    return wins


def _project(pairs: Floats) -> Floats:
    """Return (n,) the Hájek projections of (n, n) figures of pairs, without the diagonal."""
    others = pairs - np.diag(np.diag(pairs))
    count = len(pairs)
    rows, columns = others.sum(axis=1) / (count - 1), others.sum(axis=0) / (count - 1)
    projected: Floats = rows + columns - rows.mean()
    return projected


def interval(figures: Floats) -> list[float]:
    """Return the 95% interval of the mean of (n,) figures, in order of time; of at least two."""
    found = score_interval(figures[:, None], lambda means: means[..., 0])
    assert found is not None  # noqa: S101  there are at least two
    return [float(bound) for bound in found]


def intervals(figures: Mapping[str, Figures], reference: str) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Return, by forecast and metric, the interval of the metric and that of its difference to a reference."""
    return {
        name: {
            "interval": {metric: interval(own) for metric, own in metrics.items()},
            "difference": {
                metric: [float((own - figures[reference][metric]).mean()), *interval(own - figures[reference][metric])]
                for metric, own in metrics.items()
            },
        }
        for name, metrics in figures.items()
    }


def ratio_interval(figures: Floats, sizes: Floats) -> list[float]:
    """Return the total of (n,) figures divided by the total of (n,) sizes, and its 95% interval."""
    found = score_interval(np.column_stack([figures, sizes]), lambda means: means[..., 0] / means[..., 1])
    assert found is not None  # noqa: S101  there are at least two
    return [float(figures.sum() / sizes.sum()), *found]

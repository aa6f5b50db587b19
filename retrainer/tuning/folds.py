"""The folds of the training posts: rolling origins, and the held-back fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.errors import InsufficientData
from retrainer.evaluation.windows import held_out_window
from retrainer.model_types import get_model_type
from retrainer.tuning.plan import FoldBounds

if TYPE_CHECKING:
    import pandas as pd

    from retrainer.evaluation.windows import Window
    from retrainer.model_types import ModelTypeName, OriginRule

MIN_FOLDS, MAX_FOLDS = 2, 5
MIN_TARGETS = 10  # of a fold, below which a comparison is not enough evidence
TARGETS = 30  # of a fold, as many as there should be before there are more than two folds
MIN_FIRST_POSTS = 40  # to train on before the first fold; the conformance suite asks no plugin to do with fewer
FIRST_SHARE = 0.5  # of the training posts that come before the first fold, at least


@dataclass(frozen=True)
class Fold:
    """A fold: train on the posts before it, forecast the posts in it.

    Attributes:
        posts: the posts up to the end of the fold, in order.
        training_count: the number of posts before the fold, which come first.
        window: the posts of the fold and the origins that they are forecast from.
    """

    posts: pd.DataFrame
    training_count: int
    window: Window

    @property
    def training(self) -> pd.DataFrame:
        """The posts before the fold."""
        return self.posts.iloc[: self.training_count]


def plan_folds(count: int) -> tuple[tuple[FoldBounds, ...], FoldBounds]:
    """Divide training posts into a first part and equal blocks: the folds, and the last one, which is held back.

    There are two folds, and up to five if each has 30 posts or more. At least half of the posts, and at least 40, come
    before the first fold.

    Args:
        count: the number of training posts.

    Returns:
        The folds, oldest first, and the fold that is held back.

    Raises:
        InsufficientData: there are too few posts for two folds and one that is held back.
    """
    first = max(MIN_FIRST_POSTS, round(count * FIRST_SHARE))
    rest = count - first
    folds = min(max(rest // TARGETS - 1, MIN_FOLDS), MAX_FOLDS)
    size = rest // (folds + 1)
    if size < MIN_TARGETS:
        needed = MIN_FIRST_POSTS + (MIN_FOLDS + 1) * MIN_TARGETS
        raise InsufficientData(
            f"Insufficient data for tuning: {count} training posts are too few for {MIN_FOLDS} folds and a "
            "held-back one",
            hint=f"Collect more data: {needed} training posts are needed, which are those before the test posts",
        )
    starts = [count - size * block for block in range(folds + 1, 0, -1)]
    *bounds, held_back = (FoldBounds(start, start + size) for start in starts)
    return tuple(bounds), held_back


def open_fold(
    training: pd.DataFrame, bounds: FoldBounds, model_type: ModelTypeName, max_predictions: int, origin: OriginRule
) -> Fold:
    """Return a fold of the training posts.

    Raises:
        InsufficientData: the posts before it contain nothing to learn from, or those in it give fewer than 10 targets.
    """
    posts = training.iloc[: bounds.end]
    known = posts.iloc[: bounds.start]
    get_model_type(model_type).require_trainable(known)
    last = known.iloc[-1]
    through = (last["created_at"].to_pydatetime(), str(last["post_id"]))
    window = held_out_window(posts, through, max_predictions, origin)
    targets = 0 if window is None else len(window.rows)
    if window is None or targets < min(MIN_TARGETS, max_predictions):
        start, end = (posts["created_at"].iloc[row] for row in (bounds.start, bounds.end - 1))
        raise InsufficientData(
            f"Insufficient data for tuning: the fold from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC has "
            f"{targets} targets, fewer than {MIN_TARGETS}",
            hint="Collect more data",
        )
    return Fold(posts, bounds.start, window)

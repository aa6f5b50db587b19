"""Steps 1 and 2: load the latest posts and split them by time."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from retrainer.errors import InsufficientData
from retrainer.model_types import get_model_type
from retrainer.posts.validation import number

if TYPE_CHECKING:
    import pandas as pd

    from retrainer.model_types import ModelTypeName
    from retrainer.posts.store import PostStore
    from retrainer.project import Project

log = logging.getLogger(__name__)

RECOMMENDED_POSTS = 100


@dataclass(frozen=True)
class Split:
    """Posts split by time.

    Attributes:
        posts: all posts, in order.
        training_count: the number of training posts, which come first; the rest are test posts.
    """

    posts: pd.DataFrame
    training_count: int

    @property
    def training(self) -> pd.DataFrame:
        return self.posts.iloc[: self.training_count]

    @property
    def test_count(self) -> int:
        """The number of test posts."""
        return len(self.posts) - self.training_count


def load_posts(project: Project, model_type: ModelTypeName, now: datetime) -> pd.DataFrame:
    """Load the posts up to now that this model type can use, ordered by (created_at, post_id).

    Raises:
        InsufficientData: there are posts, but the type can use none of them.
    """
    return load_usable_posts(project.posts, model_type, now)


def load_usable_posts(store: PostStore, model_type: ModelTypeName, now: datetime) -> pd.DataFrame:
    """Load posts as `load_posts` does, from a store of posts."""
    posts = store.load(now, with_content=model_type == "content")
    usable = get_model_type(model_type).usable_posts(posts)
    if usable.empty and not posts.empty:  # content: a timing model can use every post
        raise InsufficientData(
            f"none of the {len(posts)} posts in {store.location} has a text",
            hint="Import a file that has them; --column content=NAME names the column of the texts",
        )
    return usable


def load_and_split(project: Project, model_type: ModelTypeName, now: datetime) -> Split:
    """Load the posts up to now and split them, as a run does.

    Raises:
        InsufficientData: there are too few posts, or the training posts contain nothing to learn from.
    """
    settings, location = project.settings.retraining, project.posts.location
    posts = load_posts(project, model_type, now)
    if posts.empty and (later := project.posts.summary(datetime.max.replace(tzinfo=UTC), warn=False)).count:
        raise InsufficientData(
            f"all {number(later.count, 'post')} in {location} are later than {now:%Y-%m-%d %H:%M} UTC; "
            f"the first is of {later.first:%Y-%m-%d %H:%M} UTC",
            hint="Correct the clock of this machine, or choose a later time",
        )
    kind = " with text" if model_type == "content" else ""
    split = split_by_time(posts, settings.test_split, settings.min_training_samples, location, kind)
    get_model_type(model_type).require_trainable(split.training)
    return split


def split_by_time(
    posts: pd.DataFrame, test_split: float, min_training_samples: int, location: str, kind: str = ""
) -> Split:
    """Split posts into a training part and, with the share `test_split` of the latest posts, a test part.

    Args:
        location: where the posts are stored, for messages.
        kind: what the posts have in common, for messages, such as ` with text`.

    Raises:
        InsufficientData: there are fewer than `min_training_samples` posts, or a part would be too small.
    """
    if len(posts) < min_training_samples:
        raise InsufficientData(
            f"Insufficient data for training: {number(len(posts), 'post')}{kind} in {location}",
            hint=f"Collect at least {min_training_samples} before retraining (retraining.min_training_samples)",
        )
    training_count = int(len(posts) * (1 - test_split) + 1e-9)  # 373 posts: 298 to train, 75 to test
    split = Split(posts, training_count)
    if training_count < 2 or split.test_count < 1:  # noqa: PLR2004  a gap needs two posts
        raise InsufficientData(
            f"Insufficient data for training: {len(posts)} posts give {training_count} for training and "
            f"{split.test_count} for testing",
            hint="Collect more data before retraining, or change retraining.test_split",
        )
    first, last = posts["created_at"].iloc[0], posts["created_at"].iloc[-1]
    log.info("Loaded %d posts (%s to %s)", len(posts), f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}")
    if len(posts) < RECOMMENDED_POSTS:
        log.warning("Only %d posts; %d or more recommended", len(posts), RECOMMENDED_POSTS)
    log.info("Split data: %d train, %d test", split.training_count, split.test_count)
    return split

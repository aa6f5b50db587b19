"""The posts that an evaluation forecasts, and the origins it forecasts them from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.model_types import get_model_type
from retrainer.model_types.base import Origins, evenly_spaced, utc_times
from retrainer.times import format_time

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.model_types import ModelTypeName, OriginRule


@dataclass(frozen=True)
class Window:
    """A range of held-out posts with the origins from which they are forecast.

    Attributes:
        first_row: the row of the first post in the window; the naive forecast is fitted to the posts before it.
        origin: the rule by which the origins were chosen.
        origins: n origins, evenly spread over the window.
        rows: (n,) the row of the post forecast from each origin: the next one after it. With wall-clock origins a post
            may be forecast several times.
        start: the time of the first post, UTC.
        end: the time of the last post, UTC.
        available: the number of posts in the window.
    """

    first_row: int
    origin: OriginRule
    origins: Origins
    rows: NDArray[np.int64]
    start: datetime
    end: datetime
    available: int

    def document(self) -> dict[str, Any]:
        """Return the window as it is recorded and shown."""
        return {
            "start": format_time(self.start),
            "end": format_time(self.end),
            "posts": self.available,
            "origin": self.origin,
        }

    def origins_for(self, model_type: ModelTypeName, posts: pd.DataFrame) -> Origins:
        """Return the origins as an algorithm of this model type gets them: content knows the time of the post."""
        if not get_model_type(model_type).target_time_known:
            return self.origins
        return replace(self.origins, target_time=utc_times(posts)[self.rows])


def held_out_window(
    posts: pd.DataFrame,
    trained_through: tuple[datetime, str],
    max_predictions: int,
    origin: OriginRule = "post",
    left_out: Collection[str] = (),
) -> Window | None:
    """Return the window of posts later than the last training post; None if there are none.

    With the rule `clock`, the time from the first to the last post of the window is divided into as many equal parts as
    there are posts, at most `max_predictions`, and the middle of each part is an origin. If all posts have the same
    time there is no window.

    Args:
        posts: all posts in order of (created_at, post_id).
        trained_through: time and id of the last training post.
        max_predictions: the maximum number of forecasts.
        origin: the rule by which to choose origins.
        left_out: the ids of posts that are not forecast; forecasts of later posts know them.
    """
    time, post_id = trained_through
    later = (posts["created_at"] > time) | ((posts["created_at"] == time) & (posts["post_id"] > post_id))
    rows = np.flatnonzero(later.to_numpy())
    rows = rows[rows > 0]  # the very first post cannot be forecast: no post precedes it
    is_left_out = posts["post_id"].isin(left_out).to_numpy()
    rows = rows[~is_left_out[rows]]
    if not len(rows):
        return None
    first, last = rows[0], rows[-1]
    if origin == "post":
        origins = Origins.before(posts, rows[evenly_spaced(len(rows), max_predictions)].astype(np.int64))
    else:
        times = utc_times(posts)
        if times[first] == times[last]:
            return None
        origins = Origins.at(posts, _midpoints(times[first], times[last], min(len(rows), max_predictions)))
        origins = origins[~is_left_out[origins.position + 1]]
        if not len(origins):
            return None
    return Window(
        first_row=int(first),
        origin=origin,
        origins=origins,
        rows=origins.position + 1,
        start=posts["created_at"].iloc[first].to_pydatetime(),
        end=posts["created_at"].iloc[last].to_pydatetime(),
        available=len(rows),
    )


def _midpoints(start: np.datetime64, end: np.datetime64, count: int) -> NDArray[np.datetime64]:
    """Return the midpoints of `count` equal parts of the time from start to end."""
    span = (end - start).astype("timedelta64[us]").astype(np.int64)
    offsets = np.floor((np.arange(count) + 0.5) / count * span).astype(np.int64)
    midpoints: NDArray[np.datetime64] = start + offsets.astype("timedelta64[us]")
    return midpoints

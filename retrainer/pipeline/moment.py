"""The moment at which the next post is forecast, and the posts known then."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from retrainer.errors import InsufficientData, UsageError
from retrainer.model_types.base import Origins
from retrainer.pipeline.split import load_posts
from retrainer.posts.freshness import MAX_GAPS, measure_freshness
from retrainer.times import format_time

if TYPE_CHECKING:
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.live_tables import ForecastState
    from retrainer.registry.tables import ModelVersion

    At = datetime | Literal["last"] | None

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Moment:
    """The moment asked about, and what is known then.

    Attributes:
        now: the present, UTC.
        at: the moment, UTC.
        posts: the posts up to it or, with a state, the last ones.
        last_post_at: the time of the last post up to now, UTC.
        state: what stands for the posts up to the first one of `recent`; None for none.
    """

    now: datetime
    at: datetime
    posts: pd.DataFrame
    last_post_at: datetime
    state: ForecastState | None = None

    @classmethod
    def find(
        cls, project: Project, model_type: ModelTypeName, now: datetime, at: At, state: ForecastState | None = None
    ) -> Moment:
        """Load the posts up to a moment; see `predict_next`.

        Args:
            state: what stands for the posts up to one, for a model type that can use all posts.

        Raises:
            InsufficientData: there are no posts.
            UsageError: the moment is before the first one.
        """
        if state is not None and (at is None or at == "last"):
            posts = project.posts.load_before((now, None), MAX_GAPS + 1, with_content=False)
            if _row_of(state, posts) is not None:
                last = posts["created_at"].iloc[-1].to_pydatetime()
                return cls(now, last if at == "last" else now, posts, last, state)
        posts = load_posts(project, model_type, now)
        if posts.empty:
            raise InsufficientData(
                f"no posts to forecast from: {project.posts.location} has none up to '{format_time(now)}'",
                hint="Import posts first",
            )
        first, last = (posts["created_at"].iloc[row].to_pydatetime() for row in (0, -1))
        moment = last if at == "last" else at or now
        if moment < first:
            raise UsageError(
                f"at: '{format_time(moment)}' is before the first post, '{format_time(first)}'",
                hint="Choose a later time",
            )
        count = int(posts["created_at"].searchsorted(pd.Timestamp(moment), side="right"))
        return cls(now, moment, posts.iloc[:count], last)

    @cached_property
    def recent(self) -> pd.DataFrame:
        """The posts from the last one that the state knows on, or all."""
        if self.state is None:
            return self.posts
        return self.posts.iloc[_row_of(self.state, self.posts) :].reset_index(drop=True)

    @property
    def state_data(self) -> bytes | None:
        """The state as `predict` takes it."""
        return None if self.state is None else self.state.data

    @property
    def origin_at(self) -> datetime:
        """The time of the last post up to the moment, UTC."""
        time: datetime = self.posts["created_at"].iloc[-1].to_pydatetime()
        return time

    @cached_property
    def is_stale(self) -> bool:
        """Whether no post came for unusually long before the moment."""
        freshness = measure_freshness(self.posts["created_at"], self.at)
        return freshness is not None and freshness.is_stale

    def origins(self, *times: datetime, target_time: datetime | None = None) -> Origins:
        """Return the origins at these times, which know the same posts."""
        target = None if target_time is None else np.array([_utc(target_time)])
        return Origins(np.array([*map(_utc, times)]), np.full(len(times), len(self.recent) - 1), target)

    def warn_if_trained_later(self, version: ModelVersion) -> None:
        """Warn if the version has learned from posts that are later than the moment."""
        through = version.trained_through if version.refit is None else version.refit.through
        if through > self.at:
            log.warning(
                "%s was trained on posts up to %s, which were not known at %s",
                version.version_id,
                format_time(through),
                format_time(self.at),
            )


def _row_of(state: ForecastState, posts: pd.DataFrame) -> int | None:
    """Return the row of the last post that a state knows; None if it is not one of some posts."""
    same = (posts["created_at"] == pd.Timestamp(state.through)) & (posts["post_id"] == state.through_post_id)
    rows = np.flatnonzero(same)
    return int(rows[0]) if len(rows) else None


def _utc(time: datetime) -> np.datetime64:
    return np.datetime64(time.replace(tzinfo=None), "us")

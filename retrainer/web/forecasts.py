"""The forecast of the next post for a page: of a free algorithm, made in the background, cached until another post."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.errors import RetrainerError
from retrainer.pipeline.forecast import predict_next
from retrainer.pipeline.loading import is_paid

if TYPE_CHECKING:
    from datetime import datetime

    from retrainer.pipeline.forecast import NextPost
    from retrainer.posts.freshness import PostsActivity
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion
    from retrainer.runtime import Runtime
    from retrainer.web.background import Background

MAX_AGE_SECONDS = 600.0  # of a forecast: the silence since the last post becomes longer


@dataclass(frozen=True)
class Upcoming:
    """The forecast of the next post, or why there is none.

    Attributes:
        forecast: None if there is none.
        paid_algorithm: the one because of whose price there is none; None if there is another reason.
        is_pending: whether it is being made.
        problem: why it cannot be made; empty if it can.
    """

    forecast: NextPost | None = None
    paid_algorithm: str | None = None
    is_pending: bool = False
    problem: str = ""


def forecast_next(project: Project, runtime: Runtime, version: ModelVersion, now: datetime) -> Upcoming:
    """Forecast the next post with the production version, unless it costs money.

    A content forecast is made for the time that production timing forecasts, so that both must be free.
    """
    try:
        asked = [version]
        if version.model_type_name == "content" and (timing := project.registry.get_production("timing")) is not None:
            asked.append(timing)
        for one in asked:
            if is_paid(runtime, one):
                return Upcoming(paid_algorithm=one.algorithm)
        return Upcoming(predict_next(project, runtime, version.model_type_name, now))
    except RetrainerError as error:
        return Upcoming(problem=str(error))


@dataclass(frozen=True)
class Forecasts:
    """Forecasts for the pages of one server, cached by the last post."""

    runtime: Runtime
    background: Background

    def get(self, project: Project, version: ModelVersion, posts: PostsActivity, now: datetime) -> Upcoming:
        """Return the forecast with the production version, which may be ten minutes old, if there is one by now.

        Args:
            project: the project seen from the stream.
            version: the production version.
            posts: how many posts there are, and which one is the newest.
        """
        newest = posts.freshness.newest_at if posts.freshness else None
        key = ("next post", version.fit, newest, posts.count)

        def compute() -> Upcoming:
            return forecast_next(project, self.runtime, version, now)

        return self.background.get(key, compute, max_age=MAX_AGE_SECONDS) or Upcoming(is_pending=True)

"""The forecast that production is for: the next post, from now."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from retrainer.errors import InsufficientData, NothingInProduction
from retrainer.model_types.base import Origins
from retrainer.model_types.timing import HORIZONS_HOURS, INTERVAL_LEVEL
from retrainer.pipeline.evaluations import train_naive_model
from retrainer.pipeline.loading import load_version
from retrainer.pipeline.split import load_posts

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NextPost:
    """A forecast of the next post by the production version.

    Attributes:
        made_at: when the forecast was made, UTC.
        last_post_at: the last post known to it.
        next_post_at: timing: the point forecast; content: the moment that the text is written for.
        point_hours, median_hours: timing: the wait from `made_at`.
        interval_hours: timing: the ends of the interval that holds the next post with probability `interval_level`.
        probability: timing: that of a post within 6, 12, 24 hours, by these numbers.
        text, outcome, tokens, cost_usd: content.
    """

    model_type: ModelTypeName
    version_id: str
    made_at: datetime
    last_post_at: datetime
    next_post_at: datetime
    point_hours: float | None = None
    median_hours: float | None = None
    interval_level: float | None = None
    interval_hours: tuple[float, float] | None = None
    probability: dict[int, float] | None = None
    text: str | None = None
    outcome: str | None = None
    tokens: int | None = None
    cost_usd: float | None = None


def predict_next(
    project: Project, model_type: ModelTypeName, now: datetime, interval_level: float = INTERVAL_LEVEL
) -> NextPost:
    """Let production forecast the next post from now, knowing all posts and the silence since the last one.

    Content is written for the moment that the production timing model expects (its median); where no timing version
    is in production, the naive forecast's.

    Args:
        interval_level: timing: of the interval, from 0.02 to 0.98.

    Raises:
        NothingInProduction: there is no production version.
        InsufficientData: there is no post.
        ArtifactError, AlgorithmError: production cannot be loaded, or cannot forecast.
    """
    version = _production(project, model_type)
    if model_type == "timing":
        return _next_timing(project, version, now, interval_level)
    return _next_content(project, version, now, now + timedelta(hours=_median_wait(project, now)))


def _next_timing(
    project: Project, version: ModelVersion, now: datetime, interval_level: float = INTERVAL_LEVEL
) -> NextPost:
    ready = load_version(project, version)
    posts = _require_posts(project, "timing", now)
    _warn_of_staleness(posts, now)
    forecast = ready.predict(posts, _origin(posts, now, None))
    point, median = float(forecast.point[0]), float(forecast.median[0])
    low, high = forecast.interval(interval_level)
    return NextPost(
        model_type="timing",
        version_id=version.version_id,
        made_at=now,
        last_post_at=posts["created_at"].iloc[-1].to_pydatetime(),
        next_post_at=now + timedelta(hours=point),
        point_hours=point,
        median_hours=median,
        interval_level=interval_level,
        interval_hours=(float(low[0]), float(high[0])),
        probability={hours: float(forecast.probability_within(hours)[0]) for hours in HORIZONS_HOURS},
    )


def _median_wait(project: Project, now: datetime) -> float:
    version = project.registry.get_production("timing")
    if version is not None:
        return _next_timing(project, version, now).median_hours or 0.0
    posts = _require_posts(project, "timing", now)
    if len(posts) < 2:  # noqa: PLR2004  one post has no gap to learn from
        return 0.0
    forecast = train_naive_model("timing", posts).predict(posts, _origin(posts, now, None))
    return float(forecast.median[0])


def _next_content(project: Project, version: ModelVersion, now: datetime, at: datetime) -> NextPost:
    ready = load_version(project, version)
    ready.algorithm.check_ready(ready.options)
    posts = _require_posts(project, "content", now)
    (forecast,) = ready.predict(posts, _origin(posts, now, at))
    return NextPost(
        model_type="content",
        version_id=version.version_id,
        made_at=now,
        last_post_at=posts["created_at"].iloc[-1].to_pydatetime(),
        next_post_at=at,
        text=forecast.text,
        outcome=forecast.outcome,
        tokens=forecast.input_tokens + forecast.output_tokens,
        cost_usd=forecast.cost_usd,
    )


def _production(project: Project, model_type: ModelTypeName) -> ModelVersion:
    version = project.registry.get_production(model_type)
    if version is None:
        raise NothingInProduction(
            f"no {model_type} version is in production", hint=f"Train one with `retrainer train {model_type}`"
        )
    return version


def _require_posts(project: Project, model_type: ModelTypeName, now: datetime) -> pd.DataFrame:
    posts = load_posts(project, model_type, now)
    if posts.empty:
        raise InsufficientData(
            f"no post to forecast from: {project.posts.location} is empty", hint="Import posts first"
        )
    return posts


def _warn_of_staleness(posts: pd.DataFrame, now: datetime) -> None:
    """Say so when the stream has been silent for longer than ever: then posts are missing, or it has ended."""
    silence = now - posts["created_at"].iloc[-1].to_pydatetime()
    longest = posts["created_at"].diff().max()
    if silence > longest:  # not so where there is one post alone, whose gap is no time
        log.warning(
            "The last post is %.1f days old, and no silence before was longer than %.1f days: are newer posts missing?",
            silence.total_seconds() / 86_400,
            longest.total_seconds() / 86_400,
        )


def _origin(posts: pd.DataFrame, now: datetime, at: datetime | None) -> Origins:
    def utc(value: datetime) -> np.datetime64:
        return np.datetime64(value.replace(tzinfo=None), "us")

    target = None if at is None else np.array([utc(at)])
    return Origins(np.array([utc(now)]), np.array([len(posts) - 1]), target)

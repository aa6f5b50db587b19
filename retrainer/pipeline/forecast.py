"""Forecast the next post with the production version."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from retrainer.errors import InsufficientData, NothingInProduction
from retrainer.model_types.base import Origins
from retrainer.model_types.timing import HORIZONS_HOURS, INTERVAL_LEVEL
from retrainer.pipeline.loading import load_live_fit, train_naive_model
from retrainer.pipeline.simulation import Simulation, check_horizon, simulate
from retrainer.pipeline.split import load_posts

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NextPost:
    """A forecast of the next post by the production version.

    Attributes:
        made_at: when the forecast was made, UTC.
        last_post_at: the time of the last known post, UTC.
        next_post_at: timing: the point forecast; content: the time for which the text was written. UTC.
        point_hours: timing: the point forecast of the wait from `made_at`.
        median_hours: timing: the median of the wait.
        interval_level: timing: the probability that the interval covers the wait.
        interval_hours: timing: the central interval of the wait.
        probability: timing: the probability of a post within 6, 12 and 24 hours, by hours.
        simulation: timing: the posts of several days or the next few, if they were asked for.
        text: content: the text; None without one.
        outcome: content: `ok`, or why there is no text.
        tokens: content: tokens read and written.
        cost_usd: content: what the forecast cost, in US dollars.
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
    simulation: Simulation | None = None
    text: str | None = None
    outcome: str | None = None
    tokens: int | None = None
    cost_usd: float | None = None


def predict_next(
    project: Project,
    runtime: Runtime,
    model_type: ModelTypeName,
    now: datetime,
    interval_level: float = INTERVAL_LEVEL,
    *,
    until: datetime | None = None,
    next_posts: int | None = None,
) -> NextPost:
    """Forecast the next post from now, given all posts and the time since the last one.

    A content forecast is written for the median forecast of the production timing version or, if there is none, of the
    naive forecast.

    Args:
        interval_level: timing: the level of the intervals, 0.02 to 0.98.
        until: timing: also simulate the posts up to this time, at most 31 days ahead.
        next_posts: timing: also simulate this many posts.

    Raises:
        UsageError: `until` is past or too far ahead, or the algorithm forecasts the next post only.
        NothingInProduction: there is no production version.
        InsufficientData: there are no posts.
        ArtifactError, AlgorithmError: the production version cannot be loaded or cannot forecast.
    """
    check_horizon(now, until, next_posts)
    version = project.registry.get_production(model_type)
    if version is None:
        raise NothingInProduction(
            f"no {model_type} version is in production", hint=f"Train one with `retrainer train {model_type}`"
        )
    if model_type == "timing":
        return _next_timing(project, runtime, version, now, interval_level, until=until, next_posts=next_posts)
    target_time = now + timedelta(hours=_median_wait(project, runtime, now))
    return _next_content(project, runtime, version, now, target_time)


def _next_timing(
    project: Project,
    runtime: Runtime,
    version: ModelVersion,
    now: datetime,
    interval_level: float = INTERVAL_LEVEL,
    *,
    until: datetime | None = None,
    next_posts: int | None = None,
) -> NextPost:
    model = load_live_fit(project, runtime, version)
    posts = _require_posts(project, "timing", now)
    _warn_if_stale(posts, now)
    origin = _origin(posts, now)
    simulation = None
    if until is not None or next_posts is not None:
        simulation = simulate(model, posts, origin, now, until=until, next_posts=next_posts, level=interval_level)
    forecast = model.predict(posts, origin)
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
        simulation=simulation,
    )


def _median_wait(project: Project, runtime: Runtime, now: datetime) -> float:
    version = project.registry.get_production("timing")
    if version is not None:
        return _next_timing(project, runtime, version, now).median_hours or 0.0
    posts = _require_posts(project, "timing", now)
    if len(posts) < 2:  # noqa: PLR2004  a single post has no gap to learn from
        return 0.0
    forecast = train_naive_model(runtime, "timing", posts).predict(posts, _origin(posts, now))
    return float(forecast.median[0])


def _next_content(
    project: Project, runtime: Runtime, version: ModelVersion, now: datetime, target_time: datetime
) -> NextPost:
    model = load_live_fit(project, runtime, version)
    model.algorithm.check_ready(model.options)
    posts = _require_posts(project, "content", now)
    (forecast,) = model.predict(posts, _origin(posts, now, target_time))
    return NextPost(
        model_type="content",
        version_id=version.version_id,
        made_at=now,
        last_post_at=posts["created_at"].iloc[-1].to_pydatetime(),
        next_post_at=target_time,
        text=forecast.text,
        outcome=forecast.outcome,
        tokens=forecast.input_tokens + forecast.output_tokens,
        cost_usd=forecast.cost_usd,
    )


def _require_posts(project: Project, model_type: ModelTypeName, now: datetime) -> pd.DataFrame:
    posts = load_posts(project, model_type, now)
    if posts.empty:
        raise InsufficientData(
            f"no posts to forecast from: {project.posts.location} is empty", hint="Import posts first"
        )
    return posts


def _warn_if_stale(posts: pd.DataFrame, now: datetime) -> None:
    """Warn if the stream has never been silent for so long: posts may be missing."""
    silence = now - posts["created_at"].iloc[-1].to_pydatetime()
    longest = posts["created_at"].diff().max()
    if silence > longest:  # false for a single post, which has no gap
        log.warning(
            "The last post is %.1f days old, and no earlier gap was longer than %.1f days: are newer posts missing?",
            silence.total_seconds() / 86_400,
            longest.total_seconds() / 86_400,
        )


def _origin(posts: pd.DataFrame, now: datetime, target_time: datetime | None = None) -> Origins:
    def utc(time: datetime) -> np.datetime64:
        return np.datetime64(time.replace(tzinfo=None), "us")

    target = None if target_time is None else np.array([utc(target_time)])
    return Origins(np.array([utc(now)]), np.array([len(posts) - 1]), target)

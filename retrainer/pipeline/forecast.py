"""Forecast the next post with the production version, or with the challenger of an A/B test."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from retrainer.errors import (
    AlgorithmError,
    ArtifactError,
    DatabaseError,
    MissingCredentials,
    NothingInProduction,
    UnknownName,
    UsageError,
)
from retrainer.model_types.expected_score import MAX_POSTS, ExpectedScore, expect_score
from retrainer.model_types.timing import HORIZONS_HOURS, INTERVAL_LEVEL, TimingForecasts
from retrainer.pipeline.loading import find_state, is_paid, load_live_fit, train_naive_model
from retrainer.pipeline.moment import Moment
from retrainer.pipeline.score_history import load_score_history
from retrainer.pipeline.simulation import Simulation, check_next_posts, resolve_horizon, simulate
from retrainer.registry.ab_tests import assign
from retrainer.registry.budgets import SharedBudget
from retrainer.registry.live_tables import LiveForecast
from retrainer.streams import of_stream, stream_argument
from retrainer.times import format_time

if TYPE_CHECKING:
    from datetime import datetime

    from retrainer.algorithms.budget import Budget
    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.content import ContentForecast
    from retrainer.pipeline.moment import At
    from retrainer.project import Project
    from retrainer.registry.budgets import TestSide
    from retrainer.registry.live_tables import ABTest
    from retrainer.registry.tables import ModelVersion
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NextPost:
    """A forecast of the next post.

    Attributes:
        made_at: when the forecast was made, UTC.
        at: the moment asked about, UTC: the forecast knows the posts up to it, and that none came since the last of
            them.
        origin_at: the time of the last post up to `at`, on which the forecast stands, UTC.
        last_post_at: the time of the last post known when the forecast was made, UTC; content: of the last with a text.
        stale: whether the time from `origin_at` to `at` is unusually long: newer posts may be missing.
        next_post_at: timing: the point forecast; content: the time for which the text was written. UTC.
        point_hours: timing: the point forecast of the wait from `at`, which is expected to score best.
        median_hours: timing: the median of the wait.
        interval_level: timing: the probability that the interval covers the wait.
        interval_hours: timing: the central interval of the wait.
        quantiles_hours: timing: the 99 quantiles of the wait.
        probability: timing: the probability of a post within 6, 12 and 24 hours, by hours.
        simulation: timing: the posts of several days or the next few, if they were asked for.
        as_of_last_post: timing: the forecast at `origin_at`, if the posts are stale and no moment was asked about.
        text: content: the text; None without one.
        outcome: content: `ok`, or why there is no text.
        tokens: content: tokens read and written.
        cost_usd: content: what the forecast cost, in US dollars.
        expected_score: content: the interval in which the score of the text is expected, by the version's scores on
            earlier posts; None without a text, with too few of them, or if the latest ones have not been scored.
        agreement: content: of the samples from which the text was chosen, 0 to 1; None without samples.
        side: the side of the running A/B test that answers the caller; None without a subject or a test.
    """

    model_type: ModelTypeName
    version_id: str
    made_at: datetime
    at: datetime
    origin_at: datetime
    last_post_at: datetime
    stale: bool
    next_post_at: datetime
    point_hours: float | None = None
    median_hours: float | None = None
    interval_level: float | None = None
    interval_hours: tuple[float, float] | None = None
    quantiles_hours: tuple[float, ...] | None = None
    probability: dict[int, float] | None = None
    simulation: Simulation | None = None
    as_of_last_post: NextPost | None = None
    text: str | None = None
    outcome: str | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    expected_score: ExpectedScore | None = None
    agreement: float | None = None
    side: TestSide | None = None


class Answering(NamedTuple):
    """Who answers a caller.

    Attributes:
        version: the version; None if nothing is in production.
        side: its side of the running A/B test; None without a subject or a test.
        test: that test.
    """

    version: ModelVersion | None
    side: TestSide | None = None
    test: ABTest | None = None


def choose_version(project: Project, model_type: ModelTypeName, subject: str | None = None) -> Answering:
    """Return the version that answers a caller, and its side of the running A/B test, if any.

    Args:
        subject: who asks; the same side of a test answers the same subject. Without one, production answers.
    """
    version = project.registry.get_production(model_type)
    if subject is None or version is None:
        return Answering(version)
    test = project.registry.get_running_test(model_type)
    if test is None:
        return Answering(version)
    side = assign(test, subject)
    return Answering(version if side == "production" else project.registry.get_version(test.challenger_id), side, test)


def predict_next(
    project: Project,
    runtime: Runtime,
    model_type: ModelTypeName,
    now: datetime,
    interval_level: float = INTERVAL_LEVEL,
    *,
    at: At = None,
    until: datetime | timedelta | None = None,
    next_posts: int | None = None,
    subject: str | None = None,
) -> NextPost:
    """Forecast the next post, given the posts up to a moment and the silence since the last of them.

    A content forecast is written for the median forecast of the production timing version or, if there is none, of the
    naive forecast.

    Args:
        interval_level: timing: the level of the intervals, 0.02 to 0.98.
        at: the moment, not later than now; `last` for the time of the last post; None for now.
        until: timing: also simulate the posts up to this time, or for so long, at most 31 days.
        next_posts: timing: also simulate this many posts.
        subject: who asks, which chooses the side of a running A/B test; see `choose_version`.

    Raises:
        UsageError: `at` is in the future or before the first post, `until` is not after it or too far ahead, or the
            algorithm forecasts the next post only.
        NothingInProduction: there is no production version.
        InsufficientData: there are no posts.
        ArtifactError, AlgorithmError: the production version cannot be loaded or cannot forecast.
    """
    check_next_posts(next_posts)
    if at != "last":
        if at is not None and at > now:
            raise UsageError(
                f"at: '{format_time(at)}' is in the future", hint="Choose a past time; `until` forecasts days ahead"
            )
        resolve_horizon(at or now, until)
    version, side, test = choose_version(project, model_type, subject)
    if version is None:
        several = len(project.list_streams()) > 1
        argument = stream_argument(project.stream, several=several)
        hint = f"Train one with `retrainer train {model_type}{argument}`"
        if project.registry.list_versions(model_type, 1):
            hint += f", or promote one: `retrainer promote {model_type}@latest{argument}`"
        of = of_stream(project.stream, several=several)
        raise NothingInProduction(f"no {model_type} version{of} is in production", hint=hint)
    if side == "challenger" and test is not None:
        try:
            found = _of_challenger(project, runtime, version, test, now, interval_level, at, until, next_posts)
        except (AlgorithmError, ArtifactError, MissingCredentials, UnknownName) as error:
            log.warning("The challenger '%s' cannot forecast, so production answers: %s", version.version_id, error)
            found = None
        if found is not None:
            return replace(found, side=side)
        side, version = "production", project.registry.get_production(model_type) or version
    if model_type == "timing":
        next_post = _next_timing(
            project, runtime, version, now, interval_level, at=at, until=until, next_posts=next_posts
        )
    else:
        next_post = _next_content(project, runtime, version, now, at)
    return replace(next_post, side=side)


def _of_challenger(
    project: Project,
    runtime: Runtime,
    version: ModelVersion,
    test: ABTest,
    now: datetime,
    interval_level: float,
    at: At,
    until: datetime | timedelta | None,
    next_posts: int | None,
) -> NextPost | None:
    """Return the forecast of a challenger; None if what its paid forecasts may cost is used up."""
    if version.model_type_name == "timing":
        return _next_timing(project, runtime, version, now, interval_level, at=at, until=until, next_posts=next_posts)
    if is_paid(runtime, version):
        return _challenger_content(project, runtime, version, test, now, at)
    return _next_content(project, runtime, version, now, at)


def _next_timing(
    project: Project,
    runtime: Runtime,
    version: ModelVersion,
    now: datetime,
    interval_level: float,
    *,
    at: At,
    until: datetime | timedelta | None,
    next_posts: int | None,
) -> NextPost:
    model = load_live_fit(project, runtime, version)
    moment = Moment.find(project, "timing", now, at, find_state(project, version, model.algorithm))
    moment.warn_if_trained_later(version)
    end = resolve_horizon(moment.at, until)
    simulation = None
    if end is not None or next_posts is not None:
        simulation = simulate(
            model,
            moment.recent,
            moment.origins(moment.at),
            moment.at,
            until=end,
            next_posts=next_posts,
            level=interval_level,
            state=moment.state_data,
        )
    wants_both = at is None and moment.is_stale
    times = [moment.origin_at, moment.at] if wants_both else [moment.at]
    forecasts = model.predict(moment.recent, moment.origins(*times), state=moment.state_data)
    *as_of_last_post, next_post = (
        _timing(moment, version, forecasts, row, time, interval_level) for row, time in enumerate(times)
    )
    return replace(next_post, simulation=simulation, as_of_last_post=as_of_last_post[0] if as_of_last_post else None)


def _timing(
    moment: Moment, version: ModelVersion, forecasts: TimingForecasts, row: int, at: datetime, level: float
) -> NextPost:
    """Return one of the forecasts, made at a time."""
    forecast = TimingForecasts(forecasts.quantiles[row : row + 1], forecasts.point[row : row + 1])
    low, high = forecast.interval(level)
    point = float(forecast.point[0])
    return replace(
        _new_forecast(moment, version, at + timedelta(hours=point)),
        at=at,
        stale=moment.is_stale and at == moment.at,
        point_hours=point,
        median_hours=float(forecast.median[0]),
        interval_level=level,
        interval_hours=(float(low[0]), float(high[0])),
        quantiles_hours=tuple(forecast.quantiles[0].tolist()),
        probability={hours: float(forecast.probability_within(hours)[0]) for hours in HORIZONS_HOURS},
    )


def _median_wait(project: Project, runtime: Runtime, moment: Moment) -> float:
    """Return the median of the wait at a moment, in hours."""
    version = project.registry.get_production("timing")
    if version is not None:
        moment.warn_if_trained_later(version)
        model = load_live_fit(project, runtime, version)
    elif len(moment.posts) > 1:
        model = train_naive_model(runtime, "timing", moment.posts)
    else:
        return 0.0  # a single post has no gap to learn from
    return float(model.predict(moment.posts, moment.origins(moment.at)).median[0])


def _challenger_content(
    project: Project, runtime: Runtime, version: ModelVersion, test: ABTest, now: datetime, at: At
) -> NextPost | None:
    """Forecast by a paid challenger within the cost of its side of the test; None if that is used up."""
    with runtime.open_budget(SharedBudget.of_test(project.registry.database, test.test_id, "challenger")) as budget:
        try:
            found = _next_content(project, runtime, version, now, at, budget)
        except AlgorithmError:
            if not budget.exceeded:
                raise
        else:
            if not budget.exceeded:
                return found
        log.warning("Production answers instead of the challenger: %s", budget.exceeded)
        return None


def _next_content(
    project: Project, runtime: Runtime, version: ModelVersion, now: datetime, at: At, budget: Budget | None = None
) -> NextPost:
    model = load_live_fit(project, runtime, version)
    model.algorithm.check_ready(model.options)
    stream = Moment.find(project, "timing", now, at)  # also posts without a text
    texts = Moment.find(project, "content", now, stream.at)
    texts.warn_if_trained_later(version)
    target_time = stream.at + timedelta(hours=_median_wait(project, runtime, stream))
    (forecast,) = model.predict(texts.posts, texts.origins(texts.at, target_time=target_time), budget)
    if model.algorithm.description.paid and at is None and not (budget is not None and budget.exceeded):
        _keep(project, version, texts, target_time, forecast)
    return replace(
        _new_forecast(stream, version, target_time),
        last_post_at=texts.last_post_at,
        text=forecast.text,
        outcome=forecast.outcome,
        tokens=forecast.input_tokens + forecast.output_tokens,
        cost_usd=forecast.cost_usd,
        expected_score=None if forecast.outcome != "ok" else _expect_score(project, version, texts),
        agreement=forecast.agreement,
    )


def _expect_score(project: Project, version: ModelVersion, texts: Moment) -> ExpectedScore | None:
    """Return the interval of the score that a forecast at a moment is expected to reach, by the posts known then.

    If none of the latest posts has been scored, there is none: the stream may have changed since.
    """
    held_out = texts.posts["post_id"][texts.posts["created_at"] >= version.trained_through].tolist()
    history = load_score_history(project, version, texts.at).only(set(held_out))
    if not history.posts or history.posts[-1].post_id not in held_out[-MAX_POSTS:]:
        return None
    return expect_score(history.scores)


def _keep(
    project: Project, version: ModelVersion, texts: Moment, target_time: datetime, forecast: ContentForecast
) -> None:
    """Keep a forecast of what comes after now that was paid for, so that it can be scored when it has come."""
    try:
        project.registry.keep_forecast(
            LiveForecast(
                model_type="content",
                version_id=version.version_id,
                fit=version.fit,
                last_post_id=str(texts.posts["post_id"].iloc[-1]),
                last_post_at=texts.last_post_at,
                made_at=texts.now,
                target_time=target_time,
                forecast=asdict(forecast),
            )
        )
    except DatabaseError as error:
        log.warning("Cannot store the forecast, so it will not be scored: %s", error)


def _new_forecast(moment: Moment, version: ModelVersion, next_post_at: datetime) -> NextPost:
    """Return what is the same in a forecast of either model type."""
    return NextPost(
        version.model_type_name,
        version.version_id,
        moment.now,
        moment.at,
        moment.origin_at,
        moment.last_post_at,
        moment.is_stale,
        next_post_at,
    )

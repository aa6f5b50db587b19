"""Warn when posts have stopped arriving, and publish it once."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from retrainer.algorithms.events import Event
from retrainer.errors import RetrainerError
from retrainer.times import format_hours

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.posts.freshness import Freshness
    from retrainer.project import Project
    from retrainer.registry.tables import TrainingRun
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)

_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class StalePosts:
    """Posts that have stopped arriving.

    Attributes:
        since: the time of the newest post.
        reason: how that is known, a sentence.
    """

    since: datetime
    reason: str


def find_stale_posts(
    project: Project, model_types: Sequence[ModelTypeName], now: datetime, last_run_at: datetime | None = None
) -> StalePosts | None:
    """Return whether posts have stopped arriving, before model types are trained on them.

    They have if the posts are stale, or if none has arrived since the last run of one of the types.

    Args:
        model_types: the types that are about to be trained, if any.
        last_run_at: the start of the last completed runs, if it is known: they are not looked up if posts came since.
    """
    try:
        freshness = project.posts.freshness(now)
        some_came = freshness is not None and last_run_at is not None and freshness.newest_at > last_run_at
        reason = None if freshness is None else _explain(project, freshness, () if some_came else model_types, now)
    except RetrainerError as error:  # the runs will report it
        log.debug("Cannot tell whether the posts are stale: %s", error)
        return None
    return None if freshness is None or reason is None else StalePosts(freshness.newest_at, reason)


def report_stale_posts(
    project: Project, runtime: Runtime, stale: StalePosts, *, record: bool = True, first_only: bool = False
) -> bool:
    """Warn of stale posts. The first time that it is noticed, publish `stale_posts`; not again before another post.

    Args:
        stale: what `find_stale_posts` found.
        record: whether to publish the event, and to record that.
        first_only: whether to warn the first time only.

    Returns:
        Whether it is the first time.
    """
    is_first = record and project.registry.record_silence(project.stream, stale.since)
    if is_first or not first_only:
        log.warning("%s", stale.reason)
    if is_first:
        runtime.events.publish(Event("stale_posts", None, None, stale.reason, stream=project.stream))
    return is_first


def count_new_posts(project: Project, run: TrainingRun, now: datetime) -> int:
    """Count the posts that a run did not have.

    That is the number of posts later than the run, or the increase in the total if it is larger: posts may be imported
    late, and old ones may be deleted.
    """

    def usable(until: datetime) -> int:
        return project.posts.count(until, with_content=run.model_type == "content")

    total, previous_total = usable(now), (run.num_training_samples or 0) + (run.num_test_samples or 0)
    return max(total - previous_total, total - usable(run.started_at))


def describe_staleness(freshness: Freshness) -> str | None:
    """Return why posts are stale; None if they are not."""
    if freshness.usual_gap is None or not freshness.is_stale:
        return None
    age, usual = format_hours(freshness.silence / _HOUR), format_hours(freshness.usual_gap / _HOUR)
    newest = f"{freshness.newest_at:%Y-%m-%d %H:%M} UTC"
    return f"the posts are stale: the newest is {age} old ({newest}); the longest usual gap is {usual}"


def _explain(project: Project, freshness: Freshness, model_types: Sequence[ModelTypeName], now: datetime) -> str | None:
    staleness = describe_staleness(freshness)
    if staleness is not None:
        return staleness[0].upper() + staleness[1:]
    for model_type in model_types:
        last = project.registry.get_last_completed_run(model_type)
        if last is not None and freshness.newest_at <= last.started_at and not count_new_posts(project, last, now):
            return (
                f"No post has arrived since the last {model_type} run ({last.started_at:%Y-%m-%d %H:%M} UTC); "
                f"the newest is from {freshness.newest_at:%Y-%m-%d %H:%M} UTC"
            )
    return None

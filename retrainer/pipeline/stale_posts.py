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
        reason: why they are stale.
        first_only: whether to warn the first time only, since no type is trained.
    """

    since: datetime
    reason: str
    first_only: bool


def find_stale_posts(project: Project, model_types: Sequence[ModelTypeName], now: datetime) -> StalePosts | None:
    """Return whether the posts are stale, before model types are trained on them.

    They are if no post has arrived for longer than the longest usual gap, or if one of the types has no new post since
    its last run.

    Args:
        model_types: the types that are about to be trained, if any.
        now: the time, UTC.
    """
    try:
        freshness = project.posts.freshness(now)
        reason = None if freshness is None else _explain(project, freshness, model_types, now)
    except RetrainerError as error:  # the runs will report it
        log.debug("Cannot tell whether the posts are stale: %s", error)
        return None
    return None if freshness is None or reason is None else StalePosts(freshness.newest_at, reason, not model_types)


def report_stale_posts(project: Project, runtime: Runtime, stale: StalePosts, *, record: bool = True) -> None:
    """Warn of stale posts. The first time that it is noticed, publish `stale_posts`; not again before another post.

    Args:
        stale: what `find_stale_posts` found.
        record: whether to publish the event, and to record that.
    """
    is_first = record and project.registry.record_silence(project.stream, stale.since)
    if is_first or not stale.first_only:
        log.warning("The posts are stale: %s", stale.reason)
    if is_first:
        reason = stale.reason[0].upper() + stale.reason[1:]
        runtime.events.publish(Event("stale_posts", None, None, reason, stream=project.stream))


def count_new_posts(project: Project, run: TrainingRun, now: datetime) -> int:
    """Count the posts that a run did not have.

    That is the number of posts later than the run, or the increase in the total if it is larger: posts may be imported
    late, and old ones may be deleted.
    """

    def usable(until: datetime) -> int:
        summary = project.posts.summary(until, warn=False)  # or cron would mail the warning at every check
        return summary.count if run.model_type == "timing" else summary.with_content

    total, previous_total = usable(now), (run.num_training_samples or 0) + (run.num_test_samples or 0)
    return max(total - previous_total, total - usable(run.started_at))


def describe_silence(freshness: Freshness) -> str:
    """Describe a silence that is longer than usual."""
    usual = "unknown" if freshness.usual_gap is None else format_hours(freshness.usual_gap / _HOUR)
    return (
        f"the newest is {format_hours(freshness.silence / _HOUR)} old ({freshness.newest_at:%Y-%m-%d %H:%M} UTC); "
        f"the longest usual gap is {usual}"
    )


def _explain(project: Project, freshness: Freshness, model_types: Sequence[ModelTypeName], now: datetime) -> str | None:
    if freshness.is_stale:
        return describe_silence(freshness)
    for model_type in model_types:
        last = project.registry.get_last_completed_run(model_type)
        if last is not None and not count_new_posts(project, last, now):
            return (
                f"none has arrived since the last {model_type} run ({last.started_at:%Y-%m-%d %H:%M} UTC); "
                f"the newest is of {freshness.newest_at:%Y-%m-%d %H:%M} UTC"
            )
    return None

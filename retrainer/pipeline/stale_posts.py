"""Warn when posts have stopped arriving, and publish it once."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from retrainer.algorithms.events import Event
from retrainer.errors import RetrainerError
from retrainer.streams import DEFAULT_STREAM
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


def report_stale_posts(
    project: Project, runtime: Runtime, model_types: Sequence[ModelTypeName], now: datetime, *, record: bool = True
) -> None:
    """Warn if the posts are stale, before model types are trained on them.

    They are stale if no post has arrived for longer than the longest usual gap, or if one of the types has no new post
    since its last run. The first time that it is noticed, the event `stale_posts` is published; not again before
    another post has arrived.

    Args:
        model_types: the types that are about to be trained; if none, the warning is given the first time only.
        record: whether to publish the event, and to record that.
    """
    try:
        freshness = project.posts.freshness(now)
        if freshness is None:
            return
        reason = _explain(project, freshness, model_types, now)
        if reason is None:
            return
        is_first = record and project.registry.record_silence(DEFAULT_STREAM, freshness.newest_at)
    except RetrainerError as error:  # the runs will report it
        log.debug("Cannot tell whether the posts are stale: %s", error)
        return
    if is_first or model_types:
        log.warning("The posts are stale: %s", reason)
    if is_first:
        runtime.events.publish(Event("stale_posts", None, None, reason[0].upper() + reason[1:]))


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

"""Whether a model type is due to be retrained."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pandas as pd

from retrainer.pipeline.posts import load_latest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.tables import TrainingRun

log = logging.getLogger(__name__)

MOST_TOLERANCE = timedelta(hours=2)
TOLERANCE_SHARE = 0.1


@dataclass(frozen=True)
class Due:
    """Whether a model type is due, and why or why not."""

    model_type: ModelTypeName
    is_due: bool
    reason: str

    def __str__(self) -> str:
        return f"The {self.model_type} model is {'due' if self.is_due else 'not due'}: {self.reason}"


def tolerance(interval: timedelta) -> timedelta:
    """Return how much before its time a run is due already: a tenth of the interval, 2 hours at most.

    A job of every day at 03:00 must not find, a week after a run that began at 03:00:10, that ten seconds are missing,
    and so slip by a day each week. Two hours also cover the hour that clocks are set forward, and a job that waited its
    turn.
    """
    return min(MOST_TOLERANCE, interval * TOLERANCE_SHARE)


def due(project: Project, model_type: ModelTypeName, now: datetime) -> Due:
    """Say whether a model type is due: enough days since its last completed run began, or enough new posts.

    A run dated later than now, by a clock that was wrong, does not count; nor does one of `--as-of`.

    Args:
        now: the moment to judge from, UTC.
    """
    settings = project.settings.retraining
    if not settings.is_enabled(model_type):
        return Due(model_type, is_due=False, reason=f"{settings.disabling_key(model_type)} is false")
    interval = timedelta(days=settings.schedule_days)
    last = project.registry.last_completed(model_type, now + tolerance(interval))
    if last is None:
        return Due(model_type, is_due=True, reason="no run of it was completed yet")
    passed = now - last.started_at
    days = f"{max(passed, timedelta()) / timedelta(days=1):.1f}"
    since = f"days since the last completed run ({last.started_at:%Y-%m-%d %H:%M} UTC)"
    if passed >= interval - tolerance(interval):
        return Due(model_type, is_due=True, reason=f"{days} {since}, schedule_days is {settings.schedule_days:g}")
    if settings.min_new_posts is None:
        return Due(model_type, is_due=False, reason=f"{days} of {settings.schedule_days:g} {since}")
    count = new_posts(project, last, now)
    if count >= settings.min_new_posts:
        reason = f"{count} new posts since the last completed run, min_new_posts is {settings.min_new_posts}"
        return Due(model_type, is_due=True, reason=reason)
    posts = f"{count} of {settings.min_new_posts} new posts"
    return Due(model_type, is_due=False, reason=f"{posts}, and {days} of {settings.schedule_days:g} {since}")


def due_types(project: Project, model_types: Iterable[ModelTypeName], now: datetime) -> list[Due]:
    """Say of each model type whether it is due; one that is not is told on a terminal and in the log file only."""
    found = [due(project, model_type, now) for model_type in model_types]
    for one in found:
        log.info("%s", one, extra={"only_on_a_terminal": not one.is_due})
    return found


def new_posts(project: Project, last: TrainingRun, now: datetime) -> int:
    """Count the posts that a run did not know: later than it, or imported since with an earlier time.

    The second is known from how many there were, which says too little where old posts are deleted.
    """
    posts = load_latest(project, last.type_name, now)
    later = int((posts["created_at"] > pd.Timestamp(last.started_at)).sum())
    known = (last.num_training_samples or 0) + (last.num_test_samples or 0)
    return max(later, len(posts) - known)

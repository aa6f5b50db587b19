"""Whether a model type is due for a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from retrainer.pipeline.stale_posts import count_new_posts

if TYPE_CHECKING:
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project

# A daily crontab line does not start at the same second every day, and starts an hour early when the clocks go forward:
# a run at 03:00:10 a week ago must not delay the one at 03:00:05 by a day.
_TOLERANCE_SHARE = 0.06
_MAX_TOLERANCE = timedelta(minutes=90)


@dataclass(frozen=True)
class Due:
    """Whether a model type is due.

    Attributes:
        is_due: whether it should be trained now.
        why: the condition that holds, or how far off each condition is.
    """

    model_type: ModelTypeName
    is_due: bool
    why: str

    @property
    def sentence(self) -> str:
        """The state as a sentence."""
        return f"The {self.model_type} model is {'' if self.is_due else 'not '}due: {self.why}"


def next_due_at(project: Project, model_type: ModelTypeName) -> datetime | None:
    """Return when `schedule_days` will have passed since the last completed run; None if there is none."""
    last = project.registry.get_last_completed_run(model_type)
    return None if last is None else last.started_at + timedelta(days=project.settings.retraining.schedule_days)


def due(project: Project, model_type: ModelTypeName, now: datetime) -> Due:
    """Check whether a model type is due.

    It is due when `schedule_days` have passed since the start of its last completed run, with a tolerance of 6% (at
    most 90 minutes); when that run is dated in the future; or when `min_new_posts` new posts have arrived. Runs with
    `--as-of` do not count, and a failed run is retried at the next check. One run makes up for all that were missed.
    """
    settings = project.settings.retraining
    if not settings.is_enabled(model_type):
        return Due(model_type, False, f"retraining is disabled ({settings.disabling_key(model_type)} is false)")
    last = project.registry.get_last_completed_run(model_type)
    if last is None:
        return Due(model_type, True, "no run has completed yet")
    schedule = timedelta(days=settings.schedule_days)
    passed = now - last.started_at
    days = f"the last run was {passed / timedelta(days=1):.1f} days ago (schedule_days is {settings.schedule_days:g})"
    in_future = passed < -_MAX_TOLERANCE  # the clock was wrong then; waiting for that time could take years
    if in_future:
        days = f"the last run is dated {-passed / timedelta(days=1):.1f} days from now"
    if in_future or passed >= schedule - min(schedule * _TOLERANCE_SHARE, _MAX_TOLERANCE):
        return Due(model_type, True, days)
    if settings.min_new_posts is None:
        return Due(model_type, False, days)
    new = count_new_posts(project, last, now)
    posts = f"{new} new posts have arrived (min_new_posts is {settings.min_new_posts})"
    if new >= settings.min_new_posts:
        return Due(model_type, True, posts)
    return Due(model_type, False, f"{days}, {posts}")

"""When a model type is due for a run: the schedule is kept by looking, not by waiting."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.tables import TrainingRun

# A daily crontab line does not start at the same second every day, and comes an hour early when the clocks go forward:
# a run of 03:00:10 a week ago must not put off that of 03:00:05 by a day.
_TOLERANCE_SHARE = 0.06
_LONGEST_TOLERANCE = timedelta(minutes=90)


@dataclass(frozen=True)
class Due:
    """Whether a model type is due.

    Attributes:
        is_due: whether a run should be made now.
        why: which condition holds, or how far off each is.
    """

    model_type: ModelTypeName
    is_due: bool
    why: str

    @property
    def sentence(self) -> str:
        """The same for people."""
        return f"The {self.model_type} model is {'' if self.is_due else 'not '}due: {self.why}"


def due(project: Project, model_type: ModelTypeName, now: datetime) -> Due:
    """Look whether a model type is due.

    It is when `schedule_days` have passed since its last completed run began, give or take 6% of them (90 minutes
    at most), when that run is dated in the future, or when `min_new_posts` posts have come since. Runs of a past moment
    (`--as-of`) do not count, and a run that failed is tried again at the next look. A schedule that was missed is
    caught up by one run.
    """
    settings = project.settings.retraining
    if not settings.is_enabled(model_type):
        return Due(model_type, False, f"retraining is disabled ({settings.disabling_key(model_type)} is false)")
    last = project.registry.get_last_completed_run(model_type)
    if last is None:
        return Due(model_type, True, "no run has been completed yet")
    schedule = timedelta(days=settings.schedule_days)
    passed = now - last.started_at
    days = f"the last run was {passed / timedelta(days=1):.1f} days ago (schedule_days is {settings.schedule_days:g})"
    ahead = passed < -_LONGEST_TOLERANCE  # made while the clock was: the schedule would wait until it gets there
    if ahead:
        days = f"the last run is dated {-passed / timedelta(days=1):.1f} days from now"
    if ahead or passed >= schedule - min(schedule * _TOLERANCE_SHARE, _LONGEST_TOLERANCE):
        return Due(model_type, True, days)
    if settings.min_new_posts is None:
        return Due(model_type, False, days)
    new = _new_posts(project, last, now)
    posts = f"{new} new posts have come (min_new_posts is {settings.min_new_posts})"
    if new >= settings.min_new_posts:
        return Due(model_type, True, posts)
    return Due(model_type, False, f"{days}, {posts}")


def _new_posts(project: Project, last: TrainingRun, now: datetime) -> int:
    """Count the posts that a run had not yet.

    They are those later than the run, or the more there are than it had, whichever is more: posts may be imported late,
    and old ones may be deleted meanwhile.
    """

    def usable(until: datetime) -> int:
        summary = project.posts.summary(until, warn=False)  # cron would mail it though nothing is done
        return summary.count if last.model_type == "timing" else summary.with_content

    there, had = usable(now), (last.num_training_samples or 0) + (last.num_test_samples or 0)
    return max(there - had, there - usable(last.started_at))

"""Whether a model type is due for a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from retrainer.pipeline.stale_posts import count_new_posts
from retrainer.streams import ModelKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from retrainer.config import RetrainingSettings
    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.overviews import RunSummary

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
        return f"The {self.model_type} model is {'' if self.is_due else 'not '}due: {self.why}"


def next_due_at(project: Project, model_type: ModelTypeName) -> datetime | None:
    """Return when `schedule_days` will have passed since the last completed run; None if there is none."""
    last = project.registry.get_last_completed_run(model_type)
    return None if last is None else last.started_at + timedelta(days=project.settings.retraining.schedule_days)


def due(project: Project, model_type: ModelTypeName, now: datetime, *, look_for_drift: bool = True) -> Due:
    """Check whether a model type is due.

    It is due when `schedule_days` have passed since the start of its last completed run, with a tolerance of 6% (at
    most 90 minutes); when that run is dated in the future; when `min_new_posts` new posts have arrived; or, with
    `due_on_drift`, when the stream has changed and no run has completed since. Runs with `--as-of` do not count, and a
    failed run is retried at the next check. One run makes up for all that were missed.

    Args:
        look_for_drift: whether to read the posts if only drift can make it due.
    """
    settings = project.settings.retraining
    last = project.registry.get_last_completed_run(model_type) if settings.is_enabled(model_type) else None
    return _decide(
        settings,
        model_type,
        None if last is None else last.started_at,
        now,
        lambda: 0 if last is None else count_new_posts(project, last, now),
        partial(_find_drift, project, ModelKey(project.stream, model_type), now) if look_for_drift else None,
    )


def due_of_streams(
    project: Project,
    streams: Iterable[str],
    model_types: Sequence[ModelTypeName],
    now: datetime,
    last: Mapping[ModelKey, RunSummary],
    *,
    look_for_drift: bool = True,
) -> dict[ModelKey, Due]:
    """Check which models of streams are due, as `due` does, by a few queries whatever the number of streams.

    Args:
        last: the latest completed run of each model.
        look_for_drift: whether to read the posts of each model that only drift can make due.
    """
    new_posts = _NewPosts(project, now)
    found = {}
    for stream, settings in project.settings.for_streams(streams).items():
        for model_type in model_types:
            key = ModelKey(stream, model_type)
            run = last.get(key)
            found[key] = _decide(
                settings.retraining,
                model_type,
                None if run is None else run.started_at,
                now,
                partial(new_posts.count, key, run.posts if run is not None else 0),
                partial(_find_drift, project, key, now) if look_for_drift else None,
            )
    return found


class _NewPosts:
    """Counts the posts that the latest completed run of a model did not have, like `count_new_posts`."""

    def __init__(self, project: Project, now: datetime) -> None:
        self._project = project
        self._now = now
        self._later: dict[ModelTypeName, dict[str, int]] = {}
        self._totals: dict[ModelTypeName, dict[str, int]] = {}

    def count(self, key: ModelKey, posts_of_run: int) -> int:
        """Return the number of posts later than the run, or the increase in the total if it is larger."""
        stream, model_type = key
        if self._project.posts.is_foreign:  # in another database: a query for each
            own = self._project.for_stream(stream)
            run = own.registry.get_last_completed_run(model_type)
            return 0 if run is None else count_new_posts(own, run, self._now)
        if model_type not in self._later:
            registry = self._project.registry
            self._later[model_type] = registry.count_posts_since_last_runs(model_type, self._now)
            self._totals[model_type] = registry.count_posts(model_type, self._now)
        return max(self._later[model_type].get(stream, 0), self._totals[model_type].get(stream, 0) - posts_of_run)


def _decide(
    settings: RetrainingSettings,
    model_type: ModelTypeName,
    last: datetime | None,
    now: datetime,
    count_new: Callable[[], int],
    find_drift: Callable[[datetime], str | None] | None,
) -> Due:
    """Decide whether a model is due.

    Args:
        last: when its last completed run started.
        count_new: counts the posts that this run did not have.
        find_drift: describes how the stream has changed, if there was an alarm since a time; None to leave it open.
    """
    if not settings.is_enabled(model_type):
        return Due(model_type, False, f"retraining is disabled ({settings.disabling_key(model_type)} is false)")
    if last is None:
        return Due(model_type, True, "no run has completed yet")
    schedule = timedelta(days=settings.schedule_days)
    passed = now - last
    days = f"the last run was {passed / timedelta(days=1):.1f} days ago (schedule_days is {settings.schedule_days:g})"
    in_future = passed < -_MAX_TOLERANCE  # the clock was wrong then; waiting for that time could take years
    if in_future:
        days = f"the last run is dated {-passed / timedelta(days=1):.1f} days from now"
    if in_future or passed >= schedule - min(schedule * _TOLERANCE_SHARE, _MAX_TOLERANCE):
        return Due(model_type, True, days)
    why = [days]
    if settings.min_new_posts is not None:
        new = count_new()
        why.append(f"{new} new posts have arrived (min_new_posts is {settings.min_new_posts})")
        if new >= settings.min_new_posts:
            return Due(model_type, True, why[-1])
    if settings.due_on_drift and find_drift is not None:
        drift = find_drift(last)
        if drift is not None:
            return Due(model_type, True, f"{drift} (due_on_drift is true)")
        why.append("no new drift (due_on_drift is true)")
    return Due(model_type, False, ", ".join(why))


def _find_drift(project: Project, key: ModelKey, now: datetime, last: datetime) -> str | None:
    """Describe how a stream has changed, if there was an alarm of a kind that concerns the type since its last run.

    A completed run has had its chance: if its version was not promoted, the next one would not be either. A silence
    makes nothing due: there are no posts to learn from.

    Args:
        last: when the last completed run started.
    """
    if now.date() <= last.date():  # no day has been completed since
        return None
    from retrainer.live.drift import CONCERNS, can_alarm, measure_drift  # noqa: PLC0415  they import pandas

    own = project.for_stream(key.stream)
    if not can_alarm(own, key.model_type, now):
        return None
    alarms = [
        drift.sentence[0].lower() + drift.sentence[1:]
        for drift in measure_drift(own, key.model_type, now)
        if drift.kind in CONCERNS[key.model_type]
        and drift.since is not None
        and drift.since >= last.date()
        and drift.latest != 0
    ]
    return "; ".join(alarms) or None

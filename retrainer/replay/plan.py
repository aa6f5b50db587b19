"""The plan of a replay: when each policy takes its steps."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from retrainer.errors import InsufficientData, UsageError
from retrainer.evaluation.comparison import MIN_COMPARED_POSTS

if TYPE_CHECKING:
    from retrainer.replay.policies import Policy
    from retrainer.replay.sandbox import PostHistory

log = logging.getLogger(__name__)

MAX_STEPS = 20_000  # per policy: 54 years of daily steps


@dataclass(frozen=True)
class Step:
    """A time at which a policy may retrain, and the period that follows.

    Attributes:
        at: when it may retrain, UTC; the run knows the posts up to this time.
        until: the time of the next step, UTC; production forecasts the posts in between.
        review_until: the end of the posts by which the decision is reviewed, UTC: `until`, or later if too few posts
            came by then and enough of them come later. Always `until` for the first step, which decides nothing.
    """

    at: datetime
    until: datetime
    review_until: datetime


def resolve_span(history: PostHistory, start: datetime, end: datetime | None) -> tuple[datetime, datetime]:
    """Return start and end of a replay; the end defaults to the last post.

    Raises:
        InsufficientData: there are no posts.
        UsageError: the start is not before the end, or either lies outside the days that have posts.
    """
    if not len(history):
        raise InsufficientData(f"there are no posts in {history.location}", hint="Import posts first")
    if end is None and start >= history.last:
        raise UsageError(
            f"--from '{_day(start)}' is not before the last post ({_day(history.last)})",
            hint="Choose an earlier --from",
        )
    end = history.last if end is None else end
    if start >= end:
        raise UsageError(
            f"--from '{_day(start)}' is not before --to '{_day(end)}'",
            hint="Choose an earlier --from or a later --to",
        )
    first_day, day_after = _midnight(history.first), _midnight(history.last) + timedelta(days=1)
    for option, time in (("--from", start), ("--to", end)):
        if not first_day <= time <= day_after:
            raise UsageError(
                f"{option}: '{_day(time)}' lies outside the posts ({_day(history.first)} to {_day(history.last)})",
                hint="Choose a day in this range",
            )
    return start, end


def plan_steps(policy: Policy, history: PostHistory, start: datetime, end: datetime) -> list[Step]:
    """Return the steps of a policy, starting when there are enough posts.

    Raises:
        UsageError: there would be too many steps.
        InsufficientData: there are never enough posts.
    """
    settings = policy.settings.retraining
    interval = timedelta(days=settings.schedule_days)
    count = math.ceil((end - start) / interval) if interval else MAX_STEPS + 1
    if count > MAX_STEPS:
        raise UsageError(
            f"the policy '{policy.name}' would take {count} steps, more than {MAX_STEPS}",
            hint="Choose a longer schedule_days or a shorter period",
        )
    times = [start + number * interval for number in range(count)]
    enough = [time for time in times if history.count(time) >= settings.min_training_samples]
    if not enough:
        raise InsufficientData(
            f"the policy '{policy.name}' takes no step before {_day(end)}: fewer than "
            f"{settings.min_training_samples} posts (retraining.min_training_samples)",
            hint="Choose a later --to, or import more posts",
        )
    if len(enough) < count:
        log.warning(
            "'%s' starts on %s: before that there are fewer than %d posts",
            policy.name,
            _day(enough[0]),
            settings.min_training_samples,
        )
    pairs = zip(enough, [*enough[1:], end], strict=True)
    first, *others = [Step(at, until, _review_until(history, at, until, end)) for at, until in pairs]
    return [replace(first, review_until=first.until), *others]


def _review_until(history: PostHistory, at: datetime, until: datetime, end: datetime) -> datetime:
    row = history.count(at) + MIN_COMPARED_POSTS - 1
    return max(until, history.time_of(row)) if row < history.count(end) else until


def _midnight(time: datetime) -> datetime:
    return time.replace(hour=0, minute=0, second=0, microsecond=0)


def _day(time: datetime) -> str:
    return f"{time:%Y-%m-%d}"

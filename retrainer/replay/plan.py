"""The plan of a replay: which policy takes a step when, checked before anything is done."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from retrainer.errors import InsufficientData, UsageError
from retrainer.pipeline.comparing import MIN_COMPARED_POSTS

if TYPE_CHECKING:
    from retrainer.replay.policies import Policy
    from retrainer.replay.sandbox import PostHistory

log = logging.getLogger(__name__)

MOST_STEPS = 20_000  # of one policy; daily, that is 54 years


@dataclass(frozen=True)
class Step:
    """One moment at which a policy may retrain, and the time that follows.

    Attributes:
        at: the moment, UTC; the run knows the posts up to it.
        until: the next one; the posts after `at` and up to this are forecast by what is live then.
        review_until: up to when the posts are that judge the decision: `until` or, where fewer came by then than can be
            compared, the moment of the first post that makes enough of them; `until` too where they never come, and of
            the first step, at which there is nothing to decide between.
    """

    at: datetime
    until: datetime
    review_until: datetime


def resolve_span(past: PostHistory, start: datetime, end: datetime | None) -> tuple[datetime, datetime]:
    """Return from when to when a replay goes; without an end, to the last post.

    Raises:
        InsufficientData: there is no post.
        UsageError: the span is none, or lies outside of the days on which there are posts.
    """
    if not len(past):
        raise InsufficientData(f"there is no post in {past.location}", hint="Import posts first")
    end = past.last if end is None else end
    if start >= end:
        raise UsageError(
            f"--from '{_day(start)}' is not before --to '{_day(end)}': there is no step to take",
            hint="Name an earlier --from, or a later --to",
        )
    first_day, day_after = _midnight(past.first), _midnight(past.last) + timedelta(days=1)
    for option, moment in (("--from", start), ("--to", end)):
        if not first_day <= moment <= day_after:
            raise UsageError(
                f"{option}: '{_day(moment)}' lies outside of the posts, which go from {_day(past.first)} to "
                f"{_day(past.last)}",
                hint="Choose a day between these",
            )
    return start, end


def plan_steps(policy: Policy, past: PostHistory, start: datetime, end: datetime) -> list[Step]:
    """Return the steps of a policy, the first one at the first moment with enough posts.

    Raises:
        UsageError: there would be too many.
        InsufficientData: there are never enough posts.
    """
    settings = policy.settings.retraining
    every = timedelta(days=settings.schedule_days)
    count = math.ceil((end - start) / every) if every else MOST_STEPS + 1
    if count > MOST_STEPS:
        raise UsageError(
            f"the policy '{policy.name}' would take {count} steps, more than {MOST_STEPS}",
            hint="Choose a longer schedule_days, or a shorter time",
        )
    moments = [start + number * every for number in range(count)]
    enough = [moment for moment in moments if past.count(moment) >= settings.min_training_samples]
    if not enough:
        raise InsufficientData(
            f"the policy '{policy.name}' takes no step before {_day(end)}: there are never "
            f"{settings.min_training_samples} posts (retraining.min_training_samples)",
            hint="Choose a later --to, or bring in more posts",
        )
    if len(enough) < count:
        log.warning(
            "'%s' starts on %s: before, there are fewer than %d posts",
            policy.name,
            _day(enough[0]),
            settings.min_training_samples,
        )
    pairs = zip(enough, [*enough[1:], end], strict=True)
    first, *others = [Step(at, until, _look_until(past, at, until, end)) for at, until in pairs]
    return [replace(first, review_until=first.until), *others]


def _look_until(past: PostHistory, at: datetime, until: datetime, end: datetime) -> datetime:
    row = past.count(at) + MIN_COMPARED_POSTS - 1
    return max(until, past.time_of(row)) if row < past.count(end) else until


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"

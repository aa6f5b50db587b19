"""Whether the stream has changed since the live fit was trained on it, in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np

from retrainer.evaluation.drift import (
    DRIFT_KINDS,
    MIN_RATIO,
    MIN_TRAINING_DAYS,
    THRESHOLD,
    Change,
    Changes,
    DriftKind,
    fewest_days,
    find_shift,
    measure_changes,
)
from retrainer.model_types.base import utc_times
from retrainer.times import format_hours

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion

# The kinds of drift that make each model type due: a text does not change when the next post comes.
CONCERNS: dict[ModelTypeName, tuple[DriftKind, ...]] = {
    "timing": ("rate", "gaps", "hours"),
    "content": ("length", "no_text"),
}
_WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")
_PARTS = ("0:00 and 6:00", "6:00 and 12:00", "12:00 and 18:00", "18:00 and 24:00")


@dataclass(frozen=True)
class Drift:
    """How one kind of figure of the stream has changed since the posts that the live fit was trained on.

    Attributes:
        kind: `rate`, `gaps`, `hours` of the week, `length` of texts, or `no_text`, the share of posts without one.
        alarm: whether it has changed so that it matters.
        since: the day (UTC) of the alarm, which comes some weeks after the change; None without one.
        before: the figure on the training days: posts a day, the typical gap in hours (the geometric mean), characters,
            a share of posts; None for hours.
        latest: the same on the latest days.
        ratio: `latest` over `before`, for rate, gaps and length.
        shift_hours: by how many hours posts moved in the day, later is positive; None if that does not explain it.
        evidence: the e-detector's; it alarms at `threshold`. None with too few days.
        threshold: see `evidence`.
        training_days: the number of training days that could be compared with.
        days: the number of complete days (UTC) since.
        window_days: the number of latest days that `latest` is of.
        sentence: what happened.
    """

    kind: DriftKind
    alarm: bool
    since: date | None
    before: float | None
    latest: float | None
    ratio: float | None
    shift_hours: float | None
    evidence: float | None
    threshold: float
    training_days: int
    days: int
    window_days: int
    sentence: str


def measure_drift(
    project: Project, model_type: ModelTypeName, now: datetime, posts: pd.DataFrame | None = None
) -> list[Drift]:
    """Compare the posts since the live fit with those it was trained on; return all kinds, in a fixed order.

    Days are those of UTC; days without posts count, and the last, incomplete one does not. It depends on the live fit
    and the posts alone, so posts that come late or are edited change it as if they had always been there.

    Args:
        now: the time, UTC; no later post is used.
        posts: the posts up to now with the lengths of their texts, as `load_lengths` returns them; None to load them.

    Returns:
        One for each of `DRIFT_KINDS`; none if no version is in production.
    """
    version = project.registry.get_production(model_type)
    if version is None:
        return []
    through, through_post_id = _trained_through(version)
    posts = project.posts.load_lengths(now) if posts is None else posts
    times = utc_times(posts)
    last = np.datetime64(through.replace(tzinfo=None), "us")
    is_known = (times < last) | ((times == last) & (posts["post_id"].to_numpy() <= through_post_id))
    training = int(is_known.sum())
    if training == 0:  # they were deleted
        return [_too_few(kind, 0, 0, "none of the posts that the model was trained on is left") for kind in DRIFT_KINDS]
    lengths = posts["length"].to_numpy(np.float64)
    changes = measure_changes(times, lengths, training, np.datetime64(now.replace(tzinfo=None), "D"))
    return [_describe(kind, changes) for kind in DRIFT_KINDS]


def can_alarm(project: Project, model_type: ModelTypeName, now: datetime) -> bool:
    """Whether enough days have passed since the live fit for an alarm, which takes no look at the posts."""
    version = project.registry.get_production(model_type)
    return version is not None and (now.date() - _trained_through(version)[0].date()).days > fewest_days()


def _trained_through(version: ModelVersion) -> tuple[datetime, str]:
    """Return the time and the id of the last post that the live fit was trained on."""
    refit = version.refit
    if refit is None:
        return version.trained_through, version.trained_through_post_id
    return refit.through, refit.through_post_id


def _too_few(kind: DriftKind, training_days: int, days: int, why: str) -> Drift:
    sentence = f"Too few days to say: {why}"
    return Drift(kind, False, None, None, None, None, None, None, THRESHOLD, training_days, days, 0, sentence)


def _describe(kind: DriftKind, changes: Changes) -> Drift:
    change = changes.kinds[kind]
    if change.training_days < MIN_TRAINING_DAYS:
        what = {"rate": "training days", "length": "training days with text"}.get(kind, "training days with posts")
        why = f"{change.training_days} {what}, {MIN_TRAINING_DAYS} needed"
        return _too_few(kind, change.training_days, changes.days, why)
    if changes.days == 0:
        return _too_few(kind, change.training_days, 0, "no complete day (UTC) since the posts it was trained on")
    row = change.alarm_row
    first = date.fromisoformat(str(changes.first_day))
    ratio = change.latest / change.before if change.before and change.latest is not None else None
    shift = find_shift(changes.before.day, changes.latest.day) if kind == "hours" and row is not None else None
    return Drift(
        kind=kind,
        alarm=row is not None,
        since=None if row is None else first + timedelta(days=row),
        before=change.before,
        latest=change.latest,
        ratio=ratio if kind in {"rate", "gaps", "length"} else None,
        shift_hours=shift,
        evidence=float(change.evidence[-1]),
        threshold=THRESHOLD,
        training_days=change.training_days,
        days=changes.days,
        window_days=changes.window_days,
        sentence=_sentence(kind, change, changes, shift),
    )


def _sentence(kind: DriftKind, change: Change, changes: Changes, shift: float | None) -> str:
    is_alarm = change.alarm_row is not None
    if kind == "hours":
        return _describe_hours(changes, shift) if is_alarm else "Posts come at the usual hours"
    what = _describe_figures(kind, change, changes.window_days)
    return f"{what}; that may be chance" if change.matters[-1] and not is_alarm else what


def _describe_figures(kind: DriftKind, change: Change, window_days: int) -> str:
    before, latest = change.before or 0.0, change.latest
    of = f"in the last {window_days} days" if window_days > 1 else "on the last day"
    until_today = f"in the {window_days} days up to yesterday" if window_days > 1 else "yesterday"
    if kind == "rate":
        if not latest:
            return f"No posts {until_today}, {before:.3g} a day before"
        how = _compare(latest, before, "often", "more often", "less often")
        return f"Posts come {how}: {latest:.3g} a day {of}, {before:.3g} before"
    if latest is None:
        return f"No {'texts' if kind == 'length' else 'posts'} {until_today}"
    if kind == "gaps":
        how = _compare(latest, before, "long", "longer", "shorter")
        return f"Gaps between posts are {how}: typically {format_hours(latest)} {of}, {format_hours(before)} before"
    if kind == "length":
        how = _compare(latest, before, "long", "longer", "shorter")
        return f"Texts are {how}: {latest:.0f} characters {of}, {before:.0f} before"
    return f"{latest:.0%} of posts have no text {of}, {before:.0%} before"


def _compare(latest: float, before: float, adverb: str, more: str, less: str) -> str:
    """Return a ratio in words, such as `2.3 times as often`, `40% more often` or `half as often`."""
    ratio = latest / before if before else float("inf")
    if ratio == float("inf"):
        return more
    if 1 / MIN_RATIO <= ratio <= MIN_RATIO:
        return f"about as {adverb} as before"
    for factor, word in ((2, "twice"), (0.5, "half")):
        if abs(ratio / factor - 1) <= 0.05:  # noqa: PLR2004
            return f"{word} as {adverb}"
    if ratio >= 2:  # noqa: PLR2004
        return f"{ratio:.1f} times as {adverb}"
    return f"{abs(ratio - 1):.0%} {more if ratio > 1 else less}"


def _describe_hours(changes: Changes, shift: float | None) -> str:
    if shift is not None:
        hours = f"{abs(shift):g} hour{'' if abs(shift) == 1 else 's'}"
        return f"Posts come {hours} {'later' if shift > 0 else 'earlier'} in the day"
    parts = [side.day.reshape(4, -1).sum(axis=1) for side in (changes.before, changes.latest)]
    weekdays = [side.week for side in (changes.before, changes.latest)]
    by_part, by_weekday = _largest(*parts), _largest(*weekdays)
    if by_weekday[0] > by_part[0]:
        _, row, (before, latest) = by_weekday
        return f"{latest:.0%} of posts come on {_WEEKDAYS[row]} (UTC), {before:.0%} before"
    _, row, (before, latest) = by_part
    return f"{latest:.0%} of posts come between {_PARTS[row]} UTC, {before:.0%} before"


def _largest(before: NDArray[np.float64], latest: NDArray[np.float64]) -> tuple[float, int, tuple[float, float]]:
    """Return the largest change of a share, its row, and the shares."""
    change = np.abs(latest - before)
    row = int(change.argmax())
    return float(change[row]), row, (float(before[row]), float(latest[row]))

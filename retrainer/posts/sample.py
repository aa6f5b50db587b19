"""Synthetic posts of an invented observatory with a garden, for demonstrations and tests.

The times have a daily and a weekly rhythm, bursts and silences, or those of a working week, which are easier to learn;
the texts are combined from a small vocabulary that follows the seasons. Only `Generator.random` of PCG64 and plain
arithmetic are used, so that the posts are the same on every platform: logarithms and sines may differ in their last
digit.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd

from retrainer.errors import RetrainerError, UsageError
from retrainer.files import write_output

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Choice = TypeVar("Choice")

# The relative rates of posts by hour of the day (UTC) and by day of the week (Monday first): a busy evening, a smaller
# peak in the morning, and public nights before the weekend.
BY_HOUR = (
    *(0.55, 0.40, 0.22, 0.10, 0.06, 0.08, 0.20, 0.42, 0.60, 0.62, 0.50, 0.40),
    *(0.36, 0.34, 0.32, 0.35, 0.42, 0.52, 0.66, 0.80, 0.94, 1.00, 0.92, 0.74),
)
BY_WEEKDAY = (0.45, 0.55, 0.60, 0.65, 0.90, 1.00, 0.70)

BURST_SHARE = 0.22  # of the posts by the rhythm
MAX_BURST_FOLLOWERS = 4
BURST_SECONDS = 2_700
SILENCE_EVERY_DAYS = 75
SILENCE_DAYS = (2.0, 9.0)

# The working week: a post at noon and one in the evening of most working days, a few at other times, and weeks off.
SESSIONS = (
    (11.9, 0.7, 0.92),
    (18.8, 0.9, 0.88),
)  # each may start from this hour (UTC) on, within so many hours, at this rate
WEEKEND_RATE = 0.06  # instead
OTHER_RATE = 0.08  # posts a day, from 8 to 22 UTC
THREAD_SHARE = 0.2  # of the posts
MAX_THREAD_FOLLOWERS = 3
THREAD_SECONDS = 1_500
DAYS_BETWEEN_HOLIDAYS = (60.0, 120.0)
HOLIDAY_DAYS = (5.0, 10.0)

MISSING_TEXT_SHARE = 0.05
GREETING_SHARE = 0.30
REMARK_SHARE = 0.55  # of texts with one more sentence, repeatedly
MAX_SENTENCES = 6
TAG_SHARE = 0.30
LINK_SHARE = 0.22
# The medians of the counts; one post in ten has more than nine times as many.
MEDIAN_COUNTS = {"replies_count": 3, "reblogs_count": 8, "favourites_count": 25}
MAX_COUNT = 1_000_000

SEASONS = (
    *("winter", "winter", "spring", "spring", "spring", "summer"),
    *("summer", "summer", "autumn", "autumn", "autumn", "winter"),
)
GREETINGS = ("Good evening from the hill.", "Clear skies at last!", "A note from the dome.", "Well now.")
SUBJECTS = {
    "winter": ("Orion", "the Pleiades", "the frosted hedge", "the winter hexagon", "the greenhouse stove"),
    "spring": ("Leo", "the seedlings", "the Beehive cluster", "the cherry by the gate", "the first bumblebee"),
    "summer": ("the Milky Way", "the tomato frame", "Vega", "the night-scented stocks", "a slow meteor"),
    "autumn": ("Andromeda", "the apple harvest", "the compost heap", "Fomalhaut", "the mist over the pond"),
}
VERBS = ("looked splendid", "kept us busy", "surprised everyone", "hid from us", "drew a crowd", "won us over")
WHENS = ("tonight", "last night", "just before dawn", "this week", "between two showers", "shortly after nine")
REMARKS = (
    "Doors open at eight, bring a warm coat.",
    "The small telescope is free for anyone to use.",
    "Volunteers are welcome on Saturday morning.",
    "Questions are answered by the pond, tea in hand ☕",
    "No need to book, the gate is never locked.",
    "The cat slept through it all.",
    "We counted twice to be sure and wrote it in the big book.",
    "Thank you to all who came.",
    'As the old gardener says: "more when the clouds allow".',
    "Somebody left a blue umbrella in the dome; it waits for you beside the star charts.",
)
TAGS = ("#hilltopdome", "#stargazing", "#gardendiary", "#opennight", "#skywatch")


class _Draws:
    """Random numbers, all from `Generator.random`."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def share(self) -> float:
        """Return a number in [0, 1)."""
        return float(self._generator.random())

    def chance(self, share: float) -> bool:
        return self.share() < share

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.share()

    def one_of(self, choices: Sequence[Choice]) -> Choice:
        return choices[int(self.share() * len(choices))]


def sample_posts(
    *,
    seed: int = 20240601,
    count: int = 400,
    end: datetime = datetime(2024, 10, 31, tzinfo=UTC),
    days: float = 985,
    working_week: bool = False,
) -> pd.DataFrame:
    """Return synthetic posts from the days before `end`, in time order.

    The same arguments give the same posts on every platform.

    Args:
        seed: the seed of the generator.
        count: the number of posts, 0 or more.
        end: aware; every post is earlier.
        days: the length of the period, more than 0; with `working_week`, it follows from the number of posts.
        working_week: whether posts come on working days, at noon and in the evening, instead of at any time.

    Returns:
        post_id (str), created_at (datetime64[us, UTC], whole seconds), content (object: str, or None where
        missing), replies_count, reblogs_count, favourites_count (Int64).

    Raises:
        ValueError: `count` or `days` is too small, or `end` has no zone.
    """
    if count < 0 or days <= 0 or end.tzinfo is None:
        raise ValueError("sample_posts needs count >= 0, days > 0 and an end with a zone")
    draws = _Draws(seed)
    end = end.astimezone(UTC).replace(microsecond=0)
    times = _working_week(draws, count, end) if working_week else _times(draws, count, end, days)
    counts = {name: [_count(draws, median) for _ in times] for name, median in MEDIAN_COUNTS.items()}
    return pd.DataFrame(
        {
            "post_id": pd.Series([f"sample-{number:06d}" for number in range(1, count + 1)], dtype="str"),
            "created_at": pd.Series(pd.DatetimeIndex(times, tz=UTC).as_unit("us")),
            "content": pd.Series([_content(draws, time) for time in times], dtype=object),
            **{name: pd.Series(values, dtype="Int64") for name, values in counts.items()},
        }
    )


def write_sample_csv(path: Path, posts: pd.DataFrame) -> None:
    """Write sample posts as UTF-8 CSV: id, created_at (ISO-8601, UTC), text (empty if missing), the counts.

    Raises:
        UsageError: the file exists.
        RetrainerError: the file cannot be written.
    """
    if path.is_file():
        raise UsageError(f"'{path}' exists", hint="Choose another name")
    table = posts.rename(columns={"post_id": "id", "content": "text"})
    table["created_at"] = [time.isoformat().replace("+00:00", "Z") for time in table["created_at"]]
    columns = ["id", "created_at", "text", *MEDIAN_COUNTS]
    try:
        write_output(path, table.to_csv(columns=columns, index=False, lineterminator="\n").encode())
    except OSError as error:
        hint = "Choose a writable path"
        raise RetrainerError(f"cannot write '{path}': {error.strerror or error}", hint=hint) from error


def _times(draws: _Draws, count: int, end: datetime, days: float) -> list[datetime]:
    """Return `count` times in order: following the rhythm, some with a burst, none in a silence."""
    span = max(int(days * 86_400), 1)
    silences = _silences(draws, end, days)

    def is_open(time: datetime) -> bool:
        return time < end and not any(start <= time < until for start, until in silences)

    found: list[datetime] = []
    while len(found) < count:
        time = end - timedelta(seconds=1 + int(draws.share() * span))
        if draws.chance(BY_HOUR[time.hour] * BY_WEEKDAY[time.weekday()]) and is_open(time):
            found += [time, *filter(is_open, _burst(draws, time))]
    return sorted(found[:count])


def _silences(draws: _Draws, end: datetime, days: float) -> list[tuple[datetime, datetime]]:
    starts = [end - timedelta(days=draws.between(0, days)) for _ in range(int(days // SILENCE_EVERY_DAYS))]
    return [(start, start + timedelta(days=draws.between(*SILENCE_DAYS))) for start in starts]


def _working_week(draws: _Draws, count: int, end: datetime) -> list[datetime]:
    """Return `count` times in order, the last ones before `end`: the sessions of working days, with threads."""
    found: list[datetime] = []
    day = end.replace(hour=0, minute=0, second=0)
    until_holiday = draws.between(*DAYS_BETWEEN_HOLIDAYS)
    while len(found) < count:
        rates = [rate if day.weekday() < 5 else WEEKEND_RATE for _, _, rate in SESSIONS]  # noqa: PLR2004
        starts = [
            hour + width * draws.share()
            for (hour, width, _), rate in zip(SESSIONS, rates, strict=True)
            if draws.chance(rate)
        ]
        if draws.chance(OTHER_RATE):
            starts.append(draws.between(8, 22))
        for hour in starts:
            time = day + timedelta(seconds=int(hour * 3600))
            found += [each for each in (time, *_thread(draws, time)) if each < end]
        until_holiday -= 1
        day -= timedelta(days=1)
        if until_holiday < 0:
            day -= timedelta(days=int(draws.between(*HOLIDAY_DAYS)))
            until_holiday = draws.between(*DAYS_BETWEEN_HOLIDAYS)
    return sorted(found)[len(found) - count :]


def _thread(draws: _Draws, time: datetime) -> list[datetime]:
    if not draws.chance(THREAD_SHARE):
        return []
    followers = 1 + int(draws.share() * MAX_THREAD_FOLLOWERS)
    return [time + timedelta(seconds=1 + int(draws.share() * THREAD_SECONDS)) for _ in range(followers)]


def _burst(draws: _Draws, time: datetime) -> list[datetime]:
    if not draws.chance(BURST_SHARE):
        return []
    followers = 1 + int(draws.share() * MAX_BURST_FOLLOWERS)
    return [time + timedelta(seconds=1 + int(draws.share() * BURST_SECONDS)) for _ in range(followers)]


def _content(draws: _Draws, time: datetime) -> str | None:
    if draws.chance(MISSING_TEXT_SHARE):
        return None
    sentences = [draws.one_of(GREETINGS)] if draws.chance(GREETING_SHARE) else []
    sentences.append(_report(draws, SUBJECTS[SEASONS[time.month - 1]]))
    while len(sentences) < MAX_SENTENCES and draws.chance(REMARK_SHARE):
        sentences.append(draws.one_of([remark for remark in REMARKS if remark not in sentences]))
    text = " ".join(sentences)
    if draws.chance(TAG_SHARE):
        text += f" {draws.one_of(TAGS)}"
    if draws.chance(LINK_SHARE):
        text += f"\nhttps://example.org/notes/{int(draws.between(100, 1000))}"
    return text


def _report(draws: _Draws, subjects: Sequence[str]) -> str:
    sentence = f"{draws.one_of(subjects)} {draws.one_of(VERBS)} {draws.one_of(WHENS)}."
    return sentence[0].upper() + sentence[1:]


def _count(draws: _Draws, median: int) -> int:
    share = draws.share()
    return min(int(median * share / (1 - share)), MAX_COUNT)

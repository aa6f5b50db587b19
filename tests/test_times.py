"""Times on a screen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from retrainer.times import format_duration, format_relative, parse_duration

NOW = datetime(2024, 11, 15, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "shown"),
    [
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=5), "5 min ago"),
        (timedelta(hours=3), "3 h ago"),
        (timedelta(hours=47), "47 h ago"),
        (timedelta(hours=49), "2 days ago"),
        (timedelta(days=13), "13 days ago"),
        (timedelta(days=14), "2024-11-01"),
        (timedelta(hours=-3), "in 3 h"),
        (timedelta(days=-30), "2024-12-15"),
    ],
)
def test_a_time_is_shown_by_its_distance_from_now(before: timedelta, shown: str) -> None:
    assert format_relative(NOW - before, NOW) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-1.0, "0 s"), (40.2, "40 s"), (725.0, "12 min 5 s"), (97_230.0, "27 h 0 min")]
)
def test_a_duration_has_at_most_two_units(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("1d", timedelta(days=1)),
    ],
)
def test_a_duration_has_one_unit(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", ["", "30", "m", "1.5h", "-1h", "1w", "0s", "1h30m", "1234567s", "٣h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}'"):
        parse_duration(text)

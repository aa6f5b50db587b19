"""A forecast of the next post on a screen of 80 columns, and in a pipe."""

from __future__ import annotations

import os
import pty
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from retrainer import console
from retrainer.model_types.timing import LEVELS, TimingForecasts
from retrainer.pipeline.forecast import NextPost
from retrainer.render import forecasts, histogram
from retrainer.times import format_hours

AT = datetime(2026, 11, 26, 13, 5, tzinfo=UTC)
LAST = datetime(2024, 10, 29, 20, tzinfo=UTC)
BLOCKS = "▁▂▃▄▅▆▇█"


def exponential(mean_hours: float) -> TimingForecasts:
    return TimingForecasts.from_quantiles((-mean_hours * np.log1p(-LEVELS))[None])


def next_post(at: datetime, mean_hours: float, **changes: object) -> NextPost:
    forecast = exponential(mean_hours)
    low, high = forecast.interval()
    found = {
        "model_type": "timing",
        "version_id": "baseline_timing_20261126_120000_1a2b",
        "made_at": AT,
        "at": at,
        "origin_at": LAST,
        "last_post_at": LAST,
        "stale": False,
        "next_post_at": at + timedelta(hours=float(forecast.point[0])),
        "point_hours": float(forecast.point[0]),
        "median_hours": float(forecast.median[0]),
        "interval_level": 0.8,
        "interval_hours": (float(low[0]), float(high[0])),
        "quantiles_hours": tuple(forecast.quantiles[0].tolist()),
        "probability": {6: 0.5},
    }
    return NextPost(**{**found, **changes})  # type: ignore[arg-type]


def test_a_histogram_shows_the_chance_by_the_hour() -> None:
    day_and_night = np.concatenate([np.linspace(0.2, 3, 25), np.linspace(14, 26, 50), np.linspace(38, 50, 24)])
    lines = histogram.draw(TimingForecasts.from_quantiles(day_and_night[None]), AT, BLOCKS)
    assert lines == [
        "Chance of the next post per hour (UTC), at most 9%",
        "       ██",
        "      ███",
        "      ███",
        "      ███           ▅▇▇▇▇▇▇▇▇▇▇▇",
        "      ███           ████████████            ▂▃▃▃▃▃▃▃▃▃",
        "      ███▄▁▁▁▁▁▁▁▁▁▁████████████▂▁▁▁▁▁▁▁▁▁▁▁██████████",
        "      ───────────┬───────────┬───────────┬───────────┬",
        "                 11-27       12:00       11-28",
    ]


def test_a_histogram_in_ascii() -> None:
    assert histogram.draw(exponential(400.0), AT, ".:#") == [
        "Chance of the next post per day (UTC), at most 6%",
        "       #:.",
        "       ####:..",
        "       ########:..",
        "      ##############::..",
        "      #####################::::....",
        "      ##################################:::::::::........",
        "      ----+-------------+-------------+-------------+----",
        "          2026-11-30    2026-12-14    2026-12-28",
    ]


@pytest.mark.parametrize("mean_hours", [0.0, 1e-4, 0.02, 0.3, 2.0, 12.0, 70.0, 500.0, 3e3, 2e4, 9e4, 8e5, 1.8e6])
def test_a_histogram_fits_every_distribution(mean_hours: float) -> None:
    lines = histogram.draw(exponential(mean_hours), AT, BLOCKS)
    assert len(lines) == histogram.HEIGHT + 3
    assert max(map(len, lines)) <= 79
    assert "█" in lines[1], "the highest column is as high as the picture"
    assert len(lines[-1].split()) >= 2, "two times at the axis"


def test_a_forecast_that_is_sure_of_the_time_is_one_column() -> None:
    lines = histogram.draw(TimingForecasts.from_quantiles(np.full((1, 99), 5.0)), AT, BLOCKS)
    assert lines[1].strip() == "█"


def test_stale_posts_come_first_and_both_forecasts_follow(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe: nothing but text."""
    forecasts.show_next_post(next_post(AT, 7000.0, stale=True, as_of_last_post=next_post(LAST, 9.0)))
    assert capsys.readouterr().out.splitlines() == [
        "The posts are stale: the newest is 2.1 years old. Are newer ones missing?",
        "Version baseline_timing_20261126_120000_1a2b, last post 2024-10-29 20:00 UTC",
        "",
        "Now, after 2.1 years without a post:",
        "Next post: 2027-06-16 17:06 UTC, in 202 days (best expected score, within 6 h)",
        "Median: 2027-06-16 17:06 UTC, in 202 days (half of the posts come earlier)",
        "80% interval: 30.7 days to 1.8 years",
        "Chance within 7 days 2%, 30 days 10%, 90 days 27%, 1 year 71%, 3 years 98%",
        "",
        "As of the last post (`--at last`):",
        "Next post: 2024-10-30 02:10 UTC, 6.2 h later (best expected score, within 6 h)",
        "Median: 2024-10-30 02:14 UTC, 6.2 h later (half of the posts come earlier)",
        "80% interval: 57 min to 20.7 h",
        "Chance within 15 min 3%, 1 h 11%, 3 h 28%, 6 h 49%, 24 h 93%",
    ]


def test_a_past_moment_says_how_old_the_last_post_was_then(capsys: pytest.CaptureFixture[str]) -> None:
    moment = LAST + timedelta(days=40)
    forecasts.show_next_post(next_post(moment, 9.0, stale=True))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "The posts were stale: the newest was 40 days old. Are newer ones missing?"
    assert lines[2:] == [
        "Next post: 2024-12-09 02:10 UTC, 6.2 h later (best expected score, within 6 h)",
        "Median: 2024-12-09 02:14 UTC, 6.2 h later (half of the posts come earlier)",
        "80% interval: 57 min to 20.7 h",
        "Chance within 15 min 3%, 1 h 11%, 3 h 28%, 6 h 49%, 24 h 93%",
    ], "nothing as of the last post"


def test_waits_of_less_than_a_minute_have_a_probability(capsys: pytest.CaptureFixture[str]) -> None:
    forecasts.show_next_post(next_post(AT, 1e-4))
    assert "80% interval: 0 s to 1 s\nChance within 1 min 99%\n" in capsys.readouterr().out


@pytest.mark.parametrize(("encoding", "characters"), [("utf-8", BLOCKS), ("ascii", ".:#")])
def test_bars_are_blocks_where_the_terminal_has_them(encoding: str, characters: str) -> None:
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w", encoding=encoding) as terminal, redirect_stdout(terminal):
        assert console.bar_characters() == characters
    os.close(reader)
    assert console.bar_characters() == "", "a pipe gets text only"


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (0, "0 s"),
        (0.0165, "59 s"),
        (0.0166, "1 min"),
        (0.99, "59 min"),
        (0.995, "1 h"),
        (6.04, "6 h"),
        (47.9, "47.9 h"),
        (47.96, "2 days"),
        (2400, "100 days"),
        (365 * 24, "1 year"),
        (78_000, "8.9 years"),
        (8_766_000, "1,000 years"),
    ],
)
def test_durations_are_in_the_unit_that_fits(hours: float, text: str) -> None:
    assert format_hours(hours) == text

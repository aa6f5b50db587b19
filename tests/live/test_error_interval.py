"""An interval of the error in words."""

from __future__ import annotations

import pytest

from retrainer.evaluation.sequential import Interval
from retrainer.live.error_interval import ErrorInterval


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.08, 0.21, "8% to 21% smaller than"),
        (-0.21, -0.08, "8% to 21% larger than"),
        (-0.05, 0.12, "between 5% larger and 12% smaller than"),
        (-0.001, 0.12, "between under 1% larger and 12% smaller than"),
        (-0.12, 0.001, "between 12% larger and under 1% smaller than"),
        (-0.001, 0.014, "within 2% of"),
        (-0.004, 0.009, "within 1% of"),
        (0.3, None, "at least 30% smaller than"),
        (None, -0.4, "at least 40% larger than"),
        (None, 0.12, "perhaps larger, perhaps 12% smaller than"),
        (-0.05, None, "perhaps 5% larger, perhaps smaller than"),
        (None, None, "perhaps larger, perhaps smaller than"),
        (0.001, 0.02, "up to 2% smaller than"),
    ],
)
def test_an_interval_in_words(low: float | None, high: float | None, words: str) -> None:
    assert ErrorInterval(low, high, None).describe() == words


def test_a_difference_that_is_certain_is_said_though_the_interval_may_include_none() -> None:
    interval = ErrorInterval(-0.01, 0.12, 0.06)
    assert interval.describe("better") == "up to 12% smaller than"
    assert ErrorInterval(-0.12, 0.01, -0.06).describe("worse") == "up to 12% larger than"
    assert ErrorInterval(None, 0.01, -0.06).describe("worse") == "larger than"


def test_the_interval_of_one_side_is_turned_into_that_of_the_other() -> None:
    turned = ErrorInterval.of_a(Interval(-0.25, 0.2, 0.0))
    assert (turned.low, turned.high, turned.estimate) == pytest.approx((-0.25, 0.2, 0)), (
        "1 / 1.25 = 0.8, 1 / 0.8 = 1.25"
    )
    assert ErrorInterval.of_a(Interval(None, None, None)) == ErrorInterval(None, None, None)

"""Recalibration at clock times by known gaps."""

from __future__ import annotations

import numpy as np
import pytest

from retrainer.algorithms import LEVELS, PseudoOrigins, Recalibration


def exponential_quantiles(mean: float) -> np.ndarray:
    return -mean * np.log1p(-LEVELS)[None]


def test_each_gap_has_an_origin_in_each_of_one_to_four_strata_and_they_stand_for_its_length() -> None:
    gaps = np.array([0.1, 3.0, 3.1, 7.0, 40.0])
    origins = PseudoOrigins.inside(gaps, np.arange(5))
    assert np.bincount(origins.gap).tolist() == [1, 1, 2, 3, 4]
    assert np.bincount(origins.gap, weights=origins.weight) == pytest.approx(gaps)
    assert ((origins.silence >= 0) & (origins.wait > 0)).all()
    assert origins.silence + origins.wait == pytest.approx(gaps[origins.gap])
    assert np.floor(origins.silence[-4:] / 10).tolist() == [0, 1, 2, 3]


def test_the_origins_in_a_gap_depend_on_its_number_only() -> None:
    gaps = np.random.default_rng(1).exponential(5, 100)
    numbers = np.arange(-60, 40)
    everywhere, recent = PseudoOrigins.inside(gaps, numbers), PseudoOrigins.inside(gaps[70:], numbers[70:])
    assert (everywhere.silence[everywhere.gap >= 70] == recent.silence).all()


def test_waits_from_the_origins_are_those_from_random_times() -> None:
    """By the inspection paradox the mean wait is half of E gap² / E gap."""
    gaps = np.random.default_rng(2).gamma(0.5, 10, 20_000)
    origins = PseudoOrigins.inside(gaps, np.arange(len(gaps)))
    expected = (gaps**2).sum() / gaps.sum() / 2
    assert np.average(origins.wait, weights=origins.weight) == pytest.approx(expected, rel=0.01)


def test_without_known_gaps_nothing_changes() -> None:
    nothing = Recalibration.from_pit(np.empty(0), np.empty(0), np.empty(0, dtype=np.int64))
    quantiles = exponential_quantiles(5.0)
    assert nothing.levels() == pytest.approx(LEVELS)
    assert nothing.apply(quantiles) == pytest.approx(quantiles)


def test_forecasts_that_are_too_short_are_read_at_higher_levels() -> None:
    """True waits are twice as long as forecast; with many gaps, the recalibrated quantiles approach them."""
    rng = np.random.default_rng(3)
    pit = -np.expm1(-rng.exponential(2.0, 20_000))
    learnt = Recalibration.from_pit(pit, np.ones(20_000), np.arange(20_000))
    assert learnt.apply(exponential_quantiles(1.0))[0, 9:75] == pytest.approx(
        exponential_quantiles(2.0)[0, 9:75], rel=0.1
    )
    few = Recalibration.from_pit(pit[:30], np.ones(30), np.arange(30))
    assert LEVELS[49] < few.levels()[49] < learnt.levels()[49]


def test_origins_of_one_gap_count_as_one() -> None:
    pit = np.full(4, 0.9)
    same = Recalibration.from_pit(pit, np.ones(4), np.zeros(4, dtype=np.int64))
    apart = Recalibration.from_pit(pit, np.ones(4), np.arange(4))
    single = Recalibration.from_pit(pit[:1], np.ones(1), np.array([7]))
    assert same.shares == pytest.approx(single.shares)
    assert apart.shares[10] < same.shares[10] < 0.5


def test_beyond_the_last_quantile_the_tail_is_exponential() -> None:
    """Survival falls tenfold in the time from the 89% to the 99% quantile."""
    shares = np.linspace(0, 1, 21)
    shares[1:-1] = shares[1:-1] * 0.98  # level 0.99 is read beyond 0.99
    (read,) = Recalibration(shares).levels(np.array([0.99]))
    assert read > 0.99
    quantiles = exponential_quantiles(1.0)
    recalibrated = Recalibration(shares).apply(quantiles)
    step = quantiles[0, -1] - quantiles[0, -11]
    assert recalibrated[0, -1] == pytest.approx(quantiles[0, -1] + step * np.log10(0.01 / (1 - read)))
    assert (np.diff(recalibrated) >= 0).all()

"""The interval in which a score is expected: its coverage, whatever the order and the ties, and what it knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrainer.model_types.expected_score import (
    LEVEL,
    ExpectedScore,
    _split_conformal,
    expect_score,
    measure_coverage,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Make = Callable[[int], NDArray[np.float64]]

RANDOM = np.random.default_rng(20261127)


def test_the_ends_are_scores_by_their_rank() -> None:
    fifty = RANDOM.permutation(np.arange(50)) / 100
    assert expect_score(fifty) == ExpectedScore(0.04, 0.45, 0.8, 50), "the 5th of 50 from each end: 51 · 0.1"
    many = np.arange(199) / 200
    assert _split_conformal(many, 1 - LEVEL) == (many[19], many[-20]), "the 20th of 199 from each end: 200 · 0.1"
    expected = expect_score(RANDOM.permutation(np.arange(49)) / 100)
    assert expected is None, "too few"


def test_it_covers_the_next_of_51_scores_in_any_order() -> None:
    scores = RANDOM.random(51)
    covered = []
    for index in range(51):
        expected = expect_score(np.delete(scores, index))
        assert expected is not None
        covered.append(expected.low <= scores[index] <= expected.high)
    assert np.mean(covered) == pytest.approx(41 / 51)


def drifting(length: int) -> NDArray[np.float64]:
    return np.linspace(0.2, 0.8, length) + RANDOM.normal(0, 0.05, length)


def with_a_jump(length: int) -> NDArray[np.float64]:
    return np.where(np.arange(length) < length - 400, 0.3, 0.6) + RANDOM.normal(0, 0.05, length)


def in_bursts(length: int) -> NDArray[np.float64]:
    return np.where(np.arange(length) // 40 % 2, 0.3, 0.6) + RANDOM.normal(0, 0.05, length)


def often_perfect(length: int) -> NDArray[np.float64]:
    return np.where(RANDOM.random(length) < 0.3, 1.0, RANDOM.beta(3, 4, length))


def often_perfect_or_zero(length: int) -> NDArray[np.float64]:
    return np.where(RANDOM.random(length) < 0.3, 0.0, often_perfect(length))


def of_few_values(length: int) -> NDArray[np.float64]:
    return np.round(RANDOM.beta(3, 4, length) * 8) / 8


@pytest.mark.parametrize(
    "make", [drifting, with_a_jump, in_bursts, often_perfect, often_perfect_or_zero, of_few_values]
)
def test_four_fifths_are_covered_whatever_the_stream_does(make: Make) -> None:
    coverage = measure_coverage(make(800), 400)
    assert coverage is not None
    assert coverage.posts == 400
    assert 0.75 <= coverage.coverage <= 0.85
    assert 0 < coverage.width < 1


@pytest.mark.parametrize("make", [often_perfect, often_perfect_or_zero])
def test_repeated_scores_are_not_covered_too_often_from_the_start(make: Make) -> None:
    coverage = measure_coverage(make(350))
    assert coverage is not None
    assert 0.75 <= coverage.coverage <= 0.85


def test_scores_that_never_differ_have_an_interval_without_width() -> None:
    assert measure_coverage(np.ones(300)) == (1.0, 0.0, 250)
    assert expect_score(np.ones(300)) == ExpectedScore(1.0, 1.0, 0.8, 200)


@given(st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.7, 1.0]), min_size=70, max_size=400), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_the_coverage_is_that_of_the_intervals_which_were_expected_before(values: list[float], start: int) -> None:
    scores = np.array(values)
    first = max(start, 50)
    coverage = measure_coverage(scores, start)
    if len(scores) - first < 20:
        assert coverage is None
        return
    expected = [expect_score(scores[:index]) for index in range(first, len(scores))]
    covered = [
        one is not None and one.low <= score <= one.high for one, score in zip(expected, scores[first:], strict=True)
    ]
    assert coverage is not None
    assert coverage.coverage == pytest.approx(np.mean(covered))
    assert coverage.width == pytest.approx(np.mean([one.high - one.low for one in expected if one]))
    assert coverage.posts == len(covered)


@given(st.lists(st.floats(0, 1), min_size=50, max_size=300))
@settings(max_examples=50, deadline=None)
def test_the_ends_are_in_order_and_between_0_and_1(values: list[float]) -> None:
    expected = expect_score(np.array(values))
    assert expected is not None
    assert 0 <= expected.low <= expected.high <= 1


def test_scores_of_long_ago_do_not_count() -> None:
    later = RANDOM.random(1000)
    assert expect_score(np.concatenate([np.ones(500), later])) == expect_score(later)

"""The verdict on calibration is right, and rests on enough data, however often one looks."""

from __future__ import annotations

import numpy as np
import pytest

from retrainer.evaluation.calibration import Calibration, CalibrationWord, PitSums

UNIFORM = (np.arange(2000) * 0.6180339887) % 1


def calibration(pit: np.ndarray) -> Calibration:
    sums = PitSums.empty()
    for start in range(0, len(pit), 300):
        sums.add(pit[start : start + 300])
    return sums.result()


@pytest.mark.parametrize(
    ("pit", "word"),
    [
        (UNIFORM, "well calibrated"),
        (np.abs(2 * UNIFORM - 1) ** 0.5 * np.sign(UNIFORM - 0.5) / 2 + 0.5, "too narrow"),
        ((UNIFORM - 0.5) * 0.6 + 0.5, "too wide"),
        (UNIFORM**2, "late"),
        (UNIFORM**0.5, "early"),
    ],
)
def test_the_word_says_how_the_distributions_are_wrong(pit: np.ndarray, word: CalibrationWord) -> None:
    assert calibration(pit).word == word


def test_a_few_posts_show_nothing() -> None:
    for count in (0, 1, 60):
        assert calibration(UNIFORM[:count]).word == "too few posts to say"
    assert calibration(np.full(60, 0.99)).word == "early", "unless it is that bad"


def test_the_fifths_hold_the_shares_of_the_posts() -> None:
    found = calibration(np.array([0.0, 0.1, 0.25, 0.99, 1.0]))
    assert found.fifths == [0.4, 0.2, 0.0, 0.0, 0.4]
    assert found.num_posts == 5


def test_a_look_after_each_post_rarely_blames_calibrated_forecasts() -> None:
    blamed = 0
    for seed in range(40):
        pit = np.random.default_rng(20_261_126 + seed).random(500)
        sums = PitSums.empty()
        for post in range(500):
            sums.add(pit[post : post + 1])
            if sums.result().word not in {"well calibrated", "too few posts to say"}:
                blamed += 1
                break
    assert blamed <= 2, "5% of 40"

"""The evidence for an improvement: the bootstrap, its level and power, and the decision rule."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

from retrainer.config import ContentRetrainingSettings, RetrainingSettings
from retrainer.evaluation import bootstrap
from retrainer.evaluation.bootstrap import (
    Evidence,
    block_length,
    bootstrap_comparison,
    resampled_means,
    score_interval,
    starts,
)
from retrainer.evaluation.decision_rule import Costs, recommend
from retrainer.model_types import get_model_type
from retrainer.model_types.content import ContentForecast, ContentTargets
from retrainer.model_types.timing import LEVELS, TimingForecasts, TimingTargets

TIMING = get_model_type("timing")
SIMULATION_SEED = 20240229  # fixed before the first run
POSTS = 300


def autoregressive(rng: np.random.Generator, shape: tuple[int, int], spread: float) -> np.ndarray:
    """Return rows of a first-order autoregressive process of correlation 0.3 and the given standard deviation."""
    noise = rng.normal(size=shape)
    values = np.empty(shape)
    values[:, 0] = noise[:, 0]
    for column in range(1, shape[1]):
        values[:, column] = 0.3 * values[:, column - 1] + math.sqrt(1 - 0.3**2) * noise[:, column]
    return spread * values


def replicates(shrink: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (count, posts) errors in hours of two models on the same posts, log-normal and autocorrelated.

    Args:
        shrink: the second model's errors are smaller by this factor.
    """
    rng = np.random.default_rng(SIMULATION_SEED)
    common = 1.5 + autoregressive(rng, (count, POSTS), 1.0)
    first, second = (np.exp(common + autoregressive(rng, (count, POSTS), 0.5)) for _ in range(2))
    return first, second * shrink


def promoted_shares(shrink: float, thresholds: tuple[float, ...], count: int) -> list[float]:
    """Return the share of so many comparisons that promotes, for each threshold."""
    settings = [
        RetrainingSettings(min_confidence=0.95, min_improvement_threshold=threshold) for threshold in thresholds
    ]
    promoted = np.zeros(len(thresholds))
    for errors_a, errors_b in zip(*replicates(shrink, count), strict=True):
        a, b = (np.column_stack([errors <= 6, errors]) for errors in (errors_a, errors_b))
        old, new = (float(TIMING.overall_score(side.mean(axis=0))) for side in (a, b))
        evidence = bootstrap_comparison(a, b, TIMING.overall_score, confidence=0.95)
        promoted += [recommend(old, new, evidence, each)[0] == "promote" for each in settings]
    return [float(share) for share in promoted / count]


@pytest.mark.slow
def test_min_confidence_rarely_promotes_an_equal_model() -> None:
    assert max(promoted_shares(1.0, (2.0, 0.0), count=1000)) <= 0.07


@pytest.mark.slow
def test_min_confidence_promotes_a_clearly_better_model() -> None:
    """An error smaller by a quarter is detected in nearly every case."""
    assert promoted_shares(0.75, (2.0,), count=200)[0] >= 0.9


def test_resampled_means_equal_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    figures, length = rng.normal(size=(23, 3)), 4
    blocks = math.ceil(23 / length)
    drawn = starts(np.random.default_rng(5), 250, blocks, 23)
    expected = []
    for row in drawn[:20]:
        rows = [(start + step) % 23 for start in row for step in range(length)][:23]
        expected.append(figures[rows].mean(axis=0))
    assert resampled_means(figures, length, seed=5)[:20] == pytest.approx(np.array(expected), abs=1e-12)


def test_draws_agree_with_the_enumeration_of_all_resamples() -> None:
    """Five posts in blocks of two: 125 equally likely resamples, their mean and spread, and how often b is better."""
    figures = np.array([[0.0], [1.0], [5.0], [2.0], [-3.0]])
    every = [
        figures[[(start + step) % 5 for start in chosen for step in range(2)][:5]].mean()
        for chosen in itertools.product(range(5), repeat=3)
    ]
    drawn = resampled_means(figures, 2, seed=0)[:, 0]
    error = np.std(every) / math.sqrt(len(drawn))
    assert abs(drawn.mean() - np.mean(every)) < 4 * error
    assert drawn.std() == pytest.approx(np.std(every), rel=0.1)
    assert (drawn > 1.5).mean() == pytest.approx(np.mean(np.array(every) > 1.5), abs=0.05)
    assert set(np.round(drawn, 9)) == set(np.round(every, 9))


@pytest.mark.parametrize(("count", "length"), [(1, 1), (8, 2), (10, 3), (27, 3), (300, 7), (20_000, 28)])
def test_block_length_is_the_cube_root_of_the_sample(count: int, length: int) -> None:
    assert block_length(count) == length


def test_identical_forecasts_are_inconclusive_without_a_required_sample_size() -> None:
    errors = np.random.default_rng(3).exponential(5, 50)
    side = np.column_stack([errors <= 6, errors])
    found = bootstrap_comparison(side, side.copy(), TIMING.overall_score)
    assert found.interval_percentage == (0.0, 0.0)
    assert found.probability_better == 0.5
    assert found.more_posts is None
    assert not found.is_settled


def test_a_score_of_zero_has_no_percentage_and_can_be_worse() -> None:
    hopeless, perfect = (
        np.column_stack([np.zeros(30), np.full(30, 100.0)]),
        np.column_stack([np.ones(30), np.zeros(30)]),
    )
    found = bootstrap_comparison(hopeless, perfect, TIMING.overall_score)
    assert found.interval_percentage is None
    assert found.smallest_detectable_percentage is None
    assert found.probability_better == 1.0
    assert found.more_posts == 0
    json.dumps(found.document(), allow_nan=False)


def test_evidence_grows_with_the_number_of_posts() -> None:
    rng = np.random.default_rng(9)
    errors = rng.exponential(6, 2000)
    better = errors * rng.uniform(0.5, 1.3, 2000)
    a, b = (np.column_stack([side <= 6, side]) for side in (errors, better))
    few, many = (
        bootstrap_comparison(a[:40], b[:40], TIMING.overall_score),
        bootstrap_comparison(a, b, TIMING.overall_score),
    )
    assert few.smallest_detectable_percentage
    assert many.smallest_detectable_percentage
    assert few.smallest_detectable_percentage > 3 * many.smallest_detectable_percentage
    assert many.probability_better > 0.99
    assert many.more_posts == 0


def test_the_required_sample_size_is_roughly_right() -> None:
    """With the required number of posts, the standard error is as small as the effect requires."""
    rng = np.random.default_rng(2)
    errors = rng.exponential(6, 60)
    better = errors * rng.uniform(0.65, 1.45, 60)
    a, b = (np.column_stack([side <= 6, side]) for side in (errors, better))
    found = bootstrap_comparison(a, b, TIMING.overall_score)
    assert found.more_posts
    again = math.ceil((60 + found.more_posts) / 60)
    repeated = bootstrap_comparison(np.tile(a, (again, 1)), np.tile(b, (again, 1)), TIMING.overall_score)
    assert repeated.is_settled


@pytest.mark.parametrize("model_type", ["timing", "content"])
def test_the_contributions_make_the_overall_score(model_type: str) -> None:
    rng = np.random.default_rng(4)
    kind = get_model_type(model_type)  # type: ignore[arg-type]
    if model_type == "timing":
        quantiles = np.sort(rng.exponential(9, (40, len(LEVELS))), axis=1)
        pair = TimingForecasts.from_quantiles(quantiles), TimingTargets(rng.exponential(9, 40))
    else:
        words = [" ".join(rng.choice(["a", "bb", "ccc", "dddd"], 5)) for _ in range(80)]
        pair = [ContentForecast(text) for text in words[:40]], ContentTargets(words[40:])  # type: ignore[assignment]
    assert float(kind.overall_score(kind.score_components(*pair).mean(axis=0))) == kind.score(*pair)["overall_score"]


def settled(better: float, interval: tuple[float, float] | None, more: int | None = 310) -> Evidence:
    return Evidence(interval, better, 4.0, more, 0.95, 148, 6, bootstrap.RESAMPLES, bootstrap.SEED)


SETTLE = "about 310 more posts would settle it"


@pytest.mark.parametrize(
    ("new", "confidence", "better", "interval", "recommendation", "reason"),
    [
        (0.633, None, 0.99, (1.2, 9.9), "promote", "New model is 5.5% better (FIGURES)"),
        (
            *(0.633, None, 0.8, (-3.1, 14.2), "promote"),
            f"New model is 5.5% better (FIGURES); not enough evidence to be sure, {SETTLE}",
        ),
        (0.6048, None, 0.6, (-1.0, 2.6), "reject", "New model is 0.8% better (below 2.0% threshold; FIGURES)"),
        (0.633, 0.95, 0.95, (0.1, 9.9), "promote", "New model is 5.5% better (FIGURES)"),
        (
            *(0.633, 0.95, 0.8, (-3.1, 14.2), "not_enough_evidence"),
            "Not enough evidence: new model is 5.5% better (FIGURES); better with probability 0.80, 0.95 required, "
            + SETTLE,
        ),
        (0.6048, 0.95, 0.99, (0.1, 1.5), "reject", "New model is 0.8% better (below 2.0% threshold; FIGURES)"),
        (
            *(0.6048, 0.95, 0.7, (-2.0, 3.6), "not_enough_evidence"),
            (
                "Not enough evidence: new model is 0.8% better (below 2.0% threshold; FIGURES); better with "
                f"probability 0.70, 0.95 required, {SETTLE}"
            ),
        ),
        (0.594, 0.95, 0.04, (-3.0, 2.5), "reject", "New model is 1.0% worse (FIGURES)"),
        (0.6 - 1.2e-7, 0.95, 0.5, (0.0, 0.0), "reject", "New model is 0.00002% worse (FIGURES)"),
        (0.6, 0.95, 0.5, (0.0, 0.0), "reject", "New model scores the same (FIGURES)"),
    ],
)
def test_verdicts(
    new: float,
    confidence: float | None,
    better: float,
    interval: tuple[float, float],
    recommendation: str,
    reason: str,
) -> None:
    """Against a production that scores 0.6, with the threshold of 2%."""
    figures = f"95% interval {interval[0]} to {interval[1]}, 148 posts"
    verdict = recommend(0.6, new, settled(better, interval), RetrainingSettings(min_confidence=confidence))
    assert verdict == (recommendation, reason.replace("FIGURES", figures))


@pytest.mark.parametrize(
    ("costs", "most", "recommendation", "reason"),
    [
        ((0.010, 0.014), None, "promote", "New model is 5.5% better at 40.0% more cost (FIGURES)"),
        (
            *((0.010, 0.014), 20.0, "reject"),
            "New model is 5.5% better at 40.0% more cost (FIGURES); max_cost_increase is 20%",
        ),
        ((0.010, 0.014), 40.0, "promote", "New model is 5.5% better at 40.0% more cost (FIGURES)"),
        ((0.010, 0.005), 20.0, "promote", "New model is 5.5% better at 50.0% less cost (FIGURES)"),
        (
            *((0.0, 0.0123), 20.0, "reject"),
            "New model is 5.5% better at $0.0123 more cost (FIGURES); max_cost_increase is 20%",
        ),
        ((0.010, 0.010), 0.0, "promote", "New model is 5.5% better (FIGURES)"),
    ],
)
def test_a_model_that_costs_too_much_more_is_not_promoted(
    costs: tuple[float, float], most: float | None, recommendation: str, reason: str
) -> None:
    settings = RetrainingSettings(content_model=ContentRetrainingSettings(max_cost_increase=most))
    made = recommend(0.6, 0.633, settled(0.99, (1.2, 9.9)), settings, Costs(*costs))
    assert made == (recommendation, reason.replace("FIGURES", "95% interval 1.2 to 9.9, 148 posts"))


def test_a_worse_model_is_rejected_whatever_it_costs() -> None:
    settings = RetrainingSettings(content_model=ContentRetrainingSettings(max_cost_increase=5))
    made = recommend(0.6, 0.594, settled(0.1, (-3.0, 0.5)), settings, Costs(0.010, 0.014))
    assert made == ("reject", "New model is 1.0% worse at 40.0% more cost (95% interval -3.0 to 0.5, 148 posts)")


def test_the_reason_has_no_percentage_if_production_scores_zero() -> None:
    found = settled(1.0, None, more=0)
    assert recommend(0.0, 0.4, found, RetrainingSettings()) == (
        "promote",
        "New model scores 0.4000 against 0 (148 posts)",
    )


def promotions_of_equal_models(posts: int, comparisons: int) -> float:
    """Return the share of equal models found better at 0.95, by the test alone."""
    rng = np.random.default_rng(SIMULATION_SEED)
    common = 1.5 + autoregressive(rng, (comparisons, posts), 1.0)
    first, second = (np.exp(common + autoregressive(rng, (comparisons, posts), 0.5)) for _ in range(2))
    better = 0
    for sides in zip(first, second, strict=True):
        a, b = (np.column_stack([errors <= 6, errors]) for errors in sides)
        better += bootstrap_comparison(a, b, TIMING.overall_score).probability_better >= 0.95
    return better / comparisons


@pytest.mark.slow
def test_equal_models_are_rarely_found_better_on_few_posts_too() -> None:
    """Without the wider interval for few blocks, it would be one in eight."""
    assert promotions_of_equal_models(20, 1000) <= 0.09


def test_the_minimum_detectable_effect_is_detected_in_four_of_five_cases() -> None:
    """One figure a post, independent and normal: the standard error is known, 10% of a's score at 100 posts."""
    rng = np.random.default_rng(6)
    a = np.full((100, 1), 1.0)
    b = a + rng.normal(size=(100, 1))
    found = bootstrap_comparison(a, b, lambda means: means[..., 0], confidence=0.9)
    assert found.smallest_detectable_percentage
    assert found.smallest_detectable_percentage == pytest.approx((1.2816 + 0.8416) * 10, rel=0.25)
    surer = bootstrap_comparison(a, b, lambda means: means[..., 0], confidence=0.99)
    assert surer.smallest_detectable_percentage
    ratio = surer.smallest_detectable_percentage / found.smallest_detectable_percentage
    assert ratio == pytest.approx((2.3263 + 0.8416) / (1.2816 + 0.8416), rel=1e-3)
    assert found.interval_percentage
    low, high = found.interval_percentage
    assert high - low == pytest.approx(2 * 1.96 * 10, rel=0.25)
    assert high - low > 2 * 1.7 * 10


def test_the_required_sample_size_follows_the_square_root_law() -> None:
    rng = np.random.default_rng(6)
    noise = rng.normal(size=(100, 1))
    a = np.full((100, 1), 1.0)
    b = a + 0.1 + (noise - noise.mean()) / noise.std()
    found = bootstrap_comparison(a, b, lambda means: means[..., 0])
    assert found.more_posts == pytest.approx((1.6449 + 0.8416) ** 2 * 100 - 100, rel=0.4)


def test_there_is_no_percentage_if_production_scores_zero_in_many_resamples() -> None:
    """One hit in 300: resamples without it have no percentage, and those with it all give -100%."""
    hopeless = np.column_stack([np.zeros(300), np.full(300, 100.0)])
    lucky = hopeless.copy()
    lucky[5, 0] = 1
    found = bootstrap_comparison(lucky, hopeless, TIMING.overall_score)
    assert found.interval_percentage is None
    assert found.smallest_detectable_percentage is None


@pytest.mark.parametrize(
    ("new", "better", "interval", "words"),
    [
        (0.6048, 0.97, (0.1, 2.5), "it is better, but an improvement of 2% is not ruled out"),
        (0.633, 0.9499, (0.1, 9.9), f"better with probability 0.94, 0.95 required, {SETTLE}"),
    ],
)
def test_the_reason_never_requires_a_confidence_that_is_reached(
    new: float, better: float, interval: tuple[float, float], words: str
) -> None:
    recommendation, reason = recommend(0.6, new, settled(better, interval), RetrainingSettings(min_confidence=0.95))
    assert recommendation == "not_enough_evidence"
    assert reason.endswith(f"; {words}")


def test_the_interval_of_a_score_covers_the_true_score_in_95_percent() -> None:
    rng = np.random.default_rng(SIMULATION_SEED)
    held = 0
    for errors in 10 + autoregressive(rng, (400, POSTS), 3.0):
        low, high = score_interval(errors[:, None], lambda means: means[..., 0]) or (0.0, 0.0)
        held += low <= 10 <= high
    assert 0.91 <= held / 400 <= 0.98


def test_a_single_post_gives_no_interval() -> None:
    assert score_interval(np.ones((1, 2)), TIMING.overall_score) is None

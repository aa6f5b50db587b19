"""Sequential comparison: the stakes, the e-process and its interval, and that one may look after every post."""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.equal_forecasters import (
    DrawnOutcomes,
    autocorrelated,
    false_calls,
    independent,
    of_changing_size,
    skewed,
)
from benchmarks.live import fleet, forecast, prepare, rescaled
from retrainer.evaluation.sequential import (
    ConfidenceSequence,
    EProcess,
    Interval,
    Stakes,
    crps_stakes,
    score_stakes,
    select_by_e_bh,
)
from retrainer.model_types import get_model_type
from retrainer.model_types.base import hours_between, utc_times
from retrainer.model_types.timing import TimingForecasts, TimingTargets, pinball_loss
from retrainer.posts.sample import sample_posts

if TYPE_CHECKING:
    from benchmarks.equal_forecasters import Draw

KINDS = {
    "independent": independent,
    "skewed": skewed,
    "of changing size": of_changing_size,
    "autocorrelated 0.05": autocorrelated(0.05),
    "autocorrelated 0.1": autocorrelated(0.1),
}


def forecasts(seed: int, posts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (posts, 99) quantiles of two forecasters, and the waits."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(size=(posts, 1)))
    levels = np.arange(1, 100) / 100
    quantiles = -np.log1p(-levels) * scale
    other = -np.log1p(-levels) * scale * 2 * np.exp(0.2 * rng.normal(size=(posts, 1)))
    return quantiles, other, rng.exponential(scale[:, 0])


def stakes_of(seed: int = 5, posts: int = 700) -> Stakes:
    return crps_stakes(*forecasts(seed, posts))


def interval_of(stakes: Stakes) -> Interval:
    """Return the interval after all posts."""
    sequence = ConfidenceSequence()
    sequence.update(stakes)
    return sequence.interval()


def crps(quantiles: np.ndarray, waits: np.ndarray) -> np.ndarray:
    return np.asarray(2 * pinball_loss(quantiles, waits).mean(axis=1))


# The stakes


def test_the_loss_is_the_crps_if_nothing_is_capped() -> None:
    quantiles, other, waits = forecasts(1, 50)
    later = np.maximum(quantiles[:, 94], other[:, 94])
    quantiles, other = np.minimum(quantiles, later[:, None]), np.minimum(other, later[:, None])
    waits = np.minimum(waits, later)
    stakes = crps_stakes(quantiles, other, waits)
    timing = get_model_type("timing")
    for loss, of in ((stakes.loss, quantiles), (stakes.other_loss, other)):
        for row in range(len(waits)):
            metrics = timing.score(TimingForecasts(of[[row]], of[row, [49]]), TimingTargets(waits[[row]]))
            assert loss[row] == pytest.approx(metrics["crps_hours"], rel=1e-12)


def test_quantiles_and_waits_are_capped_at_the_later_95_percent_quantile() -> None:
    quantiles, other, waits = forecasts(2, 40)
    waits[:20] *= 1000
    cap = np.maximum(quantiles[:, 94], other[:, 94])
    stakes = crps_stakes(quantiles, other, waits)
    np.testing.assert_allclose(stakes.loss, crps(np.minimum(quantiles, cap[:, None]), np.minimum(waits, cap)))
    np.testing.assert_allclose(stakes.other_loss, crps(np.minimum(other, cap[:, None]), np.minimum(waits, cap)))


hours = st.one_of(st.sampled_from([0.0, 1.0, 5.0]), st.floats(0, 1e6))
quantile_rows = st.lists(hours, min_size=4, max_size=12).map(
    lambda knots: np.interp(np.linspace(0, 1, 99), np.linspace(0, 1, len(knots)), sorted(knots))[None, :]
)


@given(one=quantile_rows, other=quantile_rows, wait=hours)
@settings(max_examples=40, deadline=None)
def test_no_outcome_loses_more_than_the_stakes(one: np.ndarray, other: np.ndarray, wait: float) -> None:
    stakes = Stakes(*(float(column[0]) for column in crps_stakes(one, other, np.array([wait]))))  # type: ignore[arg-type]
    rounding = 1e-9 * (1 + stakes.most)
    assert -stakes.other_lose - rounding <= stakes.loss - stakes.other_loss <= stakes.lose + rounding
    assert 0 <= stakes.loss <= stakes.most + rounding


def test_the_stakes_are_reached() -> None:
    quantiles, other, _ = forecasts(3, 5)
    cap = np.maximum(quantiles[:, 94], other[:, 94])
    for row in range(5):
        outcomes = np.concatenate([quantiles[row], other[row], [0, cap[row]]])
        count = len(outcomes)
        stakes = crps_stakes(np.tile(quantiles[row], (count, 1)), np.tile(other[row], (count, 1)), outcomes)
        difference = stakes.loss - stakes.other_loss
        assert stakes.lose[0] == pytest.approx(difference.max(), abs=1e-12)
        assert stakes.other_lose[0] == pytest.approx(-difference.min(), abs=1e-12)
        assert stakes.most[0] == pytest.approx(stakes.loss.max(), abs=1e-12)


# The e-process


def e_values_by_the_book(stakes: Stakes, advantage: float) -> tuple[float, float]:
    """Return the logarithms of E after all posts, computed one post and one bet at a time."""
    wealths = {bet: [0.0, 0.0] for bet in np.geomspace(0.02, 0.95, 24)}
    before: list[float] = []
    for a, b, lose, other_lose, most in zip(*stakes, strict=True):
        floor = float(np.median(before[-200:])) if before else 0.0
        below, above = lose + max(-advantage, 0) * most, other_lose + max(advantage, 0) * most
        share = ((1 - advantage) * a - b) / max(below, above, floor)
        before.append(max(lose, other_lose))
        for bet, wealth in wealths.items():
            wealth[0] += math.log(1 + bet * share)
            wealth[1] += math.log(1 - bet * share)
    worse, better = (np.log(np.mean([np.exp(wealth[side]) for wealth in wealths.values()])) for side in (0, 1))
    return float(worse), float(better)


def test_the_evidence_is_the_mean_wealth_of_all_bets() -> None:
    stakes = stakes_of(posts=450)
    process = EProcess()
    process.update(stakes)
    assert (process.log_worse, process.log_better) == pytest.approx(e_values_by_the_book(stakes, 0.0), rel=1e-9)
    assert process.worse == pytest.approx(math.exp(process.log_worse))
    assert process.better == pytest.approx(math.exp(process.log_better))


def test_the_evidence_is_the_same_however_the_posts_are_cut() -> None:
    stakes = stakes_of(posts=1300)
    whole, single, cut = EProcess(), EProcess(), EProcess()
    whole.update(stakes)
    for row in range(1300):
        single.update(stakes.rows(row, row + 1))
    edges = [0, 0, 1, 199, 200, 201, 950, 1300]
    traces = [cut.trace(stakes.rows(*pair)) for pair in itertools.pairwise(edges)]
    assert whole.to_bytes() == single.to_bytes() == cut.to_bytes()
    assert np.concatenate(traces)[-1].tolist() == [whole.log_worse, whole.log_better]
    assert whole.count == 1300


def test_a_post_does_not_depend_on_later_ones() -> None:
    stakes = stakes_of(posts=500)
    changed = Stakes(*(np.concatenate([column[:300], 50 * column[300:]]) for column in stakes))
    assert (EProcess().trace(stakes)[:300] == EProcess().trace(changed)[:300]).all()


def test_ties_leave_the_evidence_as_it_is() -> None:
    quantiles, _, waits = forecasts(4, 300)
    process = EProcess()
    process.update(stakes_of(posts=250))
    before = (process.worse, process.better)
    process.update(crps_stakes(quantiles, quantiles, waits))
    assert (process.worse, process.better) == before
    equal = score_stakes(np.full(9, 0.3), np.full(9, 0.3))
    process.update(equal)
    assert (process.worse, process.better) == before


def test_differences_within_rounding_are_no_evidence() -> None:
    quantiles, _, waits = forecasts(4, 1500)
    process = EProcess()
    process.update(crps_stakes(quantiles, quantiles * (1 + 1e-9), waits))
    assert (process.worse, process.better) == pytest.approx((1, 1), abs=0.01)


def test_worse_and_better_change_places_with_the_sides() -> None:
    quantiles, other, waits = forecasts(6, 400)
    one, two = EProcess(), EProcess()
    one.update(crps_stakes(quantiles, other, waits))
    two.update(crps_stakes(other, quantiles, waits))
    assert (one.log_worse, one.log_better) == pytest.approx((two.log_better, two.log_worse))
    assert one.log_better > 2


def test_overwhelming_evidence_is_finite() -> None:
    process = EProcess()
    process.update(score_stakes(np.zeros(5000), np.ones(5000)))
    assert process.worse == 1e300
    assert process.better < 1e-40
    assert process.log_worse > 3000


def test_a_stored_state_goes_on_where_it_stopped() -> None:
    stakes = stakes_of(posts=600)
    for stop in (0, 1, 150, 450):
        process = EProcess()
        process.update(stakes.rows(0, stop))
        state = process.to_bytes()
        assert len(state) <= 2002
        restored = EProcess.from_bytes(state)
        assert (restored.to_bytes(), restored.count) == (state, stop)
        process.update(stakes.rows(stop, 600))
        restored.update(stakes.rows(stop, 600))
        assert restored.to_bytes() == process.to_bytes()


def test_a_damaged_state_is_refused() -> None:
    process = EProcess()
    process.update(stakes_of(posts=30))
    state = process.to_bytes()
    flipped = [state[:at] + bytes([state[at] ^ 16]) + state[at + 1 :] for at in range(len(state))]
    for damaged in [b"", state[:3], state[:-1], state + b"\0", *flipped]:
        with pytest.raises(ValueError, match="damaged"):
            EProcess.from_bytes(damaged)
    later = b"EP02" + state[4:-4]
    with pytest.raises(ValueError, match="unknown version b'EP02'"):
        EProcess.from_bytes(later + struct.pack("<I", zlib.crc32(later)))


# The interval


def test_the_interval_is_where_neither_side_has_evidence() -> None:
    stakes = stakes_of(posts=450)
    interval = interval_of(stakes)
    assert interval.low is not None
    assert interval.high is not None
    assert interval.estimate is not None
    assert interval.low < interval.estimate < interval.high < 0
    # The limits are interpolated between steps of 0.01.
    for advantage, side in ((interval.low, 0), (interval.high, 1)):
        step = math.floor(advantage * 100) / 100
        evidence = [e_values_by_the_book(stakes, at)[side] for at in (step, step + 0.01)]
        assert min(evidence) <= math.log(40) <= max(evidence)
    process = EProcess()
    process.update(stakes)
    assert process.better >= 40


def test_the_interval_is_the_same_however_the_posts_are_cut() -> None:
    stakes = stakes_of(posts=1200)
    sequence = ConfidenceSequence()
    for start, stop in itertools.pairwise([0, 7, 250, 1200]):
        sequence.update(stakes.rows(start, stop))
        so_far, alone = sequence.interval(), interval_of(stakes.rows(0, stop))
        assert [limit is None for limit in so_far] == [limit is None for limit in alone]
        assert [x for x in so_far if x is not None] == pytest.approx([x for x in alone if x is not None], rel=1e-9)


def test_few_posts_leave_the_interval_open() -> None:
    assert interval_of(stakes_of(posts=0)) == (None, None, None)
    low, high, estimate = interval_of(stakes_of(posts=3))
    assert (low, high) == (None, None)
    assert estimate is not None


def test_limits_beyond_the_grid_are_open() -> None:
    good, bad = np.full(400, 0.9), np.full(400, 0.1)
    low, high, estimate = interval_of(score_stakes(bad, good))
    assert (low, high) == (0.6, None)  # the loss is 89% smaller
    assert estimate == pytest.approx(8 / 9)
    low, high, estimate = interval_of(score_stakes(good, bad))
    assert (low, high) == (None, -0.6)
    assert estimate == pytest.approx(-8)


# A fleet


def test_e_bh_allows_a_lower_threshold_the_more_pass_it() -> None:
    assert select_by_e_bh({}, 10, 0.1) == set()
    assert select_by_e_bh({"a": 99.0}, 10, 0.1) == set()
    assert select_by_e_bh({"a": 100.0, "b": 49.0}, 10, 0.1) == {"a"}
    assert select_by_e_bh({"a": 60.0, "b": 50.0, "c": 1.0}, 10, 0.1) == {"a", "b"}  # neither passes alone
    assert select_by_e_bh({"a": 60.0, "b": 50.0}, 2, 0.05) == {"a", "b"}


# Looking after every post


def test_a_look_after_every_post_rarely_prefers_one_of_two_equal_forecasters() -> None:
    calls = np.array([false_calls(draw, streams=30) for draw in KINDS.values()])
    evidence, bootstrap = calls.mean(axis=0)
    assert evidence <= 0.05
    assert bootstrap >= 0.3


class RealForecasts(NamedTuple):
    """Forecasts of 2,000 posts by `baseline`, trained on 1,200, and the waits.

    The outcomes are drawn so that forecasts trained on the 200 last of these are as good.
    """

    quantiles: np.ndarray
    waits: np.ndarray
    drawn: DrawnOutcomes


@pytest.fixture(scope="module")
def real_forecasts() -> RealForecasts:
    posts = prepare(sample_posts(count=3300))
    rows = np.arange(1200, 3200)
    times = utc_times(posts)
    later = posts.iloc[1000:].reset_index(drop=True)
    one, other = forecast("baseline", posts, 1200, rows), forecast("baseline", later, 200, rows - 1000)
    return RealForecasts(one, hours_between(times[rows - 1], times[rows]), DrawnOutcomes(one, other))


@pytest.mark.slow
def test_false_calls_of_a_look_after_every_post(real_forecasts: RealForecasts) -> None:
    draws: dict[str, Draw] = {**KINDS, "drawn from real forecasts": real_forecasts.drawn}
    for kind, draw in draws.items():
        evidence, bootstrap = false_calls(draw, streams=500)
        assert evidence <= (0.07 if kind == "autocorrelated 0.1" else 0.05), kind
        assert bootstrap >= 0.3, kind


@pytest.mark.slow
def test_a_fleet_keeps_its_rate_of_false_rollbacks(real_forecasts: RealForecasts) -> None:
    one, waits, drawn = real_forecasts
    found = fleet(drawn, crps_stakes(rescaled(one, waits, 0.15, slow=True), one, waits))
    assert found["found"] >= 45
    assert found["wrong"] <= 0.1 * (found["found"] + found["wrong"])


@pytest.mark.slow
def test_the_interval_covers_the_truth() -> None:
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        loss, other_loss = rng.random((2, 800)) * [[1.0], [0.9]]
        low, high, _ = interval_of(score_stakes(1 - loss, 1 - other_loss))
        covered += (low is None or low <= 0.1) and (high is None or high >= 0.1)
    assert covered >= 95

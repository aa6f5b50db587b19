"""The test for drift: few false alarms however often one looks, and changes that matter are found."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from benchmarks.drift import (
    LATER_DAYS,
    MONDAY,
    QUIET_DAYS,
    RATES,
    RHYTHMS,
    TRAINING_DAYS,
    Scenario,
    Stream,
    changes_of,
    simulate,
)
from retrainer.evaluation.drift import (
    BETS,
    DRIFT_KINDS,
    MIN_TRAINING_DAYS,
    THRESHOLD,
    Changes,
    DriftKind,
    detect,
    fewest_days,
    find_shift,
    rank,
)

DAY = 86_400_000_000
NOTHING = Scenario("nothing", "rate")
CHANGE = (MONDAY // DAY + TRAINING_DAYS + QUIET_DAYS) * DAY  # when simulated streams change


def measured(stream: Stream, days: int = TRAINING_DAYS + LATER_DAYS) -> Changes:
    return changes_of(stream, TRAINING_DAYS, days)


def first_alarm(changes: Changes, kind: DriftKind) -> int | None:
    """The first later day with an alarm, whether the change lasted or not."""
    alarms = (changes.kinds[kind].evidence >= THRESHOLD) & changes.kinds[kind].matters
    return int(alarms.argmax()) if alarms.any() else None


def with_lengths(stream: Stream, factor: float, no_text: float) -> Stream:
    lengths = stream.lengths * np.where(stream.times >= CHANGE, factor, 1.0)
    lengths[(stream.times >= CHANGE) & (np.random.default_rng(0).random(len(lengths)) < no_text)] = np.nan
    return Stream(stream.times, lengths)


def count_false_alarms(
    streams: int, rates: tuple[float, ...] = RATES
) -> tuple[dict[tuple[str, DriftKind], int], float]:
    """Return the alarms of stationary streams by rhythm and kind, and the years of each rhythm."""
    alarms = dict.fromkeys(product(RHYTHMS, DRIFT_KINDS), 0)
    for rhythm, (place, rate), number in product(RHYTHMS, enumerate(rates), range(streams)):
        changes = measured(simulate(rate, rhythm, NOTHING, np.random.default_rng((7, place, number))))
        for kind in DRIFT_KINDS:
            alarms[rhythm, kind] += first_alarm(changes, kind) is not None
    return alarms, len(rates) * streams * LATER_DAYS / 365


def test_stationary_streams_give_few_alarms() -> None:
    """At most one in three years is promised; it is far less."""
    alarms, years = count_false_alarms(streams=4, rates=(5.0,))
    assert years == 8
    assert sum(alarms.values()) <= 3, alarms


@pytest.mark.slow
def test_stationary_streams_give_few_alarms_in_a_hundred_years() -> None:
    alarms, years = count_false_alarms(streams=8)
    assert years == 48, "of each rhythm"
    for (rhythm, kind), count in alarms.items():
        assert count / years <= (1 / 3 if rhythm == "autocorrelated" else 0.1), (rhythm, kind, count)


CHANGED = [
    ("rate", Scenario("twice", "rate", factor=2.0), 1.0, 0.0, 80),
    ("rate", Scenario("half", "rate", factor=0.5), 1.0, 0.0, 120),
    ("gaps", Scenario("twice", "gaps", factor=2.0), 1.0, 0.0, 80),
    ("hours", Scenario("6 hours later", "hours", hours=6), 1.0, 0.0, 60),
    ("length", NOTHING, 0.5, 0.0, 60),
    ("length", NOTHING, 2.0, 0.0, 60),
    ("no_text", NOTHING, 1.0, 0.3, 60),
]


@pytest.mark.parametrize(("kind", "scenario", "factor", "no_text", "delay"), CHANGED)
@pytest.mark.parametrize("seed", [3, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 9))])
def test_a_change_is_found(
    kind: DriftKind, scenario: Scenario, factor: float, no_text: float, delay: int, seed: int
) -> None:
    stream = simulate(5.0, "independent", scenario, np.random.default_rng(seed))
    changes = measured(with_lengths(stream, factor, no_text))
    alarm = first_alarm(changes, kind)
    assert alarm is not None
    assert QUIET_DAYS <= alarm <= QUIET_DAYS + delay
    assert changes.kinds[kind].alarm_row == alarm


@pytest.mark.parametrize("seed", [3, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 9))])
def test_a_change_of_5_percent_is_none(seed: int) -> None:
    scenario = Scenario("5% more", "rate", factor=1.05)
    stream = with_lengths(simulate(5.0, "independent", scenario, np.random.default_rng(seed)), 1.05, 0.0025)
    changes = measured(stream)
    assert {kind: changes.kinds[kind].alarm_row for kind in DRIFT_KINDS} == dict.fromkeys(DRIFT_KINDS)


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_change_of_the_rate_is_none_of_hours_or_texts(factor: float) -> None:
    stream = simulate(5.0, "independent", Scenario("rate", "rate", factor=factor), np.random.default_rng(5))
    changes = measured(stream)
    assert changes.kinds["rate"].alarm_row is not None
    for kind in ("hours", "length", "no_text"):
        assert changes.kinds[kind].alarm_row is None, kind


def at_nine(counts: list[int]) -> Stream:
    """A program that posts so many times a day, once a minute from nine o'clock on."""
    times = [
        (MONDAY // DAY + day) * DAY + 9 * DAY // 24 + minute * 60_000_000
        for day, count in enumerate(counts)
        for minute in range(count)
    ]
    return Stream(np.array(times, dtype=np.int64), np.full(len(times), 50.0))


@pytest.mark.slow
def test_a_program_that_posts_like_a_clock_is_judged_by_what_matters() -> None:
    """Each day is above all training days, but 5% more posts are not a reason to do anything."""
    training, later = [20] * TRAINING_DAYS, [21] * 200
    slightly = measured(at_nine(training + later), TRAINING_DAYS + 200)
    assert slightly.kinds["rate"].evidence[-1] > THRESHOLD
    assert slightly.kinds["rate"].alarm_row is None
    same = measured(at_nine([20] * (TRAINING_DAYS + 200)), TRAINING_DAYS + 200)
    assert all(change.evidence[-1] < THRESHOLD for change in same.kinds.values())
    more = measured(at_nine(training + [30] * 200), TRAINING_DAYS + 200)
    assert more.kinds["rate"].alarm_row is not None


def test_days_without_posts_count() -> None:
    stream = at_nine([3] * TRAINING_DAYS)
    changes = measured(stream, TRAINING_DAYS + 60)
    rate = changes.kinds["rate"]
    assert (changes.days, rate.latest) == (60, 0)
    assert rate.alarm_row is not None
    assert changes.kinds["hours"].alarm_row is None
    assert changes.kinds["gaps"].latest is None


def test_an_incomplete_day_does_not_count() -> None:
    stream = simulate(5.0, "independent", NOTHING, np.random.default_rng(1))
    end = TRAINING_DAYS + 50
    until = int(np.searchsorted(stream.times, MONDAY + end * DAY))
    cut = Stream(stream.times[:until], stream.lengths[:until])
    for kind in DRIFT_KINDS:
        whole, without = measured(stream, end).kinds[kind], measured(cut, end).kinds[kind]
        assert np.array_equal(whole.evidence, without.evidence)
        assert whole.latest == without.latest
    assert measured(stream, end).days == 49 + (stream.times[0] // DAY == MONDAY // DAY)


def test_too_few_training_days_are_not_measured() -> None:
    few = at_nine([3] * (MIN_TRAINING_DAYS + 50))
    first = changes_of(few, MIN_TRAINING_DAYS + 1, MIN_TRAINING_DAYS + 50)  # the first and the last day do not count
    enough = changes_of(few, MIN_TRAINING_DAYS + 2, MIN_TRAINING_DAYS + 50)
    assert (first.kinds["rate"].training_days, first.kinds["rate"].is_measured) == (27, False)
    assert (enough.kinds["rate"].training_days, enough.kinds["rate"].is_measured) == (28, True)
    none = changes_of(few, MIN_TRAINING_DAYS + 50, MIN_TRAINING_DAYS + 50)
    assert (none.days, none.kinds["rate"].is_measured) == (0, False)
    one_day = changes_of(at_nine([3]), 1, 1)
    assert not any(change.is_measured for change in one_day.kinds.values())


@pytest.mark.slow
def test_few_training_days_give_no_more_false_alarms() -> None:
    alarms = 0
    for seed in range(8):
        stream = simulate(5.0, "independent", NOTHING, np.random.default_rng((11, seed)))
        changes = changes_of(stream, 40, 40 + 365)
        alarms += sum(first_alarm(changes, kind) is not None for kind in DRIFT_KINDS)
    assert alarms <= 8, "40 years of the kinds"


def test_the_rank_has_mean_0_with_ties_and_few_values() -> None:
    values = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 4.0])
    ranks = [rank(values[[row]], np.delete(values, row))[0] for row in range(len(values))]
    assert np.mean(ranks) == pytest.approx(0, abs=1e-12)
    assert rank(np.array([5.0, -1.0, 0.0, np.nan]), values).tolist()[:3] == [6 / 7, -6 / 7, -3 / 7]
    assert np.isnan(rank(np.array([np.nan]), values)[0])


def test_the_detector_is_that_of_shiryaev_and_roberts() -> None:
    observations = np.random.default_rng(0).uniform(-1, 1, 50)
    observations[[3, 20]] = np.nan
    bets = np.array([0.5, -0.9])
    r = [0.0, 0.0]
    for x, found in zip(observations, detect(observations, 0.1, bets), strict=True):
        if not np.isnan(x):
            r = [(one + 1) * (1 + bet * x) / (1 + abs(bet) * 0.1) for one, bet in zip(r, bets, strict=True)]
        assert found == pytest.approx(sum(r) / 2)
    assert np.isfinite(detect(np.ones(5_000), 0.1, BETS)).all()


def test_no_alarm_comes_before_the_fewest_days() -> None:
    evidence = detect(np.ones(60), 0.05, BETS)
    assert evidence[fewest_days() - 2] < THRESHOLD <= evidence[fewest_days() - 1]


@pytest.mark.parametrize("hours", [-8, -2, -0.5, 0.5, 2, 6, 11])
def test_a_shift_of_the_daily_profile_is_found(hours: float) -> None:
    generator = np.random.default_rng(2)
    before = generator.normal(9, 2, 4_000)
    shares = [np.bincount((side % 24 * 4).astype(int), minlength=96) / len(side) for side in (before, before + hours)]
    assert find_shift(*shares) == hours


def test_a_profile_that_did_not_move_has_no_shift() -> None:
    generator = np.random.default_rng(2)
    morning = np.bincount((generator.normal(9, 2, 4_000) % 24 * 4).astype(int), minlength=96) / 4_000
    assert find_shift(morning, morning) is None
    assert find_shift(morning, np.full(96, 1 / 96)) is None

"""Whether a stream of posts has changed since a model was trained on it, tested after every day.

Each day gives one observation of each kind: its rank among the training days, scaled to [-1, 1], which has mean 0 as
long as the stream stays as it was. A Shiryaev-Roberts e-detector bets on each day: R ← (R + 1) · (1 + λx) / (1 + |λ|
tol). If the mean of x stays within ± tol, the expected R after n days is at most n, so an alarm at 3 · 365 is a false
one at most once in about three years, however often one looks. Shin, Ramdas and Rinaldo 2023, "E-detectors: a
nonparametric framework for sequential change detection".

A day is one of UTC. The first and the last training day are left out, since they may be incomplete.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

DriftKind = Literal["rate", "gaps", "hours", "length", "no_text"]
DRIFT_KINDS: tuple[DriftKind, ...] = ("rate", "gaps", "hours", "length", "no_text")

THRESHOLD = 3 * 365.0
MIN_TRAINING_DAYS = 28  # with an observation
BETS = np.geomspace(0.02, 0.95, 10)
TOLERANCE = 0.1  # of the mean rank
HOURS_TOLERANCE = 0.05
MIN_RATIO = 1.2  # a change of rate, gaps or length by less does not matter
MIN_SHARE = 0.1  # nor one of so small a share of the posts

_WINDOW_DAYS = 28  # of the latest figures; more if fewer posts than these come in it
_WINDOW_POSTS = 30
_MAX_WINDOW_DAYS = 365
_BOTH_SIGNS = np.concatenate([BETS, -BETS])
_DAY = 86_400_000_000  # in microseconds
_WEEK_HOURS = 168
_MAX_LOG = 230.0  # of R, so that years of alarm do not overflow
_QUARTERS = 96  # of an hour in a day
_SMOOTHING_HOURS = 1.5
_MONDAY = 3  # the epoch was a Thursday: day 4 was a Monday


@dataclass(frozen=True)
class Change:
    """How one kind of figure has changed since the training days.

    Attributes:
        training: (k,) the observations of the training days; NaN for a day without one.
        ranks: (days,) the rank of each later day among them; NaN for a day without one, or with too few of them.
        evidence: (days,) the mean R after each later day.
        matters: (days,) whether the change of the latest days, seen after each later day, is large enough to matter.
        before: the figure of the training days: posts a day, the geometric mean of the gaps (hours), characters, the
            share of posts without text; None for hours, or if there is none.
        latest: the same of the latest days.
    """

    training: Floats
    ranks: Floats
    evidence: Floats
    matters: NDArray[np.bool_]
    before: float | None
    latest: float | None

    @property
    def training_days(self) -> int:
        """The number of training days with an observation."""
        return int((~np.isnan(self.training)).sum())

    @property
    def is_measured(self) -> bool:
        """Whether there are enough days."""
        return self.training_days >= MIN_TRAINING_DAYS and len(self.evidence) > 0

    @property
    def alarm_row(self) -> int | None:
        """The first later day with an alarm; None if there is none, or if the change does not matter any more."""
        alarms = (self.evidence >= THRESHOLD) & self.matters
        return int(alarms.argmax()) if self.is_measured and alarms.any() and self.matters[-1] else None


class Profile(NamedTuple):
    """When posts come: (96,) shares of the quarters of an hour of the day, and (7,) of the weekdays, Monday first."""

    day: Floats
    week: Floats


@dataclass(frozen=True)
class Changes:
    """How a stream has changed.

    Attributes:
        kinds: the change of each kind.
        first_day: the first later day.
        days: the number of later days, all complete.
        window_days: the number of latest days that figures are of.
        before: when the posts of the training days came.
        latest: when those of the latest days came.
    """

    kinds: dict[DriftKind, Change]
    first_day: np.datetime64
    days: int
    window_days: int
    before: Profile
    latest: Profile


def measure_changes(times: NDArray[np.datetime64], lengths: Floats, training: int, end: np.datetime64) -> Changes:
    """Compare the days after the training posts with the training days.

    Args:
        times: (n,) times of the posts, datetime64[us] in UTC, ascending.
        lengths: (n,) lengths of their texts; NaN for a post without text.
        training: the number of posts that were trained on, the first ones; at least one.
        end: the first day that is not complete yet.
    """
    microseconds = times.astype("datetime64[us]").astype(np.int64)
    days = microseconds // _DAY
    first, last = int(days[0]) + 1, int(days[training - 1])  # without the first and the last training day
    stop = int(end.astype("datetime64[D]").astype(np.int64))
    old = _Period(first, max(last, first), days[:training])
    weeks = _Period(last - old.count // 7 * 7, last, days[:training])
    new = _Period(last + 1, max(stop, last + 1), days)
    window = _window(old)
    gaps = np.concatenate([[np.nan], np.maximum(np.diff(microseconds) / _DAY * 24, 1 / 3600)])
    no_text = np.isnan(lengths).astype(np.float64)
    bins = (microseconds // (_DAY // 24) + _MONDAY * 24) % _WEEK_HOURS  # from Monday 00:00 UTC on
    profiles = _Profiles(old, new, microseconds, window)
    kinds: dict[DriftKind, Change] = {
        "rate": _measure_rate(old, new, window),
        "gaps": _measure_figure(old, new, window, gaps, logarithmic=True),
        "hours": _measure_hours(weeks, new, bins, profiles),
        "length": _measure_figure(old, new, window, lengths),
        "no_text": _measure_share(old, new, window, no_text),
    }
    return Changes(
        kinds, np.datetime64(new.first, "D"), new.count, min(window, new.count), profiles.before, profiles.latest
    )


def detect(observations: Floats, tolerance: float, bets: Floats) -> Floats:
    """Return the mean R of the e-detectors after each day.

    Args:
        observations: (days,) in [-1, 1]; NaN for a day without one, which leaves R as it is.
        tolerance: the mean that is no change.
        bets: (k,) in (-1, 1), each of one detector; their sign is the direction.
    """
    known = ~np.isnan(observations)
    growth = np.log1p(np.outer(observations[known], bets)) - np.log1p(np.abs(bets) * tolerance)
    total = np.cumsum(growth, axis=0)
    # R is the sum, over all days on which the bets may have begun, of what they have grown to.
    logs = total + np.logaddexp.accumulate(growth - total, axis=0)
    evidence = np.concatenate([[0.0], np.exp(np.minimum(logs, _MAX_LOG)).mean(axis=1)])
    return np.asarray(evidence[np.cumsum(known)])


def rank(values: Floats, reference: Floats) -> Floats:
    """Return the ranks of values in a reference, scaled to [-1, 1]; ties count half, and NaN stays.

    The mean is 0 if a value and the reference are exchangeable, however small the reference is.
    """
    ordered = np.sort(reference[~np.isnan(reference)])
    order = np.argsort(values)  # NaN last; searching in order is several times as fast
    found = np.empty(len(values))
    found[order] = np.searchsorted(ordered, values[order], "left") + np.searchsorted(ordered, values[order], "right")
    return np.where(np.isnan(values), np.nan, (found - len(ordered)) / (len(ordered) + 1.0))


def fewest_days() -> int:
    """Return the number of later days before which there can be no alarm."""
    return int((detect(np.ones(60), HOURS_TOLERANCE, BETS) < THRESHOLD).sum()) + 1


def find_shift(before: Floats, latest: Floats) -> float | None:
    """Return by how many hours a daily profile moved, by circular cross-correlation; None if that does not explain it.

    Args:
        before, latest: (96,) shares of the quarters of an hour.

    Returns:
        Between -12 and 12, later is positive, in steps of half an hour.
    """
    hours = np.arange(_QUARTERS) / 4
    kernel = _circular(hours, 24.0, 0.75)
    old, new = (np.real(np.fft.ifft(np.fft.fft(side) * np.fft.fft(kernel))) for side in (before, latest))
    correlation = np.real(np.fft.ifft(np.fft.fft(new) * np.conj(np.fft.fft(old))))
    steps = int(correlation.argmax())
    steps -= _QUARTERS * (steps > _QUARTERS // 2)
    unexplained = ((new - np.roll(old, steps)) ** 2).sum()
    shift = round(steps / 2) / 2  # half hours
    return shift if shift and unexplained <= ((new - old) ** 2).sum() / 2 else None


class _Period:
    """Consecutive days, and the rows of the posts on them.

    Attributes:
        first: the number of the first day since the epoch.
        count: the number of days.
        rows: the rows of the posts.
        starts: (count + 1,) the row at which each day starts, relative to the first of `rows`.
        days: the day of each post, relative to the first day.
    """

    def __init__(self, first: int, stop: int, days: Integers) -> None:
        self.first = first
        self.count = stop - first
        bounds = np.searchsorted(days, np.arange(first, stop + 1))
        self.rows = slice(int(bounds[0]), int(bounds[-1]))
        self.starts = bounds - bounds[0]
        self.days = days[self.rows] - first

    def sums(self, values: Floats) -> Floats:
        """Return the (count,) sums of the values of posts by day, without NaN."""
        return np.bincount(self.days, np.nan_to_num(values), self.count).astype(np.float64)

    def counts(self, values: Floats | None = None) -> Floats:
        """Return the (count,) numbers of posts by day; only those with a value, if values are given."""
        return np.diff(self.starts).astype(np.float64) if values is None else self.sums(~np.isnan(values) * 1.0)


def _measure_rate(old: _Period, new: _Period, window: int) -> Change:
    counts, later = old.counts(), new.counts()
    before = float(counts.mean()) if old.count else None
    latest = _rolling(later, window) / np.minimum(np.arange(1, new.count + 1), window)
    return _change(counts, later, before, latest, _is_other(latest, before))


def _measure_figure(old: _Period, new: _Period, window: int, values: Floats, *, logarithmic: bool = False) -> Change:
    """Measure a change of a figure of posts, by the sum of its ranks among those of the training posts."""
    known, later = values[old.rows], values[new.rows]
    figures, later_figures = (np.log(known), np.log(later)) if logarithmic else (known, later)
    count, later_count = old.counts(known), _rolling(new.counts(later), window)
    mean = old.sums(figures).sum() / count.sum() if count.sum() else math.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        latest = _rolling(new.sums(later_figures), window) / later_count
    if logarithmic:
        mean, latest = np.exp(mean), np.exp(latest)
    before = None if math.isnan(mean) else float(mean)
    days = _per_day(old, rank(known, known)), _per_day(new, rank(later, known))
    return _change(*days, before, latest, _is_other(latest, before))


def _measure_share(old: _Period, new: _Period, window: int, has: Floats) -> Change:
    known, later = has[old.rows], has[new.rows]
    before = float(known.mean()) if len(known) else None
    with np.errstate(invalid="ignore"):
        latest = _rolling(new.sums(later), window) / _rolling(new.counts(), window)
    usual = before or 0.0
    with np.errstate(invalid="ignore"):
        matters = np.abs(latest - usual) >= MIN_SHARE
    return _change(_per_day(old, known - usual), _per_day(new, later - usual), before, latest, matters)


def _measure_hours(old: _Period, new: _Period, bins: Integers, profiles: _Profiles) -> Change:
    """Measure whether posts come at hours of the week at which fewer came."""
    density, known = _leave_one_out(old, bins[old.rows])
    later = density[bins[new.rows]]
    days = _per_day(old, rank(known, known)), _per_day(new, rank(later, known))
    latest = np.full(new.count, np.nan)
    return _change(*days, None, latest, profiles.moved >= MIN_SHARE, -BETS, HOURS_TOLERANCE)


def _change(
    known: Floats,
    later: Floats,
    before: float | None,
    latest: Floats,
    matters: NDArray[np.bool_],
    bets: Floats = _BOTH_SIGNS,
    tolerance: float = TOLERANCE,
) -> Change:
    training_days = int((~np.isnan(known)).sum())
    is_enough = training_days >= MIN_TRAINING_DAYS
    ranks = rank(later, known) if is_enough else np.full(len(later), np.nan)
    two_standard_errors = 2 / math.sqrt(3 * max(training_days, 1))  # of the mean rank; matters with few days
    evidence = detect(ranks, max(tolerance, two_standard_errors), bets)
    last = float(latest[-1]) if len(latest) and not np.isnan(latest[-1]) else None
    return Change(known, ranks, evidence, matters, before, last)


def _per_day(period: _Period, values: Floats) -> Floats:
    """Return the sum of the values of each day over the root of their number; NaN for a day without one.

    Its spread does not depend on the number of posts, so that a change of the rate alone is none of anything else.
    """
    counts = period.counts(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        per_day: Floats = np.where(counts > 0, period.sums(values) / np.sqrt(counts), np.nan)
    return per_day.round(9)  # ties stay ties


def _is_other(latest: Floats, before: float | None) -> NDArray[np.bool_]:
    """Whether a figure differs enough to matter; a missing one does not."""
    usual = before or 0.0
    with np.errstate(invalid="ignore"):
        return (latest > usual * MIN_RATIO) | (latest < usual / MIN_RATIO)


def _window(old: _Period) -> int:
    """Return the number of days that the latest figures are of."""
    posts = len(old.days)
    needed = math.ceil(_WINDOW_POSTS * old.count / posts) if posts else _MAX_WINDOW_DAYS
    return min(max(_WINDOW_DAYS, needed), _MAX_WINDOW_DAYS)


def _rolling(values: Floats, window: int) -> Floats:
    """Return the sums of the last `window` rows (of the first axis), up to each row."""
    total = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
    rows = np.arange(1, len(values) + 1)
    sums: Floats = total[rows] - total[np.maximum(rows - window, 0)]
    return sums


def _leave_one_out(old: _Period, bins: Integers) -> tuple[Floats, Floats]:
    """Return the (168,) density of posts by hour of the week, and that at each post without its own week.

    Args:
        old: whole weeks of training days.
        bins: the hour of the week of each post.
    """
    # With its own day, a training post would seem more usual than one yet to come; without it alone, less, since its
    # weekday would have a day fewer than the others.
    present, rows = np.unique(old.days // 7, return_inverse=True)
    counts = np.zeros((len(present), _WEEK_HOURS))
    np.add.at(counts, (rows, bins), 1.0)
    smooth = counts @ _week_kernel()
    totals = counts.sum(axis=1)
    uniform = 1 / _WEEK_HOURS  # the weight of one post
    density = (smooth.sum(axis=0) + uniform) / (totals.sum() + 1)
    others = (smooth.sum(axis=0) - smooth + uniform) / (totals.sum() - totals + 1)[:, None]
    return np.round(density, 12), np.round(others[rows, bins], 12)


def _week_kernel() -> Floats:
    """Return the (168, 168) weights by which a post counts at other hours: half on its weekday, half on any."""
    hours = np.arange(_WEEK_HOURS)
    week = _circular(hours.astype(np.float64), float(_WEEK_HOURS), _SMOOTHING_HOURS)
    day = np.tile(_circular(np.arange(24.0), 24.0, _SMOOTHING_HOURS), 7) / 7
    kernel: Floats = ((week + day) / 2)[(hours[:, None] - hours) % _WEEK_HOURS]
    return kernel


def _circular(hours: Floats, period: float, width: float) -> Floats:
    """Return the weights of a normal kernel at distances on a circle; their sum is 1."""
    distance = np.minimum(hours, period - hours)
    weights = np.exp(-((distance / width) ** 2) / 2)
    return np.asarray(weights / weights.sum())


class _Profiles:
    """When posts came on the training days and on the latest days.

    Attributes:
        before: on the training days.
        latest: on the latest days.
        moved: (days,) the share of the posts of the latest days that came at another hour, or on another weekday, than
            before, seen after each later day: the total variation distance.
    """

    def __init__(self, old: _Period, new: _Period, microseconds: Integers, window: int) -> None:
        quarters, weekdays = microseconds % _DAY // (_DAY // _QUARTERS), (microseconds // _DAY + _MONDAY) % 7
        self.before = Profile(*(_shares(*side) for side in ((quarters[old.rows], _QUARTERS), (weekdays[old.rows], 7))))
        tables = []
        for values, size in ((quarters[new.rows], _QUARTERS), (weekdays[new.rows], 7)):
            counts = np.bincount(new.days * size + values, minlength=new.count * size).reshape(new.count, size)
            sums = _rolling(counts.astype(np.float64), window)
            tables.append(sums / np.maximum(sums.sum(axis=1, keepdims=True), 1))
        self.latest = Profile(*(table[-1] if len(table) else np.zeros(table.shape[1]) for table in tables))
        hourly = tables[0].reshape(-1, 24, 4).sum(axis=2), self.before.day.reshape(24, 4).sum(axis=1)
        moved = [np.abs(latest - usual).sum(axis=1) / 2 for latest, usual in (hourly, (tables[1], self.before.week))]
        self.moved = np.maximum(*moved) * (tables[1].sum(axis=1) > 0)


def _shares(values: Integers, size: int) -> Floats:
    return np.asarray(np.bincount(values, minlength=size) / max(len(values), 1))

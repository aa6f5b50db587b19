"""The figures of timing forecasts that `benchmarks.timing` prints, besides the metrics of the model type."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.evaluation.bootstrap import block_length, score_interval
from retrainer.model_types.base import Origins, hours_between
from retrainer.model_types.timing import (
    INTERVAL_LEVEL,
    LEVELS,
    Timing,
    TimingForecasts,
    TimingTargets,
    pinball_loss,
    score_maximising_point,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from benchmarks.simulated import Process

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Times = NDArray[np.datetime64]

TIMING = Timing()
LONG_SILENCE_HOURS = 36.0
TAIL_GAPS = 10  # usual gaps

_DEPTHS = (0.0, 1.0, 3.0, 10.0, math.inf)  # of the silence, in usual gaps
_MIN_BIN = 10  # origins
_STEP_HOURS = 6.0  # between the origins in a long silence
_Z = 1.96
_LEAST_SURVIVAL = 0.02  # that the 99 quantiles can state well


@dataclass(frozen=True)
class Setting:
    """One kind of origins of a stream.

    Attributes:
        origins: the origins of the forecasts.
        targets: the actual waits.
        silence: (n,) hours since the last post.
        training_waits: waits of the same kind in the training part.
    """

    origins: Origins
    targets: TimingTargets
    silence: Floats
    training_waits: Floats

    @property
    def effective_gaps(self) -> float:
        """The effective number of gaps of all origins."""
        return effective_gaps(self.origins.position)


def effective_gaps(position: Integers) -> float:
    """Return Kish's effective number of gaps: origins in the same gap share its end.

    Args:
        position: (n,) the last post that each origin knows.
    """
    _, counts = np.unique(position, return_counts=True)
    return float(counts.sum() ** 2 / (counts**2).sum())


def crps(forecasts: TimingForecasts, waits: Floats) -> Floats:
    """Return (n,) twice the mean pinball loss over the levels, in hours."""
    found: Floats = 2 * pinball_loss(forecasts.quantiles, waits).mean(axis=1)
    return found


def reliability(forecasts: TimingForecasts, waits: Floats) -> Floats:
    """Return (99,) the share of waits that are within the quantile of each level."""
    shares: Floats = (waits[:, None] <= forecasts.quantiles + 1e-9).mean(axis=0)
    return shares


def coverage_band(effective: float) -> tuple[float, float]:
    """Return between what, in 95% of cases, the coverage of a calibrated 80% interval lies on so many gaps."""
    half = _Z * math.sqrt(INTERVAL_LEVEL * (1 - INTERVAL_LEVEL) / effective)
    return INTERVAL_LEVEL - half, min(INTERVAL_LEVEL + half, 1.0)


def by_silence(
    forecasts: TimingForecasts, setting: Setting, usual_gap: float, reference: Floats
) -> list[dict[str, Any]]:
    """Return score, CRPS, skill and coverage by the silence so far, in usual gaps.

    Args:
        forecasts: from all origins of the setting.
        setting: the origins.
        usual_gap: hours.
        reference: (n,) the CRPS over which the skill is.
    """
    depth = setting.silence / usual_gap
    rows = []
    for low, high in pairwise(_DEPTHS):
        keep = (depth >= low) & (depth < high)
        if keep.sum() < _MIN_BIN:
            continue
        metrics = TIMING.score(*TIMING.select(forecasts, setting.targets, keep))
        skill = 1 - metrics["crps_hours"] / float(reference[keep].mean())
        gaps = effective_gaps(setting.origins.position[keep])
        row = {"from": low, "origins": int(keep.sum()), "effective_gaps": gaps, "skill": skill}
        rows.append(row | {key: metrics[key] for key in ("overall_score", "crps_hours", "interval_coverage")})
    return rows


def long_silences(times: Times, training: int, max_origins: int) -> tuple[Origins, Floats, int] | None:
    """Return origins in the test gaps of over 36 h, from then on, the hours to the next origin or post, and the gaps.

    None if there is no such gap.
    """
    gaps = hours_between(times[training:-1], times[training + 1 :])
    rows = np.flatnonzero(gaps > LONG_SILENCE_HOURS)
    if not len(rows):
        return None
    beyond = gaps[rows] - LONG_SILENCE_HOURS
    step = max(_STEP_HOURS, float(beyond.sum()) / max_origins)
    counts = np.ceil(beyond / step).astype(np.int64)
    index = np.repeat(np.arange(len(rows)), counts)
    start = (np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)) * step
    position = training + rows[index]
    silence = ((start + LONG_SILENCE_HOURS) * 3_600_000_000).astype("timedelta64[us]")
    return Origins(times[position] + silence, position), np.minimum(step, beyond[index] - start), len(rows)


def expected_posts(forecasts: TimingForecasts, hours: Floats) -> float:
    """Return the cumulative hazard that the forecasts state over some hours (n,) from each origin, summed.

    If the hazard is right, it equals the number of posts that end these silences, in the mean.
    """
    return float(-np.log1p(-np.minimum(forecasts.probability_within(hours), LEVELS[-1])).sum())


def true_forecasts(
    process: Process, hours: Floats, silence: Floats, usual_gap: float, origins: Origins
) -> TimingForecasts:
    """Return the forecasts of the process that made the posts: no forecast from the posts so far is better in the mean.

    Args:
        process: the process.
        hours: (m,) the times of all posts, in its hours.
        silence: (n,) hours since the last post.
        usual_gap: hours.
        origins: the origins.
    """
    whole = np.arange(1.0, 200)  # a process may post on the hour: its distribution jumps there
    waits = np.sort(np.concatenate([[0], usual_gap * np.geomspace(1e-4, 1e5, 1200), whole, np.nextafter(whole, 0)]))
    log_survival = process.log_survival(hours, origins.position, silence[:, None] + waits)
    probability = -np.expm1(log_survival - log_survival[:, :1])
    quantiles = np.stack([np.interp(LEVELS, row, waits) for row in probability])
    return TimingForecasts(quantiles, score_maximising_point(quantiles))


def tail_origins(times: Times, rows: Integers, usual_gap: float) -> Origins:
    """Return an origin after a silence of ten usual gaps behind each post, whether or not there was one."""
    silence = np.timedelta64(round(TAIL_GAPS * usual_gap * 3_600_000_000), "us")
    return Origins(times[rows] + silence, rows)


def tail(
    process: Process, hours: Floats, rows: Integers, usual_gap: float, forecasts: dict[str, TimingForecasts]
) -> dict[str, Any]:
    """Compare the stated survival beyond ten usual gaps with the truth.

    Args:
        process: the process that made the posts.
        hours: (m,) the times of all posts, in its hours.
        rows: (n,) the posts after which the forecasts are made.
        usual_gap: hours.
        forecasts: `post` right after each post, `silence` after a silence of ten usual gaps.

    Returns:
        `post`: the mean probability that the gap is longer than ten usual gaps; None if the truth is below .02, which
        quantiles up to .99 cannot tell. `silence`: the mean probability, after ten usual gaps, of a further wait
        that is as likely as not. Each with `stated`, `true` and `ratio`.
    """
    silence = TAIL_GAPS * usual_gap
    at_silence = np.full((len(rows), 1), silence)
    true = float(np.exp(process.log_survival(hours, rows, at_silence)).mean())
    stated = float(1 - forecasts["post"].probability_within(silence).mean())
    ahead = usual_gap * np.geomspace(0.01, 10_000, 281)
    survival = np.exp(
        process.log_survival(hours, rows, silence + np.tile(ahead, (len(rows), 1)))
        - process.log_survival(hours, rows, at_silence)
    )
    half = np.abs(survival - 0.5).argmin(axis=1)
    true_half = float(survival[np.arange(len(rows)), half].mean())
    stated_half = float(1 - forecasts["silence"].probability_within(ahead[half]).mean())
    return {
        "post": {"stated": stated, "true": true, "ratio": stated / true} if true >= _LEAST_SURVIVAL else None,
        "silence": {"stated": stated_half, "true": true_half, "ratio": stated_half / true_half},
    }


def per_origin(forecasts: TimingForecasts, targets: TimingTargets) -> dict[str, list[float]]:
    """Return the figures of each origin from which scores are made; see `difference`."""
    within, error = TIMING.score_components(forecasts, targets).T
    figures = {"within_6h": within, "error_hours": error, "crps_hours": crps(forecasts, targets.wait_hours)}
    return {name: np.round(values, 6).tolist() for name, values in figures.items()}


def difference(
    one: dict[str, list[float]], other: dict[str, list[float]], effective: float
) -> dict[str, dict[str, Any]]:
    """Return how much higher one's score is and its log CRPS, each with the 95% interval of a paired block bootstrap.

    Args:
        one, other: see `per_origin`; from the same origins.
        effective: the effective number of gaps; blocks are at least two gaps long.
    """
    figures = np.column_stack([*one.values(), *other.values()]).astype(float)
    count = len(figures)
    length = min(max(block_length(count), math.ceil(2 * count / effective)), math.ceil(count / 2))

    def score(means: Floats) -> Floats:
        return TIMING.overall_score(means[..., :2]) - TIMING.overall_score(means[..., 3:5])

    def log_crps(means: Floats) -> Floats:
        return np.log(np.maximum(means[..., 2], 1e-12)) - np.log(np.maximum(means[..., 5], 1e-12))

    return {name: _estimate(figures, overall, length) for name, overall in (("score", score), ("log_crps", log_crps))}


def _estimate(figures: Floats, overall: Callable[[Floats], Floats], length: int) -> dict[str, Any]:
    interval = score_interval(figures, overall, length=length)
    return {"difference": float(overall(figures.mean(axis=0))), "interval": interval}


def mean_difference(differences: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean of differences on independent streams, with its interval."""
    halves = [(high - low) / 2 for low, high in (found["interval"] for found in differences)]
    mean = float(np.mean([found["difference"] for found in differences]))
    half = math.sqrt(sum(half**2 for half in halves)) / len(halves)
    return {"difference": mean, "interval": (mean - half, mean + half)}


def pairs(names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each algorithm with each one before it."""
    for index, one in enumerate(names):
        for other in names[:index]:
            yield one, other

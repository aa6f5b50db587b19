"""Timing: when does the next post come? A forecast is a distribution of the wait, in hours."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from retrainer.errors import InsufficientData
from retrainer.model_types.base import (
    Metric,
    ModelType,
    Origins,
    Reliability,
    StoredForecasts,
    hours_between,
    quarters_of_day,
    read_arrays,
    silences,
    utc_times,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.model_types import ModelTypeName

LEVELS = np.arange(1, 100) / 100
INTERVAL_LEVEL = 0.8
HORIZONS_HOURS = (6, 12, 24)  # for which the probability of a post is shown

_STEP = 0.01  # between levels
_RELATIVE_TOLERANCE, _TOLERANCE_HOURS = 1e-6, 1e-9  # of waits, which are rounded on the way to a quantile
_RELIABILITY_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
_BINNED_HORIZON_HOURS = 6
_BINS = 5

WITHIN_HOURS = 6.0
_WITHIN_WEIGHT = 0.7
_NORMALISING_HOURS = 24.0
_ROUNDING_HOURS = 1e-9
_MAX_WAIT_HOURS = 1000 * 365.25 * 24  # so that the time of the next post can be represented


@dataclass(frozen=True)
class TimingForecasts:
    """n forecasts of the wait until the next post, in hours from each origin.

    Attributes:
        quantiles: (n, 99) the wait at levels 0.01 to 0.99; finite, non-negative, not decreasing along a row.
        point: (n,) the point forecast, which the error metrics score.
    """

    quantiles: NDArray[np.float64]
    point: NDArray[np.float64]

    @classmethod
    def from_quantiles(cls, quantiles: NDArray[np.float64]) -> TimingForecasts:
        """Return forecasts whose point maximises the expected overall score."""
        return cls(quantiles, score_maximising_point(quantiles))

    @property
    def median(self) -> NDArray[np.float64]:
        """(n,) the median wait in hours."""
        return self.quantile(0.5)

    def quantile(self, level: float) -> NDArray[np.float64]:
        """Return (n,) the wait in hours at any level from 0.01 to 0.99, interpolated linearly between the quantiles."""
        rank = np.clip(np.round(level / _STEP - 1, 9), 0, len(LEVELS) - 1)  # rounded: 0.1 is exactly the tenth
        below, above = int(np.floor(rank)), int(np.ceil(rank))
        low, high = self.quantiles[:, below], self.quantiles[:, above]
        wait: NDArray[np.float64] = low + (rank - below) * (high - low)
        return wait

    def interval(self, level: float = INTERVAL_LEVEL) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the bounds (n,), (n,) in hours of the central interval with a level from 0.02 to 0.98."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def probability_within(self, hours: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (n,) the probability of a post within some hours from the origin.

        It is interpolated linearly between the 99 quantiles, starting with 0 at no wait, and 0.99 beyond the last. Of
        equal quantiles, the highest level counts.

        Args:
            hours: a number, or (n,) one for each forecast; non-negative.
        """
        wait = np.broadcast_to(np.asarray(hours, dtype=float), (len(self),))
        reached = (self.quantiles <= wait[:, None]).sum(axis=1)  # the number of quantiles within
        padded = np.concatenate([np.zeros((len(self), 1)), self.quantiles], axis=1)  # level 0 is no wait
        rows = np.arange(len(self))
        low, high = padded[rows, reached], padded[rows, np.minimum(reached + 1, len(LEVELS))]
        width = high - low
        fraction = np.divide(wait - low, width, out=np.zeros(len(self)), where=width > 0)
        probability: NDArray[np.float64] = _STEP * (reached + fraction)
        return probability

    def __len__(self) -> int:
        return len(self.point)


@dataclass(frozen=True)
class TimingTargets:
    """The actual values: (n,) the wait until the next post, in hours from each origin."""

    wait_hours: NDArray[np.float64]


def validate_simulation(hours: Any, horizon_hours: float, max_posts: int, paths: int) -> NDArray[np.float64]:
    """Return a plugin's simulated futures, (paths, k) hours; see the hook `simulate`.

    Raises:
        ValueError: they have another shape, or a future is invalid.
    """
    simulated = np.array(hours, dtype=float)
    if simulated.ndim != 2 or len(simulated) != paths or simulated.shape[1] > max_posts:  # noqa: PLR2004
        raise ValueError(f"futures of shape {simulated.shape} instead of ({paths}, at most {max_posts})")
    if np.isnan(simulated).any() or (simulated < 0).any():
        raise ValueError("a post that is not after the origin")
    if (simulated[:, 1:] < simulated[:, :-1]).any():
        raise ValueError("posts that are not in order of time")
    if (np.isfinite(simulated) & (simulated > horizon_hours)).any():
        raise ValueError(f"a post later than the horizon of {horizon_hours:g} h")
    return simulated


def pinball_loss(quantiles: NDArray[np.float64], wait: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n, 99) the pinball loss of each quantile, in hours; twice its mean is the CRPS.

    Args:
        quantiles: (n, 99) hours.
        wait: (n,) the actual hours.
    """
    shortfall = wait[:, None] - quantiles
    loss: NDArray[np.float64] = np.maximum(LEVELS * shortfall, (LEVELS - 1) * shortfall)
    return loss


def score_maximising_point(
    quantiles: NDArray[np.float64], error_weight: float = 1 - _WITHIN_WEIGHT
) -> NDArray[np.float64]:
    """Return (n,) the point that maximises the expected overall score under each forecast's own distribution.

    This is the mean of 0.7 · [error ≤ 6 h] − 0.3 · error / 24 h over the 99 quantiles, taken as equally likely. It can
    only peak at a quantile, or exactly 6 h from one, so only these candidates are tried.

    Args:
        quantiles: (n, 99) hours.
        error_weight: another weight than 0.3 of the error.
    """
    points = np.empty(len(quantiles))
    just_within = WITHIN_HOURS - _ROUNDING_HOURS
    for row, waits in enumerate(quantiles):
        # In ascending order, so that argmax picks the earliest of equally good ones.
        candidates = np.sort(np.concatenate([waits, np.maximum(waits - just_within, 0), waits + just_within]))
        first = np.searchsorted(waits, candidates - WITHIN_HOURS, side="left")
        within = np.searchsorted(waits, candidates + WITHIN_HOURS, side="right") - first
        sums = np.concatenate([[0.0], np.cumsum(waits)])
        below = np.searchsorted(waits, candidates, side="right")
        error = candidates * (2 * below - len(waits)) + sums[-1] - 2 * sums[below]  # summed over the quantiles
        expected = _WITHIN_WEIGHT * within - error_weight * error / _NORMALISING_HOURS
        points[row] = candidates[np.argmax(expected)]
    return points


class Timing(ModelType[TimingForecasts, TimingTargets]):
    """The timing model type."""

    name: ClassVar[ModelTypeName] = "timing"
    component_names: ClassVar[tuple[str, ...]] = ("within_6h_accuracy", "mae_hours")
    figure_names: ClassVar[tuple[str, ...]] = (*component_names, "crps_hours", "interval_coverage", "pit")
    forecasts_suffix: ClassVar[str] = ".npz"
    target_time_known: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("overall_score", "Overall score", "number", threshold=(">", 0.65), best=1),
        Metric("mae_hours", "MAE", "hours", threshold=("<", 12), best=0),
        Metric("rmse_hours", "RMSE", "hours", threshold=("<", 16), best=0),
        Metric("median_error_hours", "Median error", "hours", best=0),
        Metric("within_6h_accuracy", "Within 6h", "share", threshold=(">", 0.50), best=1),
        Metric("within_12h_accuracy", "Within 12h", "share", threshold=(">", 0.70), best=1),
        Metric("within_24h_accuracy", "Within 24h", "share", threshold=(">", 0.85), best=1),
        Metric("crps_hours", "CRPS", "hours", best=0),
        Metric("interval_coverage", "80% interval covers", "share", best=INTERVAL_LEVEL),
        Metric("skill", "Skill", "number", threshold=(">", 0)),
        Metric("crps_skill", "CRPS skill", "number", threshold=(">", 0)),
    )

    def usable_posts(self, posts: pd.DataFrame) -> pd.DataFrame:
        """Every post is usable, with or without text."""
        return posts.reset_index(drop=True)

    def require_trainable(self, posts: pd.DataFrame) -> None:
        """The posts must have at least two different times: the model learns from the gaps."""
        if posts["created_at"].nunique() < 2:  # noqa: PLR2004
            raise InsufficientData(
                f"all {len(posts)} training posts have the same time, '{posts['created_at'].iloc[0].isoformat()}'",
                hint="Check created_at in the source; a timing model learns from the gaps between posts",
            )

    def targets(self, posts: pd.DataFrame, origins: Origins, rows: NDArray[np.int64]) -> TimingTargets:
        """Return the hours from each origin to the post at its row."""
        return TimingTargets(hours_between(origins.time, utc_times(posts)[rows]))

    def validate(self, forecasts: Any, count: int) -> TimingForecasts:
        if not isinstance(forecasts, TimingForecasts):
            raise TypeError(f"a {type(forecasts).__name__} instead of TimingForecasts")
        # Copies, since a plugin may reuse its arrays.
        quantiles = np.array(forecasts.quantiles, dtype=float)
        point = np.array(forecasts.point, dtype=float)
        if quantiles.shape != (count, len(LEVELS)):
            raise ValueError(f"quantiles of shape {quantiles.shape} instead of ({count}, {len(LEVELS)})")
        if point.shape != (count,):
            raise ValueError(f"points of shape {point.shape} instead of ({count},)")
        if not (np.isfinite(quantiles).all() and np.isfinite(point).all()):
            raise ValueError("a wait that is not a finite number of hours")
        if (quantiles < 0).any() or (point < 0).any():
            raise ValueError("a negative wait")
        if (quantiles > _MAX_WAIT_HOURS).any() or (point > _MAX_WAIT_HOURS).any():
            raise ValueError("a wait of more than a thousand years")
        if (np.diff(quantiles, axis=1) < -_ROUNDING_HOURS).any():
            raise ValueError("quantiles that decrease with the level")
        return TimingForecasts(quantiles, point)

    def select(
        self, forecasts: TimingForecasts, targets: TimingTargets, keep: NDArray[np.bool_]
    ) -> tuple[TimingForecasts, TimingTargets]:
        selected = TimingForecasts(forecasts.quantiles[keep], forecasts.point[keep])
        return selected, TimingTargets(targets.wait_hours[keep])

    def score(self, forecasts: TimingForecasts, targets: TimingTargets) -> dict[str, float]:
        """Return the error metrics of the point, and CRPS and coverage of the distribution.

        overall_score = 0.7 · within_6h_accuracy + 0.3 · (1 − min(mae_hours / 24, 1)). CRPS is twice the mean pinball
        loss over the 99 levels (Gneiting and Raftery 2007, eq. 21 with quantile scores).
        """
        wait = targets.wait_hours
        error = np.abs(forecasts.point - wait)
        return {
            "mae_hours": float(error.mean()),
            "rmse_hours": float(np.sqrt((error**2).mean())),
            "median_error_hours": float(np.median(error)),
            **{f"within_{hours}h_accuracy": float((error <= hours).mean()) for hours in HORIZONS_HOURS},
            "crps_hours": float(2 * pinball_loss(forecasts.quantiles, wait).mean()),
            "interval_coverage": float(_is_covered(forecasts, wait).mean()),
            "overall_score": float(self.overall_score(self.score_components(forecasts, targets).mean(axis=0))),
        }

    def are_equal(self, one: TimingForecasts, other: TimingForecasts) -> bool:
        """Compare with a tolerance, since vectorised sums differ in their last digits."""
        return bool(
            one.quantiles.shape == other.quantiles.shape
            and np.allclose(one.quantiles, other.quantiles, rtol=_RELATIVE_TOLERANCE, atol=_TOLERANCE_HOURS)
            and np.allclose(one.point, other.point, rtol=_RELATIVE_TOLERANCE, atol=_TOLERANCE_HOURS)
        )

    def summary_line(self, metrics: dict[str, float]) -> str:
        return (
            f"MAE: {metrics['mae_hours']:.2f}h | Within 6h: {metrics['within_6h_accuracy']:.1%} | "
            f"Overall score: {metrics['overall_score']:.4f}"
        )

    def skill_scores(self, metrics: dict[str, float], naive: dict[str, float]) -> dict[str, float]:
        """Return the skill of the overall score, and of the CRPS (1 − CRPS / CRPS of the naive forecast)."""
        reference = naive["crps_hours"]
        crps_skill = 1 - metrics["crps_hours"] / reference if reference > 0 else 0.0
        return {**super().skill_scores(metrics, naive), "crps_skill": crps_skill}

    def reliability(self, forecasts: TimingForecasts, targets: TimingTargets) -> list[Reliability]:
        """Return the reliability of five quantiles, and of the probability of a post within 6, 12 and 24 hours.

        For 6 hours, it is also returned for each bin of 0 to 20%, 20 to 40%, … that has forecasts; one on an edge is in
        the upper bin.
        """
        wait = targets.wait_hours
        rows = [
            _reliability(f"wait within the {level:.0%} quantile", np.full(len(wait), level), wait <= quantile)
            for level, quantile in ((level, forecasts.quantile(level)) for level in _RELIABILITY_LEVELS)
        ]
        rows += [
            _reliability(f"post within {hours} h", forecasts.probability_within(hours), wait <= hours)
            for hours in HORIZONS_HOURS
        ]
        predicted, observed = forecasts.probability_within(_BINNED_HORIZON_HOURS), wait <= _BINNED_HORIZON_HOURS
        bins = np.minimum((np.round(predicted, 9) * _BINS).astype(int), _BINS - 1)
        rows += [
            _reliability(
                f"post within {_BINNED_HORIZON_HOURS} h, stated {number / _BINS:.0%} to {(number + 1) / _BINS:.0%}",
                predicted[bins == number],
                observed[bins == number],
            )
            for number in np.unique(bins)
        ]
        return rows

    def dump(
        self,
        forecasts: TimingForecasts,
        targets: TimingTargets,
        origins: Origins,
        post_ids: Sequence[str],
        naive: TimingForecasts,
    ) -> bytes:
        """Return an .npz: post_id, origin (datetime64[us], UTC), wait_hours, point and quantiles, also of `naive`."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            post_id=np.array(post_ids, dtype=np.str_),
            origin=origins.time.astype("datetime64[us]"),
            wait_hours=targets.wait_hours,
            point=forecasts.point,
            quantiles=forecasts.quantiles,
            baseline_point=naive.point,
            baseline_quantiles=naive.quantiles,
        )
        return buffer.getvalue()

    def _parse(self, data: bytes) -> StoredForecasts[TimingForecasts, TimingTargets]:
        """Parse the .npz."""
        stored = read_arrays(data)
        has_naive = "baseline_point" in stored
        return StoredForecasts(
            forecasts=TimingForecasts(stored["quantiles"], stored["point"]),
            targets=TimingTargets(stored["wait_hours"].astype(float)),
            post_ids=[str(post_id) for post_id in stored["post_id"]],
            naive=TimingForecasts(stored["baseline_quantiles"], stored["baseline_point"]) if has_naive else None,
            times=stored["origin"].astype("datetime64[us]"),
        )

    def describe(self, forecasts: TimingForecasts, targets: TimingTargets, row: int) -> dict[str, Any]:
        return {
            "point_hours": round(float(forecasts.point[row]), 4),
            "median_hours": round(float(forecasts.median[row]), 4),
            "interval_hours": [round(float(bound[row]), 4) for bound in forecasts.interval()],
            "actual_hours": round(float(targets.wait_hours[row]), 4),
        }

    def score_components(self, forecasts: TimingForecasts, targets: TimingTargets) -> NDArray[np.float64]:
        """Return (n, 2): 1 where the point is within 6 hours, else 0; and its error in hours."""
        error = np.abs(forecasts.point - targets.wait_hours)
        return np.column_stack([error <= WITHIN_HOURS, error])

    def figures(self, forecasts: TimingForecasts, targets: TimingTargets) -> NDArray[np.float64]:
        """Return (n, 5): the score components, the CRPS in hours, 1 where the 80% interval covers, and the PIT.

        The PIT (probability integral transform) is the probability of a post within the actual wait; over many posts it
        is uniform if the forecasts are calibrated.
        """
        wait = targets.wait_hours
        crps = 2 * pinball_loss(forecasts.quantiles, wait).mean(axis=1)
        others = (crps, _is_covered(forecasts, wait), forecasts.probability_within(wait))
        return np.column_stack([self.score_components(forecasts, targets), *others])

    def overall_score(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return 0.7 · within_6h_accuracy + 0.3 · (1 − min(mae_hours / 24, 1))."""
        within, mae = means[..., 0], means[..., 1]
        on_time = 1 - np.minimum(mae / _NORMALISING_HOURS, 1)
        score: NDArray[np.float64] = _WITHIN_WEIGHT * within + (1 - _WITHIN_WEIGHT) * on_time
        return score

    def segments(self, posts: pd.DataFrame, origins: Origins) -> dict[str, NDArray[np.bool_]]:
        """Return the quarter of the day, weekday or weekend, and whether the silence was long.

        The silence is the one so far or, right after a post, the one before it. It is long above the 90% quantile, in
        whole hours (whole minutes if less than one).
        """
        silence = silences(utc_times(posts), origins)
        quantile = float(np.quantile(silence, 0.9))
        long = float(round(quantile)) if quantile >= 1 else max(round(quantile * 60), 1) / 60
        weekend = np.is_busday(origins.time.astype("datetime64[D]"), weekmask="Sat Sun")
        duration = f"{long:.0f} h" if long >= 1 else f"{long * 60:.0f} min"
        return {
            **quarters_of_day(origins.time),
            "on a weekday": ~weekend,
            "on a weekend": weekend,
            f"after a silence of over {duration}": silence > long,
        }


def _is_covered(forecasts: TimingForecasts, wait: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (n,) whether the 80% interval covers the actual wait."""
    low, high = forecasts.interval()
    tolerance = _RELATIVE_TOLERANCE * wait + _TOLERANCE_HOURS
    covered: NDArray[np.bool_] = (low - tolerance <= wait) & (wait <= high + tolerance)
    return covered


def _reliability(what: str, predicted: NDArray[np.float64], observed: NDArray[np.bool_]) -> Reliability:
    return Reliability(what, round(float(predicted.mean()), 6), float(observed.mean()), len(observed))

"""The hazard of the next post: the expected posts per hour, given that none came since the last.

It is a ridge Poisson regression on the features, with the logarithm of the exposure as offset: the piecewise
exponential model (Friedman 1982, "Piecewise exponential models for survival data with covariates"). The regression
starts from the baseline hazard of each class of the silence and shrinks every coefficient to 0: with few posts, what
remains is the distribution of the gaps. Old gaps count less.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from retrainer_prophet.features import NUM_FEATURES
from retrainer_prophet.time_grid import CELL_CLASS, NUM_CLASSES, cells_reached, split_gaps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from retrainer_prophet.features import History
    from retrainer_prophet.time_grid import Floats, Integers

    Singles = NDArray[np.float32]

MAX_GAPS = 7_500  # five half-lives
MAX_ROWS = 150_000  # fewer gaps where they are long: each takes a row for every cell it reached

_HALF_LIFE = 1500.0  # of the weight of a gap, in gaps
_PENALTY = 100.0  # of the coefficient of a standardised feature: the weight of so many posts
_CLASS_PENALTY = 10.0
_NEIGHBOUR_POSTS = 4.0  # the baseline of a class is shrunk to that of the class before with the weight of so many posts
_NEWTON_STEPS = 20
_TOLERANCE = 1e-2  # of a step; the error after it is of the order of its square
_CONSTANT = 1e-6  # a feature with a smaller standard deviation is constant
_BLOCK_ROWS = 40_000  # of features in memory at once: about 15 MB
_MIN_LOG_HAZARD, _MAX_LOG_HAZARD = -18.0, 12.0

# The names of the fields of `Hazard` in a stored version.
_STORED_NAMES = {
    "intercepts": "of_class",
    "coefficients": "slopes",
    "feature_min": "lowest",
    "feature_max": "highest",
    "shapes": "shape",
}


@dataclass(frozen=True)
class Hazard:
    """The fitted hazard.

    Attributes:
        intercepts: (NUM_CLASSES,) the log hazard in each class of the silence where all features are 0.
        coefficients: (NUM_FEATURES,) the change of the log hazard per unit of each feature.
        feature_min, feature_max: (NUM_FEATURES,) the range seen in training; features are clipped to it.
        shapes: (cells, PARTS + 1) see `time_grid.cell_shapes`.
    """

    intercepts: Floats
    coefficients: Floats
    feature_min: Floats
    feature_max: Floats
    shapes: Floats

    def rates(self, history: History, posts: Integers, cells: Integers) -> Floats:
        """Return (rows,) the expected posts per hour for pairs of a post's index in the history and a cell."""
        rates = np.empty(len(posts))
        for start in range(0, len(posts), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            rates[block] = self.rates_of_rows(history.features(posts[block], cells[block]), cells[block])
        return rates

    def rates_of_rows(self, features: Floats | Singles, cells: Integers) -> Floats:
        """Return (rows,) the expected posts per hour for features and cells.

        A version of an earlier release knows only the first columns.
        """
        known: Floats = np.clip(features[:, : len(self.coefficients)], self.feature_min, self.feature_max)
        # Unlike a product by BLAS, the same for a row whatever the others are.
        log_hazard = np.einsum("ij,j->i", known, self.coefficients) + self.intercepts[CELL_CLASS[cells]]
        rates: Floats = np.exp(np.clip(log_hazard, _MIN_LOG_HAZARD, _MAX_LOG_HAZARD))
        return rates

    def to_dict(self) -> dict[str, list[float]]:
        """Return the hazard as plain data."""
        return {stored: getattr(self, name).tolist() for name, stored in _STORED_NAMES.items()}

    @classmethod
    def from_dict(cls, stored: dict[str, list[float]]) -> Hazard:
        """Read the plain data back."""
        return cls(**{name: np.asarray(stored[key], dtype=float) for name, key in _STORED_NAMES.items()})


@dataclass(frozen=True)
class GapRows:
    """Consecutive gaps, with one row per gap and cell that it reached.

    Attributes:
        first: the index in the history of the post that began the first gap.
        starts: (gaps + 1,) the first row of each gap, and the number of rows.
        cells: (rows,).
        exposure: (rows,) hours.
        ended: (rows,) whether the gap ended in the cell.
        features: (rows, NUM_FEATURES).
    """

    first: int
    starts: Integers
    cells: Integers
    exposure: Floats
    ended: NDArray[np.bool_]
    features: Singles

    @classmethod
    def from_history(cls, history: History, first: int, last: int, shapes: Floats) -> GapRows:
        """Take the gaps that begin at the posts from `first` to before `last`."""
        gap, cells, exposure, ended = split_gaps(
            np.diff(history.hours[first - history.first : last + 1 - history.first]), shapes
        )
        features = np.empty((len(gap), NUM_FEATURES), dtype=np.float32)
        for start in range(0, len(gap), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            history.write_features(first + gap[block], cells[block], features[block])
        return cls(first, np.searchsorted(gap, np.arange(last - first + 1)), cells, exposure, ended, features)

    @property
    def last(self) -> int:
        """The index of the post that ended the last gap."""
        return self.first + len(self.starts) - 1

    @property
    def gap_of_row(self) -> Integers:
        """(rows,) the gap of each row, counted from `first`."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def between(self, first: int, last: int) -> GapRows:
        """Return the gaps from `first` to before `last`, without copying."""
        starts = self.starts[first - self.first : last - self.first + 1]
        rows = slice(starts[0], starts[-1])
        return GapRows(
            first, starts - starts[0], self.cells[rows], self.exposure[rows], self.ended[rows], self.features[rows]
        )

    def followed_by(self, other: GapRows) -> GapRows:
        """Return these gaps and those of another, which begin where these end."""
        return GapRows(
            self.first,
            np.concatenate([self.starts, self.starts[-1] + other.starts[1:]]),
            np.concatenate([self.cells, other.cells]),
            np.concatenate([self.exposure, other.exposure]),
            np.concatenate([self.ended, other.ended]),
            np.concatenate([self.features, other.features]),
        )


@dataclass(frozen=True)
class RegressionData:
    """The gaps of a fit, with one row per gap and cell that it reached.

    Attributes:
        classes: (rows,) the class of the silence.
        exposure: (rows,) hours, times the weight of the gap.
        events: (rows,) the weight of the gap where it ended in the cell, else 0.0.
        features: (rows, NUM_FEATURES).
    """

    classes: Integers
    exposure: Floats
    events: Floats
    features: Singles

    @classmethod
    def from_rows(cls, rows: GapRows, columns: int = NUM_FEATURES) -> RegressionData:
        """Give each gap a weight that halves every 1,500 gaps before the last; take the first columns only."""
        age = len(rows.starts) - 2 - rows.gap_of_row
        weight = 0.5 ** (age / _HALF_LIFE)
        return cls(CELL_CLASS[rows.cells], rows.exposure * weight, rows.ended * weight, rows.features[:, :columns])


def first_fitted_gap(gaps: Floats) -> int:
    """Return the first of the gaps to fit to: the last ones, as many as MAX_GAPS and MAX_ROWS allow."""
    recent = gaps[-MAX_GAPS:]
    rows = np.cumsum(cells_reached(recent)[::-1])
    return len(gaps) - max(int(np.searchsorted(rows, MAX_ROWS, side="right")), 1)


def fit_hazard(data: RegressionData, shapes: Floats, start: Hazard | None = None) -> Hazard:
    """Fit the regression to standardised features, and return it in terms of the raw ones.

    Args:
        data: the gaps.
        shapes: see `time_grid.cell_shapes`.
        start: a hazard close to the result, from which fewer steps are needed.
    """
    mean = data.features.mean(axis=0, dtype=np.float64)
    standardised = data.features - mean.astype(np.float32)
    scale = np.sqrt(np.einsum("ij,ij->j", standardised, standardised) / len(standardised)).astype(float)
    scale[scale < _CONSTANT] = np.inf  # a constant feature gets the coefficient 0
    standardised /= scale.astype(np.float32)
    baseline = np.log(_baseline_hazard(data))
    beta = np.zeros(NUM_CLASSES + data.features.shape[1])
    if start is not None:
        beta[NUM_CLASSES:] = start.coefficients * np.where(np.isfinite(scale), scale, 0.0)
        beta[:NUM_CLASSES] = start.intercepts + mean @ start.coefficients - baseline
    class_effects, coefficients = _fit_poisson(replace(data, features=standardised), baseline, beta)
    raw = coefficients / scale
    return Hazard(
        intercepts=baseline + class_effects - mean @ raw,
        coefficients=raw,
        feature_min=data.features.min(axis=0).astype(float),
        feature_max=data.features.max(axis=0).astype(float),
        shapes=shapes,
    )


def _baseline_hazard(data: RegressionData) -> Floats:
    """Return (NUM_CLASSES,) posts per hour in each class of the silence, each shrunk to the class before."""
    posts = np.bincount(data.classes, weights=data.events, minlength=NUM_CLASSES)
    hours = np.bincount(data.classes, weights=data.exposure, minlength=NUM_CLASSES)
    hazard = np.empty(NUM_CLASSES)
    previous = posts.sum() / hours.sum()
    for index in range(NUM_CLASSES):
        hazard[index] = previous = (posts[index] + _NEIGHBOUR_POSTS) / (hours[index] + _NEIGHBOUR_POSTS / previous)
    return hazard


def _fit_poisson(data: RegressionData, baseline: Floats, start: Floats) -> tuple[Floats, Floats]:
    """Fit by Newton's method; return the effect of each class on the log baseline hazard, and the coefficients.

    The class columns are one-hot, so their part of the Hessian is a sum per class. Single precision halves the time of
    the rest; the small system is solved in double precision.
    """
    order = np.argsort(data.classes.astype(np.int16), kind="stable")
    classes, events, features = data.classes[order], data.events[order], data.features[order]
    offset = np.log(data.exposure[order]) + baseline[classes]
    starts = np.searchsorted(classes, np.arange(NUM_CLASSES + 1))
    penalties = np.concatenate([np.full(NUM_CLASSES, _CLASS_PENALTY), np.full(features.shape[1], _PENALTY)])
    beta = start
    for _ in range(_NEWTON_STEPS):
        log_expected = offset + beta[classes] + features @ beta[NUM_CLASSES:].astype(np.float32)
        expected = np.exp(np.clip(log_expected, -30, 8))
        residual = events - expected
        weights = expected.astype(np.float32)
        gradient = np.concatenate(
            [np.bincount(classes, weights=residual, minlength=NUM_CLASSES), features.T @ residual.astype(np.float32)]
        )
        hessian = np.zeros((len(beta), len(beta)))
        hessian[:NUM_CLASSES, :NUM_CLASSES] = np.diag(np.bincount(classes, weights=expected, minlength=NUM_CLASSES))
        for index, rows in enumerate(map(slice, starts[:-1], starts[1:])):
            hessian[index, NUM_CLASSES:] = weights[rows] @ features[rows]
        hessian[NUM_CLASSES:, :NUM_CLASSES] = hessian[:NUM_CLASSES, NUM_CLASSES:].T
        hessian[NUM_CLASSES:, NUM_CLASSES:] = features.T @ (features * weights[:, None])
        step = np.linalg.solve(hessian + np.diag(penalties), gradient - penalties * beta)
        largest = np.abs(step).max()
        beta = beta + step * min(1.0, 2.0 / max(largest, 1e-12))
        if largest < _TOLERANCE:
            break
    return beta[:NUM_CLASSES], beta[NUM_CLASSES:]

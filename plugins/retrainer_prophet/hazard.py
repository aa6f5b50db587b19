"""The hazard of the next post: the expected posts per hour, given that none came since the last.

It is a ridge Poisson regression on the features, with the logarithm of the exposure as offset: the piecewise
exponential model (Friedman 1982, "Piecewise exponential models for survival data with covariates"). The regression
starts from the baseline hazard of each class of the silence and shrinks every coefficient to 0: with few posts, what
remains is the distribution of the training gaps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from retrainer_prophet.features import NUM_FEATURES
from retrainer_prophet.time_grid import CELL_CLASS, NUM_CLASSES, cell_shapes, split_gaps

if TYPE_CHECKING:
    from retrainer_prophet.features import History
    from retrainer_prophet.time_grid import Floats, Integers

MAX_GAPS = 12_000
MAX_ROWS = 250_000  # fewer gaps where they are long: each takes a row for every cell it reached

_PENALTY = 100.0  # of the coefficient of a standardised feature: the weight of so many posts
_CLASS_PENALTY = 10.0
_NEIGHBOUR_POSTS = 4.0  # the baseline of a class is shrunk to that of the class before with the weight of so many posts
_NEWTON_STEPS = 20
_TOLERANCE = 1e-3
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
            features = np.clip(history.features(posts[block], cells[block]), self.feature_min, self.feature_max)
            log_hazard = features @ self.coefficients + self.intercepts[CELL_CLASS[cells[block]]]
            rates[block] = np.exp(np.clip(log_hazard, _MIN_LOG_HAZARD, _MAX_LOG_HAZARD))
        return rates

    def to_dict(self) -> dict[str, list[float]]:
        """Return the hazard as plain data."""
        return {stored: getattr(self, name).tolist() for name, stored in _STORED_NAMES.items()}

    @classmethod
    def from_dict(cls, stored: dict[str, list[float]]) -> Hazard:
        """Read the plain data back."""
        return cls(**{name: np.asarray(stored[key], dtype=float) for name, key in _STORED_NAMES.items()})


@dataclass(frozen=True)
class RegressionData:
    """The training gaps, with one row per gap and cell that it reached.

    Attributes:
        classes: (rows,) the class of the silence.
        exposure: (rows,) hours.
        events: (rows,) 1.0 where the gap ended in the cell, else 0.0.
        features: (rows, NUM_FEATURES).
        shapes: see `time_grid.cell_shapes`.
    """

    classes: Integers
    exposure: Floats
    events: Floats
    features: Floats
    shapes: Floats

    @classmethod
    def from_history(cls, history: History) -> RegressionData:
        """Take the last gaps of the history, as many as MAX_GAPS and MAX_ROWS allow."""
        gaps = np.diff(history.hours)
        chosen = np.arange(max(0, len(gaps) - MAX_GAPS), len(gaps))
        shapes = cell_shapes(gaps[chosen])
        gap, cell, exposure, ended = split_gaps(gaps[chosen], shapes)
        surplus = len(gap) - MAX_ROWS
        if surplus > 0:
            whole = gap > gap[surplus - 1]
            gap, cell, exposure, ended = gap[whole], cell[whole], exposure[whole], ended[whole]
        return cls(CELL_CLASS[cell], exposure, ended.astype(float), history.features(chosen[gap], cell), shapes)


def fit_hazard(data: RegressionData) -> Hazard:
    """Fit the regression to standardised features, and return it in terms of the raw ones."""
    mean, scale = data.features.mean(axis=0), data.features.std(axis=0)
    scale[scale < _CONSTANT] = np.inf  # a constant feature gets the coefficient 0
    baseline, class_effects, coefficients = _fit_poisson(replace(data, features=(data.features - mean) / scale))
    raw = coefficients / scale
    return Hazard(
        intercepts=baseline + class_effects - mean @ raw,
        coefficients=raw,
        feature_min=data.features.min(axis=0),
        feature_max=data.features.max(axis=0),
        shapes=data.shapes,
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


def _fit_poisson(data: RegressionData) -> tuple[Floats, Floats, Floats]:
    """Fit by Newton's method; return the log baseline hazard, the effect of each class, and the coefficients.

    The class columns are one-hot, so their part of the Hessian is a sum per class. Single precision halves the time of
    the rest; the small system is solved in double precision.
    """
    baseline = np.log(_baseline_hazard(data))
    order = np.argsort(data.classes, kind="stable")
    classes, events, features = data.classes[order], data.events[order], data.features[order].astype(np.float32)
    offset = np.log(data.exposure[order]) + baseline[classes]
    present, first = np.unique(classes, return_index=True)
    penalties = np.concatenate([np.full(NUM_CLASSES, _CLASS_PENALTY), np.full(NUM_FEATURES, _PENALTY)])
    beta = np.zeros(NUM_CLASSES + NUM_FEATURES)
    for _ in range(_NEWTON_STEPS):
        log_expected = offset + beta[classes] + features @ beta[NUM_CLASSES:].astype(np.float32)
        expected = np.exp(np.clip(log_expected, -30, 8))
        residual = events - expected
        weighted = features * expected.astype(np.float32)[:, None]
        gradient = np.concatenate(
            [np.bincount(classes, weights=residual, minlength=NUM_CLASSES), features.T @ residual.astype(np.float32)]
        )
        hessian = np.zeros((len(beta), len(beta)))
        hessian[:NUM_CLASSES, :NUM_CLASSES] = np.diag(np.bincount(classes, weights=expected, minlength=NUM_CLASSES))
        hessian[present, NUM_CLASSES:] = np.add.reduceat(weighted, first, axis=0)
        hessian[NUM_CLASSES:, :NUM_CLASSES] = hessian[:NUM_CLASSES, NUM_CLASSES:].T
        hessian[NUM_CLASSES:, NUM_CLASSES:] = features.T @ weighted
        step = np.linalg.solve(hessian + np.diag(penalties), gradient - penalties * beta)
        largest = np.abs(step).max()
        beta += step * min(1.0, 2.0 / max(largest, 1e-12))
        if largest < _TOLERANCE:
            break
    return baseline, beta[:NUM_CLASSES], beta[NUM_CLASSES:]

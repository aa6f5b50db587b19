"""The hazard of the next post: how many posts an hour are expected, given that none came since the last.

It is a ridge Poisson regression on the features, with the logarithm of the time spent as offset: the piecewise
exponential model (Friedman 1982, "Piecewise exponential models for survival data with covariates"). The regression
starts from the plain hazard of each class of the silence, and every coefficient is drawn to 0: with few posts what
remains is the distribution of the training gaps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer_prophet.elapsed_time import CLASS, CLASSES, cells_passed, shapes
from retrainer_prophet.features import COLUMNS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from retrainer_prophet.features import History

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

MOST_GAPS = 12_000
MOST_ROWS = 250_000  # fewer gaps where they are long: each takes a row for every cell it began

_PENALTY = 100.0  # as if so many posts spoke against the coefficient of a standardised feature
_PENALTY_OF_A_CLASS = 10.0
_NEIGHBOUR_POSTS = 4.0  # the hazard of a class is drawn to that of the class before with the weight of so many posts
_NEWTON_STEPS = 20
_TOLERANCE = 1e-3
_NO_CHANGE = 1e-6
_BLOCK = 40_000  # rows of features at hand at once: about 15 MB
_LOWEST, _HIGHEST = -18.0, 12.0  # of the logarithm of the hazard


@dataclass(frozen=True)
class Hazard:
    """The fitted hazard.

    Attributes:
        of_class: (CLASSES,) its logarithm in each class of the silence, where all features are 0.
        slopes: (COLUMNS,) what it gains with each feature.
        lowest, highest: (COLUMNS,) the features' range in training; beyond it nothing was seen, and nothing is claimed.
        shape: (cells, PARTS + 1) how it runs within the cells; see `silence.shapes`.
    """

    of_class: Floats
    slopes: Floats
    lowest: Floats
    highest: Floats
    shape: Floats

    def rates(self, history: History, posts: Integers, cells: Integers) -> Floats:
        """Return (rows,) the expected posts an hour for pairs of a post's place in the history and a cell."""
        rates = np.empty(len(posts))
        for start in range(0, len(posts), _BLOCK):
            block = slice(start, start + _BLOCK)
            features = np.clip(history.matrix(posts[block], cells[block]), self.lowest, self.highest)
            logarithm = features @ self.slopes + self.of_class[CLASS[cells[block]]]
            rates[block] = np.exp(np.clip(logarithm, _LOWEST, _HIGHEST))
        return rates

    def document(self) -> dict[str, Any]:
        """Return the hazard as plain data."""
        return {name: getattr(self, name).tolist() for name in self.__dataclass_fields__}

    @classmethod
    def of(cls, document: dict[str, Any]) -> Hazard:
        """Read the plain data back."""
        return cls(**{name: np.asarray(document[name], dtype=float) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Rows:
    """What the regression is fitted to, one row for each cell that a gap began.

    Attributes:
        gap: (rows,) which gap it belongs to; rising.
        classes: (rows,) the class of the silence.
        spent: (rows,) hours spent in the cell.
        came: (rows,) 1.0 where the post came in the cell.
        features: (rows, COLUMNS).
        shape: how the hazard runs within the cells.
    """

    gap: Integers
    classes: Integers
    spent: Floats
    came: Floats
    features: Floats
    shape: Floats

    @classmethod
    def of(cls, history: History) -> Rows:
        """Take the last gaps of the history, as many as MOST_GAPS and MOST_ROWS allow."""
        gaps = np.diff(history.hours)
        chosen = np.arange(max(0, len(gaps) - MOST_GAPS), len(gaps))
        shape = shapes(gaps[chosen])
        gap, cell, spent, came = cells_passed(gaps[chosen], shape)
        surplus = len(gap) - MOST_ROWS
        if surplus > 0:
            whole = gap > gap[surplus - 1]
            gap, cell, spent, came = gap[whole], cell[whole], spent[whole], came[whole]
        return cls(gap - gap[0], CLASS[cell], spent, came.astype(float), history.matrix(chosen[gap], cell), shape)


def fit(rows: Rows) -> Hazard:
    """Fit the regression to standardised features, and return it in terms of the raw ones."""
    centre, scale = rows.features.mean(axis=0), rows.features.std(axis=0)
    scale[scale < _NO_CHANGE] = np.inf  # a column that never changes tells nothing
    standard = replace(rows, features=(rows.features - centre) / scale)
    start, of_class, slopes = _regression(standard)
    raw = slopes / scale
    return Hazard(
        of_class=start + of_class - centre @ raw,
        slopes=raw,
        lowest=rows.features.min(axis=0),
        highest=rows.features.max(axis=0),
        shape=rows.shape,
    )


def _plain_hazard(rows: Rows) -> Floats:
    """Return (CLASSES,) posts an hour in each class of the silence, each drawn to the class before."""
    posts = np.bincount(rows.classes, weights=rows.came, minlength=CLASSES)
    hours = np.bincount(rows.classes, weights=rows.spent, minlength=CLASSES)
    hazard = np.empty(CLASSES)
    before = posts.sum() / hours.sum()
    for place in range(CLASSES):
        before = (posts[place] + _NEIGHBOUR_POSTS) / (hours[place] + _NEIGHBOUR_POSTS / before)
        hazard[place] = before
    return hazard


def _regression(rows: Rows) -> tuple[Floats, Floats, Floats]:
    """Fit by Newton's method; return the plain log hazard, what each class adds, and the slopes.

    The columns of the classes are 0 but for one 1 in each row, so their part of the curvature is only summed.
    Single precision halves the time of the rest; the solution of the small system is in double precision.
    """
    start = np.log(_plain_hazard(rows))
    order = np.argsort(rows.classes, kind="stable")
    classes, came, features = rows.classes[order], rows.came[order], rows.features[order].astype(np.float32)
    offset = np.log(rows.spent[order]) + start[classes]
    present, first = np.unique(classes, return_index=True)
    penalties = np.concatenate([np.full(CLASSES, _PENALTY_OF_A_CLASS), np.full(COLUMNS, _PENALTY)])
    beta = np.zeros(CLASSES + COLUMNS)
    for _ in range(_NEWTON_STEPS):
        logarithm = offset + beta[classes] + features @ beta[CLASSES:].astype(np.float32)
        expected = np.exp(np.clip(logarithm, -30, 8))
        left = came - expected
        weighted = features * expected.astype(np.float32)[:, None]
        gradient = np.concatenate(
            [np.bincount(classes, weights=left, minlength=CLASSES), features.T @ left.astype(np.float32)]
        )
        curvature = np.zeros((len(beta), len(beta)))
        curvature[:CLASSES, :CLASSES] = np.diag(np.bincount(classes, weights=expected, minlength=CLASSES))
        curvature[present, CLASSES:] = np.add.reduceat(weighted, first, axis=0)
        curvature[CLASSES:, :CLASSES] = curvature[:CLASSES, CLASSES:].T
        curvature[CLASSES:, CLASSES:] = features.T @ weighted
        step = np.linalg.solve(curvature + np.diag(penalties), gradient - penalties * beta)
        largest = np.abs(step).max()
        beta += step * min(1.0, 2.0 / max(largest, 1e-12))
        if largest < _TOLERANCE:
            break
    return start, beta[:CLASSES], beta[CLASSES:]

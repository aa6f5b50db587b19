"""How much worse timing forecasts are if one of their inputs is that of another forecast: permutation importance.

The fitted model stays as it is; what it is asked changes. The inputs are those that any timing algorithm gets through
`predict`: the posts known at the origin, and the origin. For a random permutation of the n origins, origin i takes one
input from origin j = π(i), and its actual wait stays:

- the hour of the day: the last posts and the origin are moved by the difference of the two hours (UTC), at most 12
  hours either way. Their waits stay as they are; only the clock is another.
- the day of the week: likewise, by whole days, at most 3 either way.
- the last wait: the one before the last post is that of j. The last post stays in place; those before it move.
- the waits before it: likewise with the 2nd to the 20th wait before the last post.

Only the last 50 posts move. The posts before them stay as they are: what an algorithm learns from them at each forecast
is not permuted, and what it computed for one forecast it can use for others.

The importance is the loss with the input permuted, minus the loss without. There is one permutation of each input: a
further post says more than the same one again.

Source: Breiman 2001, "Random forests", section 10; for any model, Fisher, Rudin and Dominici 2019, "All models are
wrong, but many are useful".
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from retrainer.algorithms.hookspecs import ContextPart
from retrainer.evaluation.explanation import (
    Explanation,
    PartWorth,
    contributions,
    full_forecasts,
    measure_parts,
    measure_worth,
    metrics_of,
)
from retrainer.model_types import get_model_type
from retrainer.model_types.base import Origins, utc_times
from retrainer.model_types.timing import TimingForecasts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from retrainer.algorithms.budget import Budget
    from retrainer.algorithms.model import TrainedModel
    from retrainer.evaluation.windows import Window

    Times = NDArray[np.datetime64]

log = logging.getLogger(__name__)

SEED = 0
_EPOCH = np.datetime64("1970-01-01", "us")
MOVED_POSTS = 50
HOUR = ContextPart("hour", "the hour of the day")
WEEKDAY = ContextPart("weekday", "the day of the week")
LAST_WAIT = ContextPart("last_wait", "the last wait")
EARLIER_WAITS = ContextPart("earlier_waits", "the waits before it")
_HOUR, _DAY = np.timedelta64(1, "h"), np.timedelta64(1, "D")
_CLOCK = {HOUR: (_HOUR, 24), WEEKDAY: (_DAY, 7)}  # the unit, and after how many of them it repeats
_WAITS = {LAST_WAIT: slice(0, 1), EARLIER_WAITS: slice(1, 20)}  # counted back from the last post
INPUTS = (*_CLOCK, *_WAITS)


def permute_inputs(
    model: TrainedModel, posts: pd.DataFrame, window: Window, budget: Budget, *, seed: int = SEED
) -> Explanation:
    """Measure the permutation importance of each input of a timing model, as far as the budget suffices.

    Args:
        posts: all posts in order.
        window: what to forecast, each from right after the post before it.
        budget: of paid calls.
        seed: of the permutations.

    Raises:
        CostLimitReached: the budget does not suffice for the forecasts with all inputs.
        AlgorithmError: these failed.
    """
    origins = window.origins_for(model.model_type, posts)
    targets = get_model_type(model.model_type).targets(posts, origins, window.rows)
    count = len(origins)
    log.info("Forecasting %d posts with all inputs", count)
    forecasts = full_forecasts(model, posts.iloc[: int(origins.position.max()) + 1], origins, budget)
    full = contributions(model.model_type, forecasts, targets)
    known = [_Known(posts, int(position)) for position in origins.position]
    random = np.random.default_rng(seed)

    def measure(part: ContextPart) -> PartWorth:
        log.info("Permuting %s", part.label)
        rows = zip(known, random.permutation(count).tolist(), strict=True)
        permuted = []
        for one, donor in rows:
            permuted.append(model.predict(*one.permuted(part, known[donor]), budget))
            if budget.exceeded:  # which the plugin may have caught, and this is not what it would forecast
                return PartWorth(part.name, part.label, problem=budget.exceeded)
        changed = contributions(model.model_type, _joined(permuted), targets)
        return PartWorth(part.name, part.label, count, measure_worth(full, changed))

    parts, ended = measure_parts(INPUTS, measure, budget)
    return Explanation(
        method="permuted",
        window=window.document(),
        num_predictions=count,
        metrics=metrics_of(full),
        parts=parts,
        seed=seed,
        problem=ended,
    )


class _Query(NamedTuple):
    """What a model is asked.

    Attributes:
        posts: those known.
        origin: one.
    """

    posts: pd.DataFrame
    origin: Origins


class _Known:
    """What is known right after a post."""

    def __init__(self, posts: pd.DataFrame, position: int) -> None:
        self._posts = posts.iloc[: position + 1]
        self._times = utc_times(posts)[: position + 1]

    def permuted(self, part: ContextPart, donor: _Known) -> _Query:
        """Return the query with an input of another one."""
        last = self._times[-MOVED_POSTS - 1 :]
        if part in _CLOCK:
            moved = last + _difference(last[-1], donor._times[-1], *_CLOCK[part])
        else:
            moved = swap_waits(last, donor._times[-MOVED_POSTS - 1 :], _WAITS[part])
        return self._with_last_posts_at(moved)

    def _with_last_posts_at(self, moved: Times) -> _Query:
        """Return the query whose last posts have other times, after the posts that there were before the first."""
        kept = int(np.searchsorted(self._times, moved[0]))  # none later than the origin, however far they are moved
        ids = self._posts["post_id"]
        posts = pd.DataFrame(
            {
                "post_id": [*ids.iloc[:kept], *(f"{one}-moved" for one in ids.iloc[-len(moved) :])],
                "created_at": pd.DatetimeIndex(np.concatenate([self._times[:kept], moved])).tz_localize("UTC"),
            }
        )
        return _Query(posts, Origins(moved[-1:], np.array([len(posts) - 1])))


def swap_waits(times: Times, others: Times, which: slice) -> Times:
    """Return times whose last one is the same, and some of whose waits are those of others.

    Args:
        times: (m,) ascending.
        others: (k,) ascending.
        which: the waits, counted back from the last one; those that both have.
    """
    waits, given = np.diff(times)[::-1].copy(), np.diff(others)[::-1]
    taken = slice(which.start, min(which.stop, len(waits), len(given)))
    waits[taken] = given[taken]
    before = times[-1] - np.cumsum(waits)
    return np.concatenate([before[::-1], times[-1:]])


def _difference(time: np.datetime64, other: np.datetime64, unit: np.timedelta64, cycle: int) -> np.timedelta64:
    """Return by how many units to move a time so that it is at the place of another in the cycle: the short way."""
    one, another = (int((at - _EPOCH) // unit) for at in (time, other))
    return unit * ((another - one + cycle // 2) % cycle - cycle // 2)


def _joined(forecasts: list[TimingForecasts]) -> TimingForecasts:
    return TimingForecasts(
        np.concatenate([one.quantiles for one in forecasts]), np.concatenate([one.point for one in forecasts])
    )

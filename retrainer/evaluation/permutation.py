"""How much worse timing forecasts are if one of their inputs is that of another forecast: permutation importance.

The fitted model stays as it is; what it is asked changes. The inputs are those that any timing algorithm gets through
`predict`: the posts known at the origin, and the origin. For a random permutation of the n origins, origin i takes one
input from origin j = π(i), and its actual wait stays:

- the hour of the day: all times that it knows, and its own, are moved by the difference of the two hours (UTC), at most
  12 hours either way. Every wait stays as it is; only the clock is another.
- the day of the week: likewise, by whole days, at most 3 either way.
- the last wait: the one before the last post is that of j. The last post stays in place; earlier posts move.
- the waits before it: likewise with the 2nd to the 20th wait before the last post.

The importance is the loss with the input permuted, averaged over the permutations, minus the loss without.

An algorithm that learns the hours of the day again from the posts at each forecast has them moved as well: 0 is then
right for the clock, whatever the hours are worth to it.

Source: Breiman 2001, "Random forests", section 10; for any model, Fisher, Rudin and Dominici 2019, "All models are
wrong, but many are useful".
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from retrainer.algorithms.hookspecs import ContextPart
from retrainer.evaluation.explanation import (
    Contributions,
    Explanation,
    PartWorth,
    contributions,
    measure_worth,
    metrics_of,
)
from retrainer.model_types import get_model_type
from retrainer.model_types.base import Origins, utc_times

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from retrainer.algorithms.model import TrainedModel
    from retrainer.evaluation.windows import Window

    Integers = NDArray[np.int64]

log = logging.getLogger(__name__)

REPEATS = 3
SEED = 0
_HOUR, _DAY = np.timedelta64(1, "h"), np.timedelta64(1, "D")
HOUR = ContextPart("hour", "the hour of the day")
WEEKDAY = ContextPart("weekday", "the day of the week")
LAST_WAIT = ContextPart("last_wait", "the last wait")
EARLIER_WAITS = ContextPart("earlier_waits", "the waits before it")
_CLOCK = {HOUR: (_HOUR, 24), WEEKDAY: (_DAY, 7)}  # the unit, and after how many of them it repeats
_WAITS = {LAST_WAIT: slice(0, 1), EARLIER_WAITS: slice(1, 20)}  # counted back from the last post


def permute_inputs(
    model: TrainedModel, posts: pd.DataFrame, window: Window, *, repeats: int = REPEATS, seed: int = SEED
) -> Explanation:
    """Measure the permutation importance of each input of a timing model.

    Args:
        model: the model.
        posts: all posts in order.
        window: what to forecast, each from right after the post before it.
        repeats: the number of permutations of each input.
        seed: of the permutations.

    Raises:
        AlgorithmError: a forecast failed.
    """
    permuted = _Permuted(model, posts, window)
    count = len(window.origins)
    random = np.random.default_rng(seed)
    parts = []
    for part in (*_CLOCK, *_WAITS):
        log.info("Permuting %s", part.label)
        donors = np.array([random.permutation(count) for _ in range(repeats)])
        without = permuted.contributions(part, donors)
        parts.append(PartWorth(part.name, part.label, count, measure_worth(permuted.full, without)))
    return Explanation(
        method="permuted",
        window=window.document(),
        num_predictions=count,
        metrics=metrics_of(permuted.full),
        parts=parts,
        seed=seed,
    )


class _Permuted:
    """The forecasts of a model from n origins with an input of another one.

    Attributes:
        full: the contributions of the forecasts with their own inputs.
    """

    def __init__(self, model: TrainedModel, posts: pd.DataFrame, window: Window) -> None:
        self._model = model
        self._posts = posts.iloc[: int(window.origins.position.max()) + 1]
        self._times = utc_times(self._posts)
        self._origins = window.origins_for(model.model_type, posts)
        self._targets = get_model_type(model.model_type).targets(posts, self._origins, window.rows)
        self.full = self._score(self._posts, self._origins, np.arange(len(self._origins)))

    def contributions(self, part: ContextPart, donors: Integers) -> dict[str, Contributions]:
        """Return the mean contributions over the permutations.

        Args:
            part: the input.
            donors: (r, n) of which origin each takes the input.
        """
        pairs = {(i, int(j)) for permutation in donors for i, j in enumerate(permutation)}
        scored = dict(self._move_clock(pairs, *_CLOCK[part]) if part in _CLOCK else self._swap_waits(pairs, part))
        return {
            name: Contributions(
                np.mean(
                    [[scored[i, int(j)][name] for i, j in enumerate(permutation)] for permutation in donors], axis=0
                ),
                one.overall,
            )
            for name, one in self.full.items()
        }

    def _move_clock(
        self, pairs: set[tuple[int, int]], unit: np.timedelta64, cycle: int
    ) -> Iterable[tuple[tuple[int, int], Mapping[str, Any]]]:
        """Yield the figures of each pair by metric. Pairs that are moved equally far are forecast together."""
        clock = self._origins.time.astype(f"datetime64[{np.datetime_data(unit)[0]}]").astype(np.int64)
        by_move: dict[int, list[tuple[int, int]]] = {}
        for i, j in sorted(pairs):
            move = (int(clock[j] - clock[i]) + cycle // 2) % cycle - cycle // 2
            by_move.setdefault(move, []).append((i, j))
        for move, moved in by_move.items():
            rows = np.array(sorted({i for i, _ in moved}))
            shift = (move * unit).astype("timedelta64[us]")
            posts = self._posts.assign(created_at=self._posts["created_at"] + pd.Timedelta(shift))
            origins = replace(self._origins[rows], time=self._origins.time[rows] + shift)
            scored = self._score(posts, origins, rows) if move else self._own(rows)
            place = {int(row): number for number, row in enumerate(rows)}
            for i, j in moved:
                yield (i, j), {name: one.figures[place[i]] for name, one in scored.items()}

    def _swap_waits(
        self, pairs: set[tuple[int, int]], part: ContextPart
    ) -> Iterable[tuple[tuple[int, int], Mapping[str, Any]]]:
        """Yield the figures of each pair by metric."""
        for i, j in sorted(pairs):
            rows = np.array([i])
            if i == j:
                scored = self._own(rows)
            else:
                position = int(self._origins.position[i])
                times = swap_waits(self._times[: position + 1], self._known(j), _WAITS[part])
                known = self._posts.iloc[: position + 1].assign(created_at=pd.DatetimeIndex(times).tz_localize("UTC"))
                scored = self._score(known, self._origins[rows], rows)
            yield (i, j), {name: one.figures[0] for name, one in scored.items()}

    def _known(self, row: int) -> NDArray[np.datetime64]:
        return self._times[: int(self._origins.position[row]) + 1]

    def _own(self, rows: Integers) -> dict[str, Contributions]:
        return {name: Contributions(one.figures[rows], one.overall) for name, one in self.full.items()}

    def _score(self, posts: pd.DataFrame, origins: Origins, rows: Integers) -> dict[str, Contributions]:
        forecasts = self._model.predict(posts, origins)
        keep = np.isin(np.arange(len(self._origins)), rows)
        targets = type(self._targets)(self._targets.wait_hours[keep])
        return contributions(self._model.model_type, forecasts, targets)


def swap_waits(times: NDArray[np.datetime64], others: NDArray[np.datetime64], which: slice) -> NDArray[np.datetime64]:
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

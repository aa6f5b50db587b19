"""The model of `ensemble`: training, and the average of the members' forecasts.

The weights at an origin are learnt from the members' forecasts of waits that had ended by then: in training from the
waits after the first 80% of the posts, forecast by members trained on these; later from those after the training posts.
Origins right after a post and origins in a silence have weights of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.algorithms import Importance, Origins, TimingForecasts, hours_between, utc_times
from retrainer_ensemble.hedge import HedgeState, learn_weights, mean_crps
from retrainer_ensemble.known_waits import MAX_WAITS, KnownWaits
from retrainer_ensemble.members import load_member

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray
    from pydantic import BaseModel

    from retrainer_ensemble.hedge import Floats, Integers

    Options = Mapping[str, BaseModel]

TRAINING_SHARE = 0.8
MIN_POSTS = 100  # with fewer, training learns no weights

_MINUTE = np.timedelta64(60_000_000, "us")


@dataclass(frozen=True)
class EnsembleModel:
    """A trained ensemble.

    Attributes:
        members: the members' models, by name.
        trained_through: the time of the last training post, UTC.
        row_step: posts from one wait that weights are learnt from to the next.
        time_step: time from one to the next, in silences.
        after_posts: what the weights of origins right after a post start from.
        in_silence: what those of other origins start from.
        crps_hours: the mean CRPS of the members right after posts, as training measured it; empty if it did not.
    """

    members: dict[str, Any]
    trained_through: np.datetime64
    row_step: int
    time_step: np.timedelta64
    after_posts: HedgeState
    in_silence: HedgeState
    crps_hours: dict[str, float]


def train_model(posts: pd.DataFrame, options: Options) -> EnsembleModel:
    """Train every member, and learn the first weights.

    Args:
        posts: training posts in order.
        options: the options of each member, by name.

    Raises:
        InsufficientData: a member cannot learn from the posts, or from the first 80% of them.
    """
    times = utc_times(posts)
    count = int(len(posts) * TRAINING_SHARE)
    since, later = times[count - 1], len(posts) - count
    row_step = -(-later // MAX_WAITS)
    time_step = max((times[-1] - since).astype("timedelta64[us]") // min(later, MAX_WAITS), _MINUTE)
    states, crps = [HedgeState.start(len(options))] * 2, {}
    if len(posts) >= MIN_POSTS:
        members = _train(posts.iloc[:count], options)
        known = [KnownWaits.after_posts(times, since, row_step), KnownWaits.in_silence(times, since, time_step)]
        quantiles = _forecast(members, posts, [each.origins for each in known], options)
        states = [
            learn_weights(state, forecast, each.hours, np.array([0]), np.array([len(each)]))
            for state, forecast, each in zip(states, quantiles, known, strict=True)
        ]
        crps = dict(zip(options, mean_crps(quantiles[0], known[0].hours).tolist(), strict=True))
    return EnsembleModel(_train(posts, options), times[-1], row_step, time_step, states[0], states[1], crps)


def predict_waits(model: EnsembleModel, posts: pd.DataFrame, origins: Origins, options: Options) -> TimingForecasts:
    """Return the averaged quantiles of the wait from each origin, in hours."""
    times = utc_times(posts)[: int(origins.position.max()) + 1]
    silent = hours_between(times[origins.position], origins.time) > 0
    kinds = [
        _Learners.of(~silent, origins, KnownWaits.after_posts(times, model.trained_through, model.row_step)),
        _Learners.of(silent, origins, KnownWaits.in_silence(times, model.trained_through, model.time_step)),
    ]
    *past, now = _forecast(model.members, posts, [*(kind.known.origins for kind in kinds), origins], options)
    averaged = np.empty((len(origins), now.shape[2]))
    for kind, state, quantiles in zip(kinds, (model.after_posts, model.in_silence), past, strict=True):
        weights = learn_weights(state, quantiles, kind.known.hours, kind.first, kind.last).weights()
        averaged[kind.rows] = np.einsum("nk,nkq->nq", weights, now[kind.rows])
    return TimingForecasts.from_quantiles(averaged)


def explain_weights(model: EnsembleModel) -> list[Importance]:
    """Return each member's weight right after a post at the end of training, the largest first."""
    after_posts, in_silence = model.after_posts.weights()[0], model.in_silence.weights()[0]
    found = []
    for name, weight, silent in zip(model.members, after_posts.tolist(), in_silence.tolist(), strict=True):
        measured = f", CRPS {model.crps_hours[name]:.3g} h" if model.crps_hours else ", not learnt: too few posts"
        found.append(Importance(name, weight, "weight", f"{silent:.2f} in a silence{measured}"))
    return sorted(found, key=lambda importance: -importance.value)


@dataclass(frozen=True)
class _Learners:
    """The n origins of one kind, and the known waits that each learns from.

    Attributes:
        rows: (n,) the origins.
        known: the waits that any of them learns from.
        first, last: (n,) the slice of these.
    """

    rows: Integers
    known: KnownWaits
    first: Integers
    last: Integers

    @classmethod
    def of(cls, chosen: NDArray[np.bool_], origins: Origins, known: KnownWaits) -> _Learners:
        rows = np.flatnonzero(chosen)
        first, last = known.known_at(origins.position[rows])
        needed = np.zeros(len(known) + 1, dtype=np.int64)
        np.add.at(needed, first, 1)
        np.add.at(needed, last, -1)
        used = np.cumsum(needed[:-1]) > 0
        index = np.concatenate([[0], np.cumsum(used)])  # among those used
        return cls(rows, known[used], index[first], index[last])


def _train(posts: pd.DataFrame, options: Options) -> dict[str, Any]:
    return {name: load_member(name).train(posts, own, "timing") for name, own in options.items()}


def _forecast(
    members: Mapping[str, Any], posts: pd.DataFrame, origins: Sequence[Origins], options: Options
) -> list[Floats]:
    """Return the (n, K, 99) quantiles of each set of origins; every member is called once."""
    joined = Origins(
        np.concatenate([each.time for each in origins]), np.concatenate([each.position for each in origins])
    )
    forecasts = [
        load_member(name).predict(model, posts, joined, options[name], "timing").quantiles
        for name, model in members.items()
    ]
    ends = np.cumsum([0, *map(len, origins)])
    quantiles = np.stack(forecasts, axis=1)
    return [quantiles[start:end] for start, end in pairwise(ends)]

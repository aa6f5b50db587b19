"""The model of `ensemble`: training, and the average of the members' forecasts.

The weights at an origin are learnt from the members' forecasts of waits that had ended by then: in training from the
waits after the first 80% of the posts, forecast by members trained on these; later from those after the training posts.
Right after a post and in a silence the weights are the same. Which point is forecast from the average is decided in
training, for each of the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.algorithms import (
    Importance,
    Origins,
    PointRule,
    PseudoOrigins,
    TimingForecasts,
    best_constant,
    hours_between,
    utc_times,
)
from retrainer_ensemble.hedge import HedgeState, crps, learn_weights
from retrainer_ensemble.known_waits import KnownWaits, Spacing
from retrainer_ensemble.member_options import load_member

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray
    from pydantic import BaseModel

    from retrainer_ensemble.hedge import Floats
    from retrainer_ensemble.known_waits import Times

    Options = Mapping[str, BaseModel]

TRAINING_SHARE = 0.8
MIN_POSTS = 100  # with fewer, training learns no weights and decides no rules
CONSTANT_GAPS = 2_000  # the last ones, from which the best constant point is found


@dataclass(frozen=True)
class EnsembleModel:
    """A trained ensemble.

    Attributes:
        members: the members' models, by name.
        trained_through: the time of the last training post, UTC.
        spacing: of the origins that weights are learnt from after it.
        state: what the weights start from there.
        rules: how the point is read from the average right after a post, and in a silence.
        crps_hours: the mean CRPS of the members, as training measured it; empty if it did not.
    """

    members: dict[str, Any]
    trained_through: np.datetime64
    spacing: Spacing
    state: HedgeState
    rules: tuple[PointRule, PointRule]
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
    since = times[count - 1]
    spacing, state, measured = Spacing.over(times, since), HedgeState.start(len(options)), {}
    rules = PointRule("score", 0.0), PointRule("score", 0.0)
    if len(posts) >= MIN_POSTS:
        known = KnownWaits.find(times, since, spacing)
        quantiles = _forecast(_train(posts.iloc[:count], options), posts, known.origins, options)
        losses, ends = crps(quantiles, known.hours), np.arange(len(known) + 1)
        states = learn_weights(state, losses, np.zeros_like(ends), ends)
        state = states.last()
        rules = _decide_rules(times, known, np.einsum("nk,nkq->nq", states.weights()[:-1], quantiles))
        measured = dict(zip(options, losses.mean(axis=0).tolist(), strict=True))
    return EnsembleModel(_train(posts, options), times[-1], spacing, state, rules, measured)


def predict_waits(model: EnsembleModel, posts: pd.DataFrame, origins: Origins, options: Options) -> TimingForecasts:
    """Return the averaged quantiles of the wait from each origin, in hours."""
    times = utc_times(posts)[: int(origins.position.max()) + 1]
    known = KnownWaits.find(times, model.trained_through, model.spacing)
    first, last = known.known_at(origins.position)
    used = np.zeros(len(known), dtype=bool)
    for start, end in set(zip(first.tolist(), last.tolist(), strict=True)):
        used[start:end] = True
    index = np.concatenate([[0], np.cumsum(used)])  # of a wait among those used
    known = known[used]
    every = Origins(
        np.concatenate([known.origins.time, origins.time]), np.concatenate([known.origins.position, origins.position])
    )
    quantiles = _forecast(model.members, posts, every, options)
    losses, now = crps(quantiles[: len(known)], known.hours), quantiles[len(known) :]
    weights = learn_weights(model.state, losses, index[first], index[last]).weights()
    averaged = np.einsum("nk,nkq->nq", weights, now)
    point = np.empty(len(origins))
    for rule, rows in zip(model.rules, _kinds(times, origins), strict=True):
        point[rows] = rule.points(averaged[rows])
    return TimingForecasts(averaged, point)


def explain_weights(model: EnsembleModel) -> list[Importance]:
    """Return each member's weight at the end of training, the largest first."""
    notes = [f"CRPS {model.crps_hours[name]:.3g} h" if model.crps_hours else "too few posts" for name in model.members]
    weights = model.state.weights()[0].tolist()
    found = [
        Importance(name, weight, "weight", note)
        for name, weight, note in zip(model.members, weights, notes, strict=True)
    ]
    return sorted(found, key=lambda importance: -importance.value)


def _decide_rules(times: Times, known: KnownWaits, averaged: Floats) -> tuple[PointRule, PointRule]:
    """Decide by (m, 99) averaged forecasts of the known waits."""
    gaps = hours_between(times[:-1], times[1:])[-CONSTANT_GAPS:]
    inside = PseudoOrigins.inside(gaps, np.arange(len(gaps)))
    constants = best_constant(gaps, np.ones(len(gaps))), best_constant(inside.wait, inside.weight)
    age = (len(times) - 1 - known.origins.position).astype(float)
    after_posts, in_silence = (
        PointRule.decide(averaged[rows], known.hours[rows], np.ones(rows.sum()), age[rows], constant)
        for rows, constant in zip(_kinds(times, known.origins), constants, strict=True)
    )
    return after_posts, in_silence


def _kinds(times: Times, origins: Origins) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return (n,) and (n,): which origins are right after a post, and which in a silence."""
    silent = origins.time > times[origins.position]
    return ~silent, silent


def _train(posts: pd.DataFrame, options: Options) -> dict[str, Any]:
    return {name: load_member(name).train(posts, own, "timing") for name, own in options.items()}


def _forecast(members: Mapping[str, Any], posts: pd.DataFrame, origins: Origins, options: Options) -> Floats:
    """Return (n, K, 99) quantiles; every member is called once."""
    forecasts = [
        load_member(name).predict(model, posts, origins, options[name], "timing") for name, model in members.items()
    ]
    return np.stack([forecast.quantiles for forecast in forecasts], axis=1)

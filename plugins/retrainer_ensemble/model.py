"""The model of `ensemble`: training, and the average of the members' forecasts.

The weights at an origin are learnt from the members' forecasts of waits that had ended by then: in training from the
waits after the first 80% of the posts, forecast by members trained on these; later from those after the training posts.
Which point is forecast from the average is decided in training. Origins right after a post and origins in a silence
have weights and points of their own, as one member may be better at the one and another at the other.
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
    from collections.abc import Mapping, Sequence

    import pandas as pd
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
        states: what the weights start from there, right after a post and in a silence.
        rules: how the point is read from the average, right after a post and in a silence.
        crps_hours: the mean CRPS of the members right after posts, as training measured it; empty if it did not.
    """

    members: dict[str, Any]
    trained_through: np.datetime64
    spacing: Spacing
    states: tuple[HedgeState, HedgeState]
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
    spacing, crps_hours = Spacing.over(times, since), {}
    states, rules = [HedgeState.start(len(options))] * 2, [PointRule("score", 0.0)] * 2
    if len(posts) >= MIN_POSTS:
        known = KnownWaits.find(times, since, spacing)
        quantiles = _forecast(_train(posts.iloc[:count], options), posts, [each.origins for each in known], options)
        for kind, constant in enumerate(_best_constants(times)):
            waits, losses = known[kind], crps(quantiles[kind], known[kind].hours)
            ends = np.arange(len(waits) + 1)
            learnt = learn_weights(states[kind], losses, np.zeros_like(ends), ends)
            states[kind] = learnt.last()
            averaged = np.einsum("nk,nkq->nq", learnt.weights()[:-1], quantiles[kind])
            age = (len(posts) - 1 - waits.origins.position).astype(float)
            silence = hours_between(times[waits.origins.position], waits.origins.time)
            rules[kind] = PointRule.decide(averaged, waits.hours, np.ones(len(waits)), age, constant, silence)
        after_posts = crps(quantiles[0], known[0].hours).mean(axis=0)
        crps_hours = dict(zip(options, after_posts.tolist(), strict=True))
    return EnsembleModel(
        _train(posts, options), times[-1], spacing, (states[0], states[1]), (rules[0], rules[1]), crps_hours
    )


def predict_waits(model: EnsembleModel, posts: pd.DataFrame, origins: Origins, options: Options) -> TimingForecasts:
    """Return the averaged quantiles of the wait from each origin, in hours."""
    times = utc_times(posts)[: int(origins.position.max()) + 1]
    silent = origins.time > times[origins.position]
    kinds = np.flatnonzero(~silent), np.flatnonzero(silent)
    known = [
        waits.last_known(origins.position[rows])
        for rows, waits in zip(kinds, KnownWaits.find(times, model.trained_through, model.spacing), strict=True)
    ]
    *past, now = _forecast(model.members, posts, [*(waits.origins for waits, _, _ in known), origins], options)
    averaged, point = np.empty((len(origins), now.shape[2])), np.empty(len(origins))
    for kind, (rows, (waits, first, last)) in enumerate(zip(kinds, known, strict=True)):
        weights = learn_weights(model.states[kind], crps(past[kind], waits.hours), first, last).weights()
        averaged[rows] = np.einsum("nk,nkq->nq", weights, now[rows])
        silence = hours_between(times[origins.position[rows]], origins.time[rows])
        point[rows] = model.rules[kind].points(averaged[rows], silence)
    return TimingForecasts(averaged, point)


def explain_weights(model: EnsembleModel) -> list[Importance]:
    """Return each member's weight right after a post at the end of training, the largest first."""
    after_posts, in_silence = (state.weights()[0].tolist() for state in model.states)
    found = []
    for name, weight, silent in zip(model.members, after_posts, in_silence, strict=True):
        measured = f"CRPS {model.crps_hours[name]:.3g} h" if model.crps_hours else "too few posts to learn it"
        found.append(Importance(name, weight, "weight", f"{measured}; weight in a silence {silent:.3g}"))
    return sorted(found, key=lambda importance: -importance.value)


def _best_constants(times: Times) -> tuple[float, float]:
    """Return the best constant point right after posts, and in silences, in hours."""
    gaps = hours_between(times[:-1], times[1:])[-CONSTANT_GAPS:]
    inside = PseudoOrigins.inside(gaps, np.arange(len(gaps)))
    return best_constant(gaps, np.ones(len(gaps))), best_constant(inside.wait, inside.weight)


def _train(posts: pd.DataFrame, options: Options) -> dict[str, Any]:
    return {name: load_member(name).train(posts, own, "timing") for name, own in options.items()}


def _forecast(
    members: Mapping[str, Any], posts: pd.DataFrame, origins: Sequence[Origins], options: Options
) -> list[Floats]:
    """Return the (n, K, 99) quantiles of each set of n origins; every member is called once."""
    joined = Origins(
        np.concatenate([each.time for each in origins]), np.concatenate([each.position for each in origins])
    )
    forecasts = [
        load_member(name).predict(model, posts, joined, options[name], "timing") for name, model in members.items()
    ]
    quantiles = np.stack([forecast.quantiles for forecast in forecasts], axis=1)
    return np.split(quantiles, np.cumsum([len(each) for each in origins])[:-1])

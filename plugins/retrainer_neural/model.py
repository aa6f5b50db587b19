"""The model of `neural_tpp`: training, and the predictive distribution of the wait from any origin."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from retrainer.algorithms import PointRule, PseudoOrigins, TimingForecasts, best_constant, hours_between, utc_times
from retrainer.errors import ArtifactError
from retrainer_neural.distribution import GapDistributions, needed_times
from retrainer_neural.forecast import KNOWN_GAPS, KnownGaps, forecast_quantiles
from retrainer_neural.inputs import Scale, gaps_of
from retrainer_neural.network import build_network
from retrainer_neural.storage import NeuralModel
from retrainer_neural.training import TrainingData, deterministic, train_network

if TYPE_CHECKING:
    import pandas as pd

    from retrainer.algorithms import Origins
    from retrainer_neural import NeuralOptions
    from retrainer_neural.inputs import Floats, Times
    from retrainer_neural.storage import Weights

FORMAT = 1

_RULE_GAPS = 200  # the last training gaps, which decide how a point is read from a distribution


def train_model(posts: pd.DataFrame, options: NeuralOptions, previous: NeuralModel | None) -> NeuralModel:
    """Train the networks, on a GPU if there is one.

    The description of the model is plain data: `format`, `networks`, `units`, `components`; the `scale` of the gaps;
    `share_of_same_time`; `trained_gaps` and `trained_from`; `held_out`, the mean log likelihood by which each
    network stopped; the rules of the `points`; `started_from`, the SHA-256 of the weights that training began with,
    or None; `device` and the version of `torch`.

    Args:
        posts: training posts in order, with at least two different times.
        options: the size of the networks and of the training.
        previous: the model to start from. Its scale is kept, since the weights depend on it.
    """
    all_times = utc_times(posts)
    times = np.unique(all_times)[-options.max_posts :]
    start = previous if previous is not None and previous.description["format"] == FORMAT else None
    scale = Scale.of(gaps_of(times)) if start is None else Scale(**start.description["scale"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    networks: list[Weights] = []
    held_out = []
    with deterministic(device):
        data = TrainingData.from_times(times, scale, device)
        for seed in range(options.networks):
            weights = None if start is None else start.networks[seed]
            network, reached = train_network(data, scale, options, seed, weights)
            networks.append(network)
            held_out.append(reached)
    recent = all_times[all_times >= times[0]]
    description = {
        "format": FORMAT,
        "networks": options.networks,
        "units": options.units,
        "components": options.components,
        "scale": {"mean": scale.mean, "spread": scale.spread},
        "share_of_same_time": float((recent[1:] == recent[:-1]).mean()),
        "trained_gaps": len(data),
        "trained_from": str(times[0]),
        "held_out": held_out,
        "started_from": None if start is None else start.sha256,
        "device": device,
        "torch": torch.__version__,
        "points": {},
    }
    model = NeuralModel(description, networks)
    description["points"] = _point_rules(model, times)
    return model


def predict_waits(model: NeuralModel, posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
    """Return the quantiles of the wait from each origin, in hours, and the points.

    Raises:
        ArtifactError: the model was trained by a release with another format.
    """
    if model.description.get("format") != FORMAT:
        raise ArtifactError("this version was trained by another release of `neural_tpp`", hint="Train a new version")
    all_times = utc_times(posts)
    last_times = all_times[origins.position]
    times = np.unique(all_times[: int(origins.position.max()) + 1])
    last_posts = np.searchsorted(times, last_times)
    silence = hours_between(last_times, origins.time)
    quantiles = _quantiles(model, times, last_posts, silence)
    in_silence = silence > 0
    points = np.empty(len(origins))
    for kind, chosen in (("post", ~in_silence), ("clock", in_silence)):
        points[chosen] = PointRule(**model.description["points"][kind]).points(quantiles[chosen], silence[chosen])
    return TimingForecasts(quantiles, points)


def _quantiles(model: NeuralModel, times: Times, posts: Any, silence: Floats) -> Floats:
    """Return (n, 99) the wait after a silence since each post, in hours.

    Args:
        times: (m,) distinct times of posts.
        posts: (n,) the row of the last post of each origin.
        silence: (n,) hours.
    """
    description = model.description
    first = max(0, int(posts.min()) - KNOWN_GAPS)
    last = int(posts.max())
    own, offset = needed_times(times, first, last)
    with deterministic("cpu"):
        distributions = GapDistributions.after(
            np.arange(offset, len(own)), own, _networks(model), Scale(**description["scale"])
        )
        # Counted from the first training post: the last may be later than the origins.
        numbers = np.arange(first, last) - np.searchsorted(times, np.datetime64(description["trained_from"]))
        known = KnownGaps.compute(gaps_of(times[first : last + 1]), numbers, distributions)
        distinct, inverse = np.unique(posts - first, return_inverse=True)
        calibrations = [known.calibration(int(post)) for post in distinct]
        chosen = [calibrations[row] for row in inverse]
        return forecast_quantiles(distributions, posts - first, silence, chosen, description["share_of_same_time"])


def _networks(model: NeuralModel) -> list[Any]:
    networks = []
    for weights in model.networks:
        network = build_network(model.description["units"], model.description["components"])
        network.load_state_dict({name: torch.as_tensor(part) for name, part in weights.items()})
        networks.append(network.double().eval())
    return networks


def _point_rules(model: NeuralModel, times: Times) -> dict[str, Any]:
    """Decide by the last training gaps how to read a point right after a post, and in a silence."""
    gaps = gaps_of(times)
    every = np.arange(len(gaps))
    inside = PseudoOrigins.inside(gaps, every - len(gaps))
    kinds = {
        "post": (every, np.zeros(len(gaps)), gaps, np.ones(len(gaps))),
        "clock": (inside.gap, inside.silence, inside.wait, inside.weight),
    }
    rules = {}
    for kind, (gap, silence, wait, weight) in kinds.items():
        late = gap >= len(gaps) - _RULE_GAPS
        quantiles = _quantiles(model, times, gap[late], silence[late])
        age = (len(gaps) - 1 - gap[late]).astype(float)
        constant = best_constant(wait, weight)
        rules[kind] = asdict(PointRule.decide(quantiles, wait[late], weight[late], age, constant, silence[late]))
    return rules

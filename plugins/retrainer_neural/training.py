"""Train networks by maximum likelihood, with early stopping."""

from __future__ import annotations

import copy
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from retrainer.algorithms import torch_settings
from retrainer_neural.inputs import gaps_of, hour_of_week, hours_by_clock, log_hours, network_inputs
from retrainer_neural.network import (
    Tensor,
    build_network,
    log_activity_hours,
    next_gaps,
    weekly_activity,
    weekly_basis,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from retrainer_neural import NeuralOptions
    from retrainer_neural.inputs import Scale, Times
    from retrainer_neural.storage import Weights

MAX_GAP_HOURS = 8760.0  # a longer gap is only known to be longer

_SEQUENCE = 64  # posts
_BATCH = 16  # sequences
_HELD_OUT = 0.1  # of the gaps, the last ones, for early stopping
_MIN_HELD_OUT = 10
_LEARNING_RATE = 4e-3
_WEIGHT_DECAY = 1e-3
_MIN_LEARNING_RATE = _LEARNING_RATE / 8
_PATIENCE = 4  # epochs without an improvement, until the learning rate is halved
_FINAL_EPOCHS = 4  # with all gaps
_MAX_GRADIENT = 5.0


@dataclass(frozen=True)
class TrainingData:
    """n posts, each with the gap that followed, as tensors of single precision.

    Attributes:
        inputs: (n, NUM_INPUTS).
        log_hours: (n,) the logarithm of the gap.
        clock: (n, 168) the hours of the gap by hour of the week.
        end: (n,) the hour of the week in which the gap ended.
        ended: (n,) whether it ended; else it is censored: only known to be longer.
        held_out: (n,) whether the gap is for early stopping.
    """

    inputs: Tensor
    log_hours: Tensor
    clock: Tensor
    end: Tensor
    ended: Tensor
    held_out: Tensor

    def __len__(self) -> int:
        return len(self.log_hours)

    @classmethod
    def from_times(cls, times: Times, scale: Scale, device: str) -> TrainingData:
        """Compute the inputs and gaps of posts, in order and at distinct times."""
        gaps = gaps_of(times)
        hours = np.minimum(gaps, MAX_GAP_HOURS)
        start = hour_of_week(times[:-1])
        held_out = min(max(int(len(gaps) * _HELD_OUT), _MIN_HELD_OUT), len(gaps) // 2)

        def tensor(values: NDArray[Any]) -> Tensor:
            return torch.as_tensor(values, device=device)

        return cls(
            tensor(network_inputs(times[:-1], scale).astype(np.float32)),
            tensor(log_hours(hours).astype(np.float32)),
            tensor(hours_by_clock(start, hours).astype(np.float32)),
            tensor(hour_of_week(times[1:]).astype(np.int64)),
            tensor(gaps <= MAX_GAP_HOURS),
            tensor(np.arange(len(gaps)) >= len(gaps) - held_out),
        )

    def rows(self, index: Tensor) -> TrainingData:
        """Return the rows of an index of any shape."""
        return TrainingData(
            self.inputs[index],
            self.log_hours[index],
            self.clock[index],
            self.end[index],
            self.ended[index],
            self.held_out[index],
        )


def train_network(
    data: TrainingData, scale: Scale, options: NeuralOptions, seed: int, start: Weights | None
) -> tuple[Weights, float]:
    """Train a network from random weights, or from the weights of an earlier one.

    Each time that the held-out gaps have not become more likely for some epochs, the learning rate is halved, and
    training goes on from the best weights. At the end, a few epochs with all gaps follow, so that the network has seen
    the latest.

    Returns:
        The weights of the network, and its best mean log likelihood on the held-out gaps.
    """
    torch.manual_seed(seed)
    network = build_network(options.units, options.components)
    if start is not None:
        network.load_state_dict({name: torch.as_tensor(part) for name, part in start.items()})
    training = _Training(network.to(data.inputs.device), data, scale, np.random.default_rng(seed))
    best, best_weights = training.held_out_likelihood(), copy.deepcopy(network.state_dict())
    waited, learning_rate = 0, _LEARNING_RATE
    for _ in range(options.max_epochs):
        training.run_epoch(~data.held_out)
        reached = training.held_out_likelihood()
        if reached > best:
            best, best_weights, waited = reached, copy.deepcopy(network.state_dict()), 0
            continue
        waited += 1
        if waited == _PATIENCE:
            learning_rate /= 2
            if learning_rate < _MIN_LEARNING_RATE:
                break
            training.restart(best_weights, learning_rate)
            waited = 0
    training.restart(best_weights, _MIN_LEARNING_RATE)
    for _ in range(_FINAL_EPOCHS):
        training.run_epoch(torch.ones_like(data.held_out))
    return {name: part.cpu().numpy() for name, part in network.state_dict().items()}, best


class _Training:
    """A network, its optimizer and its data."""

    def __init__(self, network: Any, data: TrainingData, scale: Scale, rng: np.random.Generator) -> None:
        self._network = network
        self._data = data
        self._scale = scale
        self._rng = rng
        self._basis = torch.as_tensor(weekly_basis().astype(np.float32), device=data.inputs.device)
        self._optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)

    def restart(self, weights: dict[str, Tensor], learning_rate: float) -> None:
        """Go on from earlier weights with another learning rate."""
        self._network.load_state_dict(weights)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate

    def run_epoch(self, counted: Tensor) -> None:
        """Take a step for each batch, by the gaps that count, (n,)."""
        for batch in _batches(len(self._data), self._rng):
            index = batch.to(counted.device)
            if not counted[index].any():
                continue
            likelihood = _log_likelihood(self._network, self._data.rows(index), self._scale, self._basis)
            self._optimizer.zero_grad()
            (-likelihood[counted[index]].mean()).backward()
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), _MAX_GRADIENT)
            self._optimizer.step()

    def held_out_likelihood(self) -> float:
        """Return the mean log likelihood of the held-out gaps."""
        first = int(self._data.held_out.int().argmax())
        index = torch.arange(max(0, first - _SEQUENCE + 1), len(self._data), device=self._data.inputs.device)
        with torch.no_grad():
            rows = self._data.rows(index[None])
            likelihood = _log_likelihood(self._network, rows, self._scale, self._basis)
            return float(likelihood[rows.held_out].double().mean())


def _batches(count: int, rng: np.random.Generator) -> Iterator[Tensor]:
    """Yield (sequences, posts) indices of consecutive posts, in random order; together about all posts."""
    length = min(_SEQUENCE, count)
    starts = np.arange(-int(rng.integers(length)), count, length)
    starts = rng.permutation(np.unique(np.clip(starts, 0, count - length)))
    for first in range(0, len(starts), _BATCH):
        yield torch.as_tensor(starts[first : first + _BATCH, None] + np.arange(length))


def _log_likelihood(network: Any, rows: TrainingData, scale: Scale, basis: Tensor) -> Tensor:
    """Return the log density of the gaps that ended, and the log survival of the others."""
    activity = weekly_activity(network, basis)
    mixture = next_gaps(network, rows.inputs, scale.mean, scale.spread)
    log_activity = log_activity_hours(rows.clock, activity)
    density = mixture.log_density(rows.log_hours, log_activity, torch.log(activity)[rows.end])
    if rows.ended.all():
        return density
    return torch.where(rows.ended, density, mixture.log_survival(rows.log_hours, log_activity))


@contextmanager
def deterministic(device: str) -> Iterator[None]:
    """Let torch give the same results always: on one thread of the CPU, by deterministic algorithms on a GPU.

    Afterwards, its settings and random numbers are as before. One thread at a time.
    """
    with torch_settings.LOCK:
        yield from _deterministic(device)


def _deterministic(device: str) -> Iterator[None]:
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    if device == "cuda":  # on the CPU this would change nothing, and take two seconds to import
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)
        if device == "cuda":
            torch.use_deterministic_algorithms(mode=strict)

"""Train networks by maximum likelihood, with early stopping."""

from __future__ import annotations

import copy
import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

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

log = logging.getLogger(__name__)

MAX_GAP_HOURS = 8760.0  # a longer gap is only known to be longer

_SEQUENCE = 64  # posts
_BATCH = 16  # sequences
_HELD_OUT = 0.1  # of the gaps, the last ones, for early stopping
_MIN_HELD_OUT = 10
_LEARNING_RATE = 4e-3
_WEIGHT_DECAY = 1e-3
_PATIENCE = 4  # epochs without an improvement, until the learning rate is halved
_REDUCTIONS = 3
_FINAL_EPOCHS = 0
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

    Returns:
        The weights of the network, and its mean log density on the held-out gaps.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_network(options.units, options.components)
    if start is not None:
        network.load_state_dict({name: torch.as_tensor(part) for name, part in start.items()})
    network.to(data.inputs.device)
    basis = torch.as_tensor(weekly_basis().astype(np.float32), device=data.inputs.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    best, best_state = _held_out_likelihood(network, data, scale, basis), copy.deepcopy(network.state_dict())
    waited = reductions = 0

    def train_epoch(*, held_out_too: bool) -> None:
        for batch in _batches(len(data), rng):
            optimizer.zero_grad()
            rows = data.rows(batch.to(data.inputs.device))
            likelihood = _log_likelihood(network, rows, scale, basis)
            counted = torch.ones_like(rows.held_out) if held_out_too else ~rows.held_out
            if not counted.any():
                continue
            (-likelihood[counted].mean()).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRADIENT)
            optimizer.step()

    for _ in range(options.max_epochs):
        train_epoch(held_out_too=False)
        reached = _held_out_likelihood(network, data, scale, basis)
        if reached > best:
            best, best_state, waited = reached, copy.deepcopy(network.state_dict()), 0
            continue
        waited += 1
        if waited >= _PATIENCE:
            network.load_state_dict(best_state)
            waited, reductions = 0, reductions + 1
            if reductions > _REDUCTIONS:
                break
            for group in optimizer.param_groups:
                group["lr"] /= 2
    network.load_state_dict(best_state)
    for group in optimizer.param_groups:
        group["lr"] = _LEARNING_RATE / 4
    for _ in range(_FINAL_EPOCHS):
        train_epoch(held_out_too=True)
    return {name: part.cpu().numpy() for name, part in network.state_dict().items()}, best


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


def _held_out_likelihood(network: Any, data: TrainingData, scale: Scale, basis: Tensor) -> float:
    """Return the mean log likelihood of the held-out gaps, each after up to `_SEQUENCE` posts."""
    first = int(data.held_out.int().argmax())
    index = np.arange(max(0, first - _SEQUENCE + 1), len(data))
    with torch.no_grad():
        rows = data.rows(torch.as_tensor(index, device=data.inputs.device)[None])
        likelihood = _log_likelihood(network, rows, scale, basis)
        return float(likelihood[rows.held_out].double().mean())


@contextmanager
def deterministic(device: str) -> Iterator[None]:
    """Run torch on one thread and with deterministic algorithms."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(mode=strict)

"""The network: a recurrent encoder of the past, and a mixture of log-normal distributions of the next gap.

Source: Shchur, Biloš, Günnemann 2020, "Intensity-free learning of temporal point processes". Half of the components
measure the gap in hours, the other half in hours of usual activity: an hour counts as much as the learned activity in
that hour of the week. So the density follows the clock, and the survival function is still exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from retrainer_neural.inputs import HOURS_PER_WEEK, NUM_INPUTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Tensor = Any  # torch.Tensor; mypy does not follow the imports of torch

_MIN_SPREAD = 0.04  # of a component, in logarithms of hours: gaps that are always the same are not learned as exact
_MIN_ACTIVITY_HOURS = 1e-6
_MAX_LOG_ACTIVITY = 4.0
_FIRST_LOG_FLOOR = -5.0  # of the usual posts per hour, the logarithm at the beginning of training


def build_network(units: int, components: int) -> Any:
    """Return an untrained network, a ModuleDict.

    Args:
        units: of the encoder.
        components: of each kind.
    """
    head = nn.Sequential(nn.Linear(units + NUM_INPUTS, units), nn.Tanh(), nn.Linear(units, 6 * components + 1))
    last = head[-1]
    with torch.no_grad():  # start near the distribution of all gaps
        last.weight.mul_(0.1)
        weight, mean, spread = last.bias[:-1].view(3, 2, components)
        weight.zero_()
        mean.copy_(torch.linspace(-1.5, 1.5, components).expand(2, -1))
        spread.zero_()
        last.bias[-1] = _FIRST_LOG_FLOOR
    basis = weekly_basis()
    activity = nn.Linear(basis.shape[1], 1, bias=False)
    nn.init.zeros_(activity.weight)
    return nn.ModuleDict({"encoder": nn.GRU(NUM_INPUTS, units, batch_first=True), "head": head, "activity": activity})


def weekly_basis() -> NDArray[np.float64]:
    """Return (168, 22) the hours of the week as smooth functions: the day, the weekend's day, and the week."""
    hours = np.arange(HOURS_PER_WEEK) + 0.5
    weekend = (hours >= 5 * 24).astype(float)
    day = [wave(hours * (2 * np.pi * number / 24)) for number in (1, 2, 3, 4) for wave in (np.sin, np.cos)]
    week = [wave(hours * (2 * np.pi * number / HOURS_PER_WEEK)) for number in (1, 2, 3) for wave in (np.sin, np.cos)]
    return np.column_stack([*day, *(weekend * column for column in day), *week])


def weekly_activity(network: Any, basis: Tensor) -> Tensor:
    """Return (168,) the relative activity in each hour of the week; its mean is 1."""
    logarithm = _MAX_LOG_ACTIVITY * torch.tanh(network["activity"](basis)[:, 0] / _MAX_LOG_ACTIVITY)
    activity = torch.exp(logarithm)
    return activity / activity.mean()


@dataclass(frozen=True)
class Mixture:
    """Log-normal distributions, mixed: (…, 2 · components) log weights, means and spreads of the logarithm of hours.

    The first half is of hours, the second of hours of usual activity. A constant hazard competes with the mixture: the
    hazard of a log-normal distribution falls without end, which would let a long silence last for ever.

    Attributes:
        floor: (…, 1) the constant hazard, per hour of usual activity.
    """

    log_weight: Tensor
    mean: Tensor
    spread: Tensor
    floor: Tensor

    def log_density(self, log_hours: Tensor, log_activity_hours: Tensor, log_activity: Tensor) -> Tensor:
        """Return (…) the log density, per hour, of gaps.

        Args:
            log_hours: (…) the logarithm of the gap.
            log_activity_hours: (…) the logarithm of the gap in hours of usual activity.
            log_activity: (…) the logarithm of the relative activity where it ends.
        """
        logs = self._each(log_hours, log_activity_hours)
        slope = self._each(-log_hours, log_activity - log_activity_hours)
        z = (logs - self.mean) / self.spread
        each = -0.5 * z**2 - torch.log(self.spread) - 0.5 * math.log(2 * math.pi) + slope
        mixture = torch.logsumexp(self.log_weight + each, dim=-1)
        survival = torch.logsumexp(self.log_weight + torch.special.log_ndtr(-z), dim=-1)
        by_floor = torch.log(self.floor[..., 0]) + log_activity + survival
        return torch.logaddexp(mixture, by_floor) - self.floor[..., 0] * torch.exp(log_activity_hours)

    def log_survival(self, log_hours: Tensor, log_activity_hours: Tensor) -> Tensor:
        """Return (…) the logarithm of the probability of a longer gap."""
        z = (self._each(log_hours, log_activity_hours) - self.mean) / self.spread
        survival = torch.logsumexp(self.log_weight + torch.special.log_ndtr(-z), dim=-1)
        return survival - self.floor[..., 0] * torch.exp(log_activity_hours)

    def map(self, change: Callable[..., Tensor], *others: Mixture) -> Mixture:
        """Return the mixture with every tensor changed; `change` also gets the same tensor of others."""
        names = ("log_weight", "mean", "spread", "floor")
        return Mixture(*(change(*(getattr(one, name) for one in (self, *others))) for name in names))

    def _each(self, first: Tensor, second: Tensor) -> Tensor:
        components = self.mean.shape[-1] // 2
        shape = (*first.shape, components)
        return torch.cat([first[..., None].expand(shape), second[..., None].expand(shape)], dim=-1)


def next_gaps(network: Any, inputs: Tensor, mean: float, spread: float, *, last_only: bool = False) -> Mixture:
    """Return the mixture of the gap after each post.

    Args:
        network: see `build_network`.
        inputs: (sequences, posts, NUM_INPUTS).
        mean, spread: see `inputs.Scale`.
        last_only: return only those of the last post of each sequence, (sequences, …).
    """
    encoded, _ = network["encoder"](inputs)
    if last_only:
        encoded, inputs = encoded[:, -1], inputs[:, -1]
    raw = network["head"](torch.cat([encoded, inputs], dim=-1))
    weight, location, width = raw[..., :-1].chunk(3, dim=-1)
    return Mixture(
        torch.log_softmax(weight, dim=-1),
        mean + spread * location,
        _MIN_SPREAD + spread * nn.functional.softplus(width),
        torch.exp(raw[..., -1:] - mean),
    )


def log_activity_hours(hours: Tensor, activity: Tensor) -> Tensor:
    """Return (…) the logarithm of hours of usual activity, from (…, 168) hours by clock."""
    return torch.log((hours @ activity).clamp(min=_MIN_ACTIVITY_HOURS))

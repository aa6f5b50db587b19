"""The distribution of the gap after each post, as the average of the networks' distributions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from retrainer_neural.inputs import HOURS_PER_WEEK, LOOKBACK, LOOKBACK_GAPS, hour_of_week, log_hours, network_inputs
from retrainer_neural.network import next_gaps, weekly_activity, weekly_basis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer_neural.inputs import Floats, Integers, Scale, Times
    from retrainer_neural.network import Mixture

CONTEXT = 32  # posts that a forecast reads one by one

_BLOCK_POSTS = 2048
_BLOCK_VALUES = 20_000  # pairs of a post and a gap


@dataclass(frozen=True)
class GapDistributions:
    """The distributions of the gaps after m posts.

    Attributes:
        start: (m,) the hour of the week of each post.
        mixtures: those of each network, (m, components).
        activity: (networks, 169) the hours of usual activity from Monday 00:00 to each hour of the week.
    """

    start: Floats
    mixtures: Sequence[Mixture]
    activity: Sequence[Floats]

    @classmethod
    def after(cls, posts: Integers, times: Times, networks: Sequence[Any], scale: Scale) -> GapDistributions:
        """Compute the distributions of the gaps after some posts.

        The result for a post does not depend on the others, nor on posts more than 600 gaps and 30 days back.

        Args:
            posts: (m,) rows of `times`.
            times: (n,) ascending and distinct, UTC.
            networks: in double precision, so that the size of a block does not change the digits that count.
            scale: of the training gaps.
        """
        inputs = network_inputs(times, scale)
        padded = torch.as_tensor(np.concatenate([np.zeros((CONTEXT - 1, inputs.shape[1])), inputs]))
        windows = torch.as_tensor(posts[:, None] + np.arange(CONTEXT))
        with torch.inference_mode():
            mixtures, activity = [], []
            for network in networks:
                blocks = [
                    next_gaps(network, padded[rows], scale.mean, scale.spread, last_only=True)
                    for rows in windows.split(_BLOCK_POSTS)
                ]
                mixtures.append(blocks[0].map(lambda *parts: torch.cat(parts), *blocks[1:]))
                weekly = weekly_activity(network, torch.as_tensor(weekly_basis())).numpy()
                activity.append(np.concatenate([[0.0], np.cumsum(weekly)]))
        return cls(hour_of_week(times[posts]), mixtures, activity)

    def cumulative_hazard(self, index: Integers, hours: Floats) -> Floats:
        """Return (r, k) the cumulative hazard of gaps: −log of the probability of a longer one.

        Args:
            index: (r,) which of the m posts.
            hours: (r, k) since the post.
        """
        hazard = np.empty(hours.shape)
        block = max(1, _BLOCK_VALUES // hours.shape[1])
        for first in range(0, len(index), block):
            rows = slice(first, first + block)
            hazard[rows] = self._cumulative_hazard(index[rows], hours[rows])
        return hazard

    def _cumulative_hazard(self, index: Integers, hours: Floats) -> Floats:
        chosen = torch.as_tensor(index)
        logs = torch.as_tensor(log_hours(hours))
        start = self.start[index][:, None]
        with torch.inference_mode():
            survival = []
            for mixture, activity in zip(self.mixtures, self.activity, strict=True):
                active = _until(start + hours, activity) - _until(start, activity)
                own = mixture.map(lambda part: part[chosen][:, None])
                survival.append(own.log_survival(logs, torch.as_tensor(np.log(np.maximum(active, 1e-6)))))
            mean = torch.logsumexp(torch.stack(survival), dim=0) - math.log(len(survival))
        hazard: Floats = np.maximum(-mean.numpy(), 0.0)
        return hazard


def needed_times(times: Times, first: int, last: int) -> tuple[Times, int]:
    """Return the times that distributions after the posts `first` to `last` depend on, and the row of `first`."""
    earliest = max(0, first - CONTEXT + 1)
    start = int(np.searchsorted(times, times[earliest] - LOOKBACK))
    start = max(0, min(start, earliest - LOOKBACK_GAPS))
    return times[start : last + 1], first - start


def _until(hours: Floats, activity: Floats) -> Floats:
    """Return the hours of usual activity from Monday 00:00 to so many hours later."""
    weeks, rest = np.divmod(hours, HOURS_PER_WEEK)
    until: Floats = weeks * activity[-1] + np.interp(rest, np.arange(HOURS_PER_WEEK + 1.0), activity)
    return until

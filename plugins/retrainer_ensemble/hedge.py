"""Learn the weights of the members from their forecasts of known waits.

The weights are those of AdaHedge (de Rooij, van Erven, Grünwald and Koolen 2014, "Follow the leader if you can, hedge
if you must"): exponential weights (Cesa-Bianchi and Lugosi 2006, "Prediction, learning, and games", chapter 2) whose
learning rate follows from the losses themselves. The loss of a forecast is twice its average pinball loss, the CRPS, in
hours. It is convex in the quantiles, so an average of quantiles loses at most the average of the members' losses, and
whatever the waits are, after T of them

    loss of the ensemble − loss of the best member ≤ 2 · gap ≤ sqrt(S² · T · ln K) + S · (4/3 · ln K + 2),

where `gap` is the mixability gap that is observed (it starts at a millionth of an hour), K the number of members, and S
the largest difference of their losses at one wait. Neither T nor S is known in advance. The losses need no clipping: S
is at most twice the largest mean distance between the quantiles of two members, however long a wait is. The T waits are
those that weights are learnt from; the first 20, for which the weights that are used are equal, may cost S each on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrainer.algorithms import LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

FEW_WAITS = 20  # with fewer the weights are equal
_FIRST_GAP_HOURS = 1e-6  # so that members that differ by rounding alone keep equal weights


@dataclass(frozen=True)
class HedgeState:
    """What n learners know.

    Attributes:
        losses: (n, K) the cumulative loss of each member, in hours.
        gap: (n,) the cumulative mixability gap, in hours.
        count: (n,) the number of waits.
    """

    losses: Floats
    gap: Floats
    count: Integers

    @classmethod
    def start(cls, members: int) -> HedgeState:
        """Return the state of one learner that knows nothing."""
        return cls(np.zeros((1, members)), np.full(1, _FIRST_GAP_HOURS), np.zeros(1, dtype=np.int64))

    def last(self) -> HedgeState:
        """Return the state of the last learner alone."""
        return HedgeState(self.losses[-1:], self.gap[-1:], self.count[-1:])

    def weights(self) -> Floats:
        """Return (n, K) weights; equal ones as long as few waits are known."""
        return np.where((self.count < FEW_WAITS)[:, None], 1 / self.losses.shape[1], _hedge_weights(self))


def learn_weights(start: HedgeState, losses: Floats, first: Integers, last: Integers) -> HedgeState:
    """Return what n learners know after known waits in order.

    Args:
        start: what each of them knows before: the state of one learner.
        losses: (m, K) of the members, in hours.
        first: (n,) the first wait of each learner.
        last: (n,) the one after its last.
    """
    learners = len(first)
    state = HedgeState(
        np.repeat(start.losses, learners, axis=0), np.repeat(start.gap, learners), np.repeat(start.count, learners)
    )
    for step in range(int((last - first).max(initial=0))):
        updated = _update(state, losses[np.minimum(first + step, len(losses) - 1)])
        active = first + step < last
        state = HedgeState(
            np.where(active[:, None], updated.losses, state.losses),
            np.where(active, updated.gap, state.gap),
            np.where(active, updated.count, state.count),
        )
    return state


def crps(quantiles: Floats, waits: Floats) -> Floats:
    """Return (n, K) twice the average pinball loss of (n, K, 99) quantiles, in hours."""
    error = waits[:, None, None] - quantiles
    losses: Floats = 2 * np.maximum(LEVELS * error, (LEVELS - 1) * error).mean(axis=2)
    return losses


def _update(state: HedgeState, losses: Floats) -> HedgeState:
    """Learn the (n, K) losses of one wait each."""
    weights = _hedge_weights(state)
    gap = (weights * losses).sum(axis=1) - _mix_loss(state, weights, losses)
    return HedgeState(state.losses + losses, state.gap + np.maximum(gap, 0), state.count + 1)


def _learning_rate(state: HedgeState) -> Floats:
    """Return (n, 1) ln K / gap."""
    rate: Floats = (np.log(state.losses.shape[1]) / state.gap)[:, None]
    return rate


def _hedge_weights(state: HedgeState) -> Floats:
    """Return (n, K) weights proportional to exp(−rate · loss)."""
    raw = np.exp(-_learning_rate(state) * (state.losses - state.losses.min(axis=1, keepdims=True)))
    weights: Floats = raw / raw.sum(axis=1, keepdims=True)
    return weights


def _mix_loss(state: HedgeState, weights: Floats, losses: Floats) -> Floats:
    """Return (n,) −log(Σ weight · exp(−rate · loss)) / rate, computed from the least loss of a member with weight."""
    least = np.where(weights > 0, losses, np.inf).min(axis=1, keepdims=True)
    rate = _learning_rate(state)
    share = (weights * np.exp(-rate * np.maximum(losses - least, 0))).sum(axis=1, keepdims=True)
    mix: Floats = (least - np.log(share) / rate)[:, 0]
    return mix

"""Whether one of two forecasters is better, after each live post: an answer that holds however often one looks.

Both forecast every post, so each post gives a difference of two losses. The evidence is the wealth of a gambler who
bets on the sign of the next difference: if neither forecaster has an advantage, no way of betting is expected to gain,
so the wealth is a test supermartingale, an *e-process*, and ever exceeds 1 / alpha with a probability of at most alpha
(Ville's inequality). Comparing forecasters by differences of scores that are bounded before each outcome is from Choe
and Ramdas 2023, "Comparing sequential forecasters", Operations Research; the bets and the mixture of their wealths are
from Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B.

The losses of one post are five numbers, `Stakes`. Side a is the live fit, side b the other forecaster.
"""

from __future__ import annotations

import math
import struct
import zlib
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from retrainer.model_types.timing import LEVELS, pinball_loss

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ROLLBACK_THRESHOLD = 100.0  # E for a level of 0.01, one-sided
INTERVAL_THRESHOLD = 40.0  # E for a level of 0.05, two-sided
VERDICT_THRESHOLD = 20.0  # E for a level of 0.05, one-sided

# More weight on large bets finds differences sooner, but more often calls equal forecasters different whose differences
# are autocorrelated.
_BETS = np.geomspace(0.02, 0.95, 24)
_ADVANTAGES = np.arange(-60, 61) / 100  # θ: how much smaller b's loss is, as a share of a's
_CAP_LEVEL = 94  # the index of the 95% quantile
_FLOOR_POSTS = 200
_NEGLIGIBLE = 1e-6  # as a share of the largest possible loss; forecasts that are equal up to rounding differ by less
_ROWS = 1000  # at once: 200 losses or stakes each
_FACTORS = 32  # multiplied before their logarithm is taken: at least 0.05^32

_STATE = struct.Struct("<4sQH")
_STATE_VERSION = b"EP01"
_CHECKSUM = struct.Struct("<I")

Key = TypeVar("Key")


class Stakes(NamedTuple):
    """The losses a and b of the two sides on n posts, and how far they could have been apart: five (n,) arrays.

    The last three are known before the outcome.

    Attributes:
        loss: a, the loss of the live fit.
        other_loss: b.
        lose: the largest possible a − b.
        other_lose: the largest possible b − a.
        most: the largest possible a.
    """

    loss: Floats
    other_loss: Floats
    lose: Floats
    other_lose: Floats
    most: Floats

    def rows(self, start: int, stop: int) -> Stakes:
        """Return the posts from `start` to before `stop`."""
        return Stakes(*(column[start:stop] for column in self))


class Interval(NamedTuple):
    """How much smaller b's loss is than a's, as a share of a's loss: 0.1 is 10% smaller, −0.1 is 10% larger.

    Attributes:
        low: the lower limit; None if it is below −0.6.
        high: the upper limit; None if it is above 0.6.
        estimate: the point estimate, within the limits; None if a has lost nothing yet.
    """

    low: float | None
    high: float | None
    estimate: float | None


def crps_stakes(quantiles: Floats, other_quantiles: Floats, wait: Floats) -> Stakes:
    """Return the stakes of two timing forecasts: their CRPS in hours, capped.

    Quantiles and outcome are capped at the later of the two 95% quantiles, which is known before the outcome, so the
    score remains proper and bounded. The CRPS is piecewise linear in the outcome, so its differences are largest at a
    quantile, at 0 or at the cap.

    Args:
        quantiles: (n, 99) hours, of the live fit.
        other_quantiles: (n, 99) hours.
        wait: (n,) the actual hours.
    """
    blocks = [
        _crps_stakes(quantiles[start : start + _ROWS], other_quantiles[start : start + _ROWS], wait[start:][:_ROWS])
        for start in range(0, len(wait), _ROWS)
    ]
    if not blocks:
        return Stakes(*np.zeros((5, 0)))
    return Stakes(*(np.concatenate(column) for column in zip(*blocks, strict=True)))


def score_stakes(score: Floats, other_score: Floats) -> Stakes:
    """Return the stakes of (n,) scores from 0 to 1, higher is better: the loss is 1 − score."""
    one = np.ones(len(score))
    return Stakes(1 - score, 1 - other_score, one, one, one)


class EProcess:
    """The evidence that a is worse than b, and that it is better, after the posts so far.

    The state has a constant size, and is the same to the last bit however the posts are cut into updates.

    Attributes:
        count: the number of posts so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._floor = _Floor()
        self._log_wealths = np.zeros((2, len(_BETS)))  # that a is worse, and better; of each bet

    def update(self, stakes: Stakes) -> None:
        """Add posts, in their order of time."""
        for _ in self._log_wealths_after(stakes):
            pass

    def trace(self, stakes: Stakes) -> Floats:
        """Add posts as `update` does; return (n, 2) `log_worse` and `log_better` after each."""
        steps = [_log_mean_exp(log_wealths, axis=2) for log_wealths in self._log_wealths_after(stakes)]
        return np.concatenate([np.zeros((0, 2)), *steps])

    def _log_wealths_after(self, stakes: Stakes) -> Iterator[Floats]:
        """Add posts; yield (n, 2, 24) the logarithm of the wealth of each bet after each post of a block."""
        for block, floor in self._floor.blocks(stakes):
            share = _shares(block, floor, 0.0)[:, None] * _BETS
            gains = np.stack([np.log1p(share), np.log1p(-share)], axis=1)
            # Added one by one, since sums in another order differ in their last bits.
            log_wealths = np.add.accumulate(np.concatenate([self._log_wealths[None], gains]), axis=0)[1:]
            self._log_wealths = log_wealths[-1]
            self.count += len(floor)
            yield log_wealths

    @property
    def log_worse(self) -> float:
        """The natural logarithm of the e-value that a is worse than b."""
        return float(_log_mean_exp(self._log_wealths[0], axis=0))

    @property
    def log_better(self) -> float:
        """The natural logarithm of the e-value that a is better than b."""
        return float(_log_mean_exp(self._log_wealths[1], axis=0))

    @property
    def worse(self) -> float:
        """The e-value that a is worse than b, at most 1e300."""
        return _finite_exp(self.log_worse)

    @property
    def better(self) -> float:
        """The e-value that a is better than b, at most 1e300."""
        return _finite_exp(self.log_better)

    def to_bytes(self) -> bytes:
        """Return the state: at most 2,002 bytes."""
        recent = self._floor.recent
        header = _STATE.pack(_STATE_VERSION, self.count, len(recent))
        state = header + np.concatenate([self._log_wealths.ravel(), recent]).astype("<f8").tobytes()
        return state + _CHECKSUM.pack(zlib.crc32(state))

    @classmethod
    def from_bytes(cls, state: bytes) -> EProcess:
        """Return the e-process with this state.

        Raises:
            ValueError: the state is damaged, or of an unknown version.
        """
        body, checksum = state[: -_CHECKSUM.size], state[-_CHECKSUM.size :]
        if len(body) < _STATE.size or checksum != _CHECKSUM.pack(zlib.crc32(body)):
            raise ValueError("a damaged state of an e-process")
        version, count, num_recent = _STATE.unpack_from(body)
        if version != _STATE_VERSION:
            raise ValueError(f"a state of an e-process of the unknown version {version!r}")
        process = cls()
        log_wealths = process._log_wealths
        numbers = np.frombuffer(body, "<f8", log_wealths.size + num_recent, _STATE.size).astype(float)
        process.count = count
        process._log_wealths = numbers[: log_wealths.size].reshape(log_wealths.shape)
        process._floor.recent = numbers[log_wealths.size :]
        return process


class ConfidenceSequence:
    """The interval of b's advantage after the posts so far, valid after every post: all θ that neither side rejects.

    The bets on "b's loss is θ smaller" are those of `EProcess`, on (1 − θ) a − b, for θ from −0.6 to 0.6 by 0.01. The
    memory is constant; 100,000 posts take about a second.
    """

    def __init__(self) -> None:
        self._floor = _Floor()
        self._log_wealths = np.zeros((2, len(_BETS), len(_ADVANTAGES)))
        self._differences, self._losses = 0.0, 0.0  # over their stakes

    def update(self, stakes: Stakes) -> None:
        """Add posts, in their order of time."""
        factors = np.empty((_FACTORS, *self._log_wealths.shape[1:]))
        others = np.empty_like(factors)
        for block, floor in self._floor.blocks(stakes):
            scale = _over(1.0, _scale(block, floor, 0.0))
            self._differences += float(((block.loss - block.other_loss) * scale).sum())
            self._losses += float((block.loss * scale).sum())
            shares = _shares(block, floor, _ADVANTAGES[:, None]).T  # (n, θ)
            for start in range(0, len(shares), _FACTORS):
                share = shares[start : start + _FACTORS, None, :]
                gain, loss = factors[: len(share)], others[: len(share)]
                np.multiply(share, _BETS[:, None], out=gain)
                np.subtract(1, gain, out=loss)
                gain += 1
                self._log_wealths[0] += np.log(np.multiply.reduce(gain, axis=0))
                self._log_wealths[1] += np.log(np.multiply.reduce(loss, axis=0))

    def interval(self, threshold: float = INTERVAL_THRESHOLD) -> Interval:
        """Return the interval of b's advantage; two-sided, its level is 1 − 2 / threshold."""
        below, above = _log_mean_exp(self._log_wealths, axis=1) - math.log(threshold)
        low = _crossing(_ADVANTAGES, below)
        high = _crossing(_ADVANTAGES[::-1], above[::-1])
        if self._losses <= 0:
            return Interval(low, high, None)
        estimate = self._differences / self._losses
        if low is not None:
            estimate = max(estimate, low)
        return Interval(low, high, estimate if high is None else min(estimate, high))


def select_by_e_bh(e_values: Mapping[Key, float], total: int, alpha: float) -> set[Key]:
    """Return the keys whose claims can all be made with a false discovery rate of at most alpha.

    The e-BH procedure (Wang and Ramdas 2022, "False discovery rate control with e-values", JRSS B): those of the k
    largest e-values, for the largest k whose smallest is at least total / (alpha · k). The e-values may depend on each
    other in any way.

    Args:
        e_values: the current e-values; not the largest ones so far.
        total: the number of claims that might have been made, at least `len(e_values)`.
        alpha: the rate.
    """
    ranked = sorted(e_values, key=lambda key: e_values[key], reverse=True)
    passing = [k for k, key in enumerate(ranked, start=1) if e_values[key] >= total / (alpha * k)]
    return set(ranked[: max(passing, default=0)])


class _Floor:
    """The floor of each stake: the median of the 200 stakes before it, or of those that there are; 0 for the first.

    Without it, the posts on which the two forecasts hardly differ would count as much as those on which they do.
    """

    def __init__(self) -> None:
        self.recent: Floats = np.zeros(0)

    def blocks(self, stakes: Stakes) -> Iterator[tuple[Stakes, Floats]]:
        """Yield up to 1,000 posts at a time with their floors."""
        for start in range(0, len(stakes.loss), _ROWS):
            block = stakes.rows(start, start + _ROWS)
            yield block, self._next(np.maximum(block.lose, block.other_lose))

    def _next(self, stakes: Floats) -> Floats:
        known = np.concatenate([self.recent, stakes])
        first = len(self.recent)
        self.recent = known[-_FLOOR_POSTS:]
        few = known[:_FLOOR_POSTS].tolist()  # of few numbers, NumPy's median takes many times as long
        floors = [median(few[:row]) if row else 0.0 for row in range(first, len(few))]
        if len(known) <= _FLOOR_POSTS:
            return np.array(floors)
        windows = np.lib.stride_tricks.sliding_window_view(known[:-1], _FLOOR_POSTS)
        return np.concatenate([floors, np.median(windows, axis=1)])


def _scale(stakes: Stakes, floor: Floats, advantage: Floats | float) -> Floats:
    """Return what (1 − θ) a − b can be at most, in either direction; at least the floor, and what is not negligible."""
    most_below = stakes.lose + np.maximum(-np.asarray(advantage), 0) * stakes.most
    most_above = stakes.other_lose + np.maximum(advantage, 0) * stakes.most
    least = np.maximum(floor, _NEGLIGIBLE * stakes.most)
    scale: Floats = np.maximum(np.maximum(most_below, most_above), least)
    return scale


def _shares(stakes: Stakes, floor: Floats, advantage: Floats | float) -> Floats:
    """Return (1 − θ) a − b as shares of the stake, from −1 to 1; (n,), or (k, n) for (k, 1) θ."""
    difference = (1 - advantage) * stakes.loss - stakes.other_loss
    shares: Floats = np.clip(_over(difference, _scale(stakes, floor, advantage)), -1, 1)  # sums are rounded
    return shares


def _over(value: Floats | float, stake: Floats) -> Floats:
    """Return value / stake; 0 where nothing is at stake."""
    quotient: Floats = np.divide(value, stake, out=np.zeros_like(stake), where=stake > 0)
    return quotient


def _log_mean_exp(values: Floats, axis: int) -> Floats:
    highest = values.max(axis=axis, keepdims=True)
    mean: Floats = np.log(np.exp(values - highest).mean(axis=axis)) + np.squeeze(highest, axis)
    return mean


def _finite_exp(value: float) -> float:
    return math.exp(value) if value < math.log(1e300) else 1e300


def _crossing(advantages: Floats, evidence: Floats) -> float | None:
    """Return where the evidence first falls below 0; None if it does so before the first advantage."""
    (accepted,) = np.nonzero(evidence < 0)
    first = int(accepted[0]) if len(accepted) else len(evidence)
    if first == 0:
        return None
    if first == len(evidence):
        return float(advantages[-1])
    rejected = evidence[first - 1]
    share = rejected / (rejected - evidence[first])
    return float(advantages[first - 1] + share * (advantages[first] - advantages[first - 1]))


def _crps_stakes(quantiles: Floats, other_quantiles: Floats, wait: Floats) -> Stakes:
    cap = np.maximum(quantiles[:, _CAP_LEVEL], other_quantiles[:, _CAP_LEVEL])
    a, b = np.minimum(quantiles, cap[:, None]), np.minimum(other_quantiles, cap[:, None])
    outcome = np.minimum(wait, cap)
    outcomes = np.concatenate([a, b, np.zeros((len(wait), 1)), cap[:, None]], axis=1)
    order = np.argsort(outcomes, axis=1)
    outcomes = np.take_along_axis(outcomes, order, axis=1)
    loss = _crps_at(a, outcomes, order < len(LEVELS))
    other_loss = _crps_at(b, outcomes, (order >= len(LEVELS)) & (order < 2 * len(LEVELS)))
    return Stakes(
        2 * pinball_loss(a, outcome).mean(axis=1),
        2 * pinball_loss(b, outcome).mean(axis=1),
        (loss - other_loss).max(axis=1).clip(0),
        (other_loss - loss).max(axis=1).clip(0),
        loss.max(axis=1),
    )


def _crps_at(quantiles: Floats, outcomes: Floats, is_quantile: NDArray[np.bool_]) -> Floats:
    """Return (n, k) the CRPS at ascending outcomes, among which are the quantiles."""
    below = np.cumsum(is_quantile, axis=1)  # the number of quantiles up to each outcome
    sum_below = np.cumsum(np.where(is_quantile, outcomes, 0), axis=1)
    sum_above = quantiles.sum(axis=1, keepdims=True) - sum_below
    weighted = outcomes * LEVELS.sum() - (quantiles * LEVELS).sum(axis=1, keepdims=True)
    losses: Floats = 2 / len(LEVELS) * (weighted + sum_above - (len(LEVELS) - below) * outcomes)
    return losses

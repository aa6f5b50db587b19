"""By how much one forecaster's error is smaller than another's, as an interval that holds at any number of looks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from retrainer.evaluation.sequential import Interval

_SMALL = 0.02  # a difference that hardly shows in whole percents


@dataclass(frozen=True)
class ErrorInterval:
    """The share by which the error of the first forecaster is smaller than that of the second; below 0, it is larger.

    Attributes:
        low: the lower limit; None if the error may be over 150% larger.
        high: the upper limit; None if it may be over 37.5% smaller.
        estimate: the estimate, within the limits; None if the second one has made no error yet.
    """

    low: float | None
    high: float | None
    estimate: float | None

    @classmethod
    def of_a(cls, interval: Interval) -> ErrorInterval:
        """Turn the interval of how much smaller the error of b is into that of how much smaller the error of a is.

        If the error of b is 1 - θ times that of a, the error of a is 1 / (1 - θ) times that of b.
        """
        return cls(_reverse(interval.high), _reverse(interval.low), _reverse(interval.estimate))

    @property
    def is_known(self) -> bool:
        """Whether there is a limit."""
        return self.low is not None or self.high is not None

    @property
    def max_difference(self) -> float:
        """The largest difference, in either direction, within the limits; infinite without one of them."""
        return math.inf if self.low is None or self.high is None else max(abs(self.low), abs(self.high))

    def describe(self, found: Literal["worse", "better"] | None = None) -> str:
        """Return it in words that go on with a name, such as `8% to 21% smaller than`.

        Args:
            found: a difference that is certain at a lower level, at which the interval may include none.
        """
        low, high = self.low, self.high
        if found == "better" or (found is None and low is not None and low > 0):
            return _one_sided(low, high, "smaller")
        if found == "worse" or (high is not None and high < 0):
            return _one_sided(_negate(high), _negate(low), "larger")
        if self.max_difference <= _SMALL:
            return f"within {max(math.ceil(100 * self.max_difference), 1)}% of"
        larger = "larger" if low is None else f"{_format_share(-low)} larger"
        smaller = "smaller" if high is None else f"{_format_share(high)} smaller"
        if low is None or high is None:
            return f"perhaps {larger}, perhaps {smaller} than"
        return f"between {larger} and {smaller} than"


def _reverse(theta: float | None) -> float | None:
    return None if theta is None or theta >= 1 else 0.0 - theta / (1 - theta)


def _negate(value: float | None) -> float | None:
    return None if value is None else -value


def _format_share(value: float) -> str:
    return "under 1%" if round(value, 2) == 0 else f"{value:.0%}"


def _one_sided(low: float | None, high: float | None, word: str) -> str:
    """Return how much smaller or larger an error is, which it certainly is."""
    from_zero = low is None or round(low, 2) <= 0
    if high is None:
        return f"{word} than" if from_zero else f"at least {low:.0%} {word} than"
    if from_zero:
        return f"up to {high:.0%} {word} than"
    return f"{low:.0%} to {high:.0%} {word} than"

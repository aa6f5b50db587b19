"""Streams of posts with a known distribution of the next gap, and streams derived from others.

    from benchmarks.simulated import PROCESSES, derived_posts, simulated_posts

    posts = simulated_posts("bursts", seed=1)     # as `measure_streams` takes them
    streams = derived_posts(posts, seed=1)        # by name: subsampled, thinned, merged, spliced, stretched, paused

    PROCESSES["bursts"].log_survival(hours, posts, elapsed)   # the truth, from the same past that a forecast knows

A process states the true probability that a gap is longer than some hours, given the posts so far. Where the rate of
posts follows a hidden state, that is the exact mixture over the states that the past leaves possible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from retrainer.model_types.base import hours_between, utc_times
from retrainer.posts.sample import BY_HOUR, BY_WEEKDAY

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

START = np.datetime64("2020-01-06T00:00", "us")  # a Monday
HOUR = 3_600_000_000  # in microseconds
WEEK = 168


class Process(Protocol):
    """A point process whose distribution of the next gap is known."""

    def simulate(self, count: int, generator: np.random.Generator) -> Floats:
        """Return (count,) ascending times in hours since `START`."""

    def log_survival(self, hours: Floats, posts: Integers, elapsed: Floats) -> Floats:
        """Return (n, k) log P(gap > elapsed), given the posts so far.

        Args:
            hours: (m,) the times of the posts.
            posts: (n,) the index of the last post that is known.
            elapsed: (n, k) hours since that post.
        """


@dataclass(frozen=True)
class Renewal:
    """Independent gaps.

    Attributes:
        quantile: maps P(gap ≤ t) to t in hours.
        survival: maps t to P(gap > t).
        on_the_hour: whether gaps are rounded up to whole hours.
    """

    quantile: Callable[[Floats], Floats]
    survival: Callable[[Floats], Floats]
    on_the_hour: bool = False

    def simulate(self, count: int, generator: np.random.Generator) -> Floats:
        gaps = self.quantile(generator.random(count))
        hours: Floats = np.cumsum(np.ceil(gaps) if self.on_the_hour else gaps)
        return hours

    def log_survival(self, hours: Floats, posts: Integers, elapsed: Floats) -> Floats:  # noqa: ARG002
        survival: Floats = self.survival(np.floor(elapsed) if self.on_the_hour else elapsed)
        return np.log(survival)


@dataclass(frozen=True)
class Weekly:
    """A Poisson process with a rate for each hour of the week.

    Attributes:
        rates: (168,) posts per hour, from Monday 00:00 on.
    """

    rates: Floats

    def simulate(self, count: int, generator: np.random.Generator) -> Floats:
        expected = np.cumsum(generator.exponential(size=count))
        weeks, rest = np.divmod(expected, self.rates.sum())
        hours: Floats = weeks * WEEK + np.interp(rest, self._cumulative, np.arange(WEEK + 1.0))
        return hours

    def log_survival(self, hours: Floats, posts: Integers, elapsed: Floats) -> Floats:
        start = hours[posts][:, None]
        return self._expected_until(start) - self._expected_until(start + elapsed)

    def _expected_until(self, hours: Floats) -> Floats:
        weeks, rest = np.divmod(hours, WEEK)
        expected: Floats = weeks * self.rates.sum() + np.interp(rest, np.arange(WEEK + 1.0), self._cumulative)
        return expected

    @property
    def _cumulative(self) -> Floats:
        return np.concatenate([[0.0], np.cumsum(self.rates)])


@dataclass(frozen=True)
class Switching:
    """A Poisson process whose rate follows a hidden Markov chain: the Markov-modulated Poisson process.

    Fischer and Meier-Hellstern 1993, "The Markov-modulated Poisson process (MMPP) cookbook".

    Attributes:
        rates: (states,) posts per hour in each state.
        dwell: (states,) the mean hours in each state; every other state is equally likely afterwards.
    """

    rates: Floats
    dwell: Floats

    def simulate(self, count: int, generator: np.random.Generator) -> Floats:
        found: list[Floats] = []
        start, state, total = 0.0, 0, 0
        while total < count:
            end = start + generator.exponential(self.dwell[state])
            posts = generator.poisson(self.rates[state] * (end - start))
            found.append(np.sort(generator.uniform(start, end, posts)))
            total += posts
            start, state = end, int(generator.choice(np.delete(np.arange(len(self.rates)), state)))
        return np.concatenate(found)[:count]

    def log_survival(self, hours: Floats, posts: Integers, elapsed: Floats) -> Floats:
        values, left, right = self._decomposed
        state = self._states(hours)[posts]
        decay = np.exp(elapsed[:, :, None] * values)
        survival = np.einsum("ni,nki,i->nk", state @ left, decay, right.sum(axis=1))
        logarithm: Floats = np.log(np.clip(survival.real, 1e-300, 1.0))
        return logarithm

    def _states(self, hours: Floats) -> Floats:
        """Return (m, states) the probability of each state right after each post, given the posts so far."""
        values, left, right = self._decomposed
        found = np.empty((len(hours), len(self.rates)))
        found[0] = self.dwell * self.rates / (self.dwell @ self.rates)
        for index, gap in enumerate(np.diff(hours), 1):
            state = ((found[index - 1] @ left) * np.exp(gap * values) @ right).real * self.rates
            found[index] = state / state.sum()
        return found

    @property
    def _decomposed(self) -> tuple[NDArray[np.complex128], NDArray[np.complex128], NDArray[np.complex128]]:
        """Return the eigenvalues of the transitions without a post, and the two matrices around them."""
        states = len(self.rates)
        leaving = 1 / self.dwell
        transitions = np.tile(leaving[:, None] / (states - 1), (1, states))
        np.fill_diagonal(transitions, -leaving)
        values, vectors = np.linalg.eig(transitions - np.diag(self.rates))
        return values, vectors, np.linalg.inv(vectors)


@dataclass(frozen=True)
class SelfExciting:
    """A Hawkes process with an exponential kernel.

    Attributes:
        base: posts per hour without earlier posts.
        children: the mean number of posts that a post causes.
        decay: per hour.
    """

    base: float
    children: float
    decay: float

    def simulate(self, count: int, generator: np.random.Generator) -> Floats:
        hours = np.empty(count)
        now, excited = 0.0, 0.0
        for index in range(count):
            while True:  # thinning, Ogata 1981: the intensity only falls until the next post
                bound = self.base + excited
                wait = generator.exponential(1 / bound)
                now, excited = now + wait, excited * np.exp(-self.decay * wait)
                if generator.random() * bound < self.base + excited:
                    break
            hours[index] = now
            excited += self.children * self.decay
        return hours

    def log_survival(self, hours: Floats, posts: Integers, elapsed: Floats) -> Floats:
        excited = np.empty(len(hours))
        level = 0.0
        for index, gap in enumerate(np.diff(hours, prepend=hours[0])):
            excited[index] = level = level * np.exp(-self.decay * gap) + self.children * self.decay
        return -self.base * elapsed + excited[posts][:, None] * np.expm1(-self.decay * elapsed) / self.decay


def lomax(median: float, shape: float, *, on_the_hour: bool = False) -> Renewal:
    """Return independent gaps with a power-law tail of exponent `shape`."""
    scale = median / (2 ** (1 / shape) - 1)
    return Renewal(
        lambda level: scale * ((1 - level) ** (-1 / shape) - 1),
        lambda hours: (1 + hours / scale) ** -shape,
        on_the_hour,
    )


# name: the process, and the number of posts
PROCESSES: dict[str, tuple[Process, int]] = {
    "heavy tail": (lomax(2.0, 1.5), 3000),
    "on the hour": (lomax(3.0, 2.5, on_the_hour=True), 3000),
    "weekly": (Weekly(np.outer(BY_WEEKDAY, BY_HOUR).ravel()), 4000),
    "bursts": (Switching(np.array([1.0, 0.0]), np.array([24.0, 500.0])), 1500),
    "regimes": (Switching(np.array([0.03, 0.3, 2.0]), np.array([700.0, 500.0, 200.0])), 4000),
    "self-exciting": (SelfExciting(0.04, 0.8, 1.0), 3000),
    "sparse": (lomax(150.0, 2.5), 400),
}


def simulated_posts(name: str, seed: int, count: int | None = None) -> pd.DataFrame:
    """Return the posts of one of `PROCESSES`, as many as stated there or `count`: post_id, created_at, content."""
    process, usual_count = PROCESSES[name]
    return _posts(
        START + (process.simulate(count or usual_count, np.random.default_rng(seed)) * HOUR).astype("timedelta64[us]")
    )


def derived_posts(posts: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """Return streams derived from another, by name.

    subsampled: every fourth post; thinned: three of ten at random; merged: with itself, moved by half its length in
    whole weeks; spliced: of eight pieces, every other one thinned to 15%; stretched: four times as slow; paused: with
    twelve pauses of 2 to 60 days at random places.
    """
    generator = np.random.default_rng(seed)
    times = utc_times(posts)
    half = np.timedelta64(round(float(hours_between(times[:1], times[-1:])[0]) / 2 / WEEK) * WEEK, "h")
    piece = np.arange(len(times)) * 8 // len(times)
    places = generator.integers(0, len(times), 12)
    days = np.round(np.exp(generator.uniform(np.log(2), np.log(60), len(places))))
    pauses = (np.append(0, np.cumsum(days)) * 24 * HOUR).astype("timedelta64[us]")
    later, earlier = times[times >= times[0] + half], times[times <= times[-1] - half] + half
    return {
        "subsampled": _posts(times[::4]),
        "thinned": _posts(times[generator.random(len(times)) < 0.3]),  # noqa: PLR2004
        "merged": _posts(np.sort(np.concatenate([later, earlier]))),
        "spliced": _posts(times[(piece % 2 == 0) | (generator.random(len(times)) < 0.15)]),  # noqa: PLR2004
        "stretched": _posts(times[0] + (times - times[0]) * 4),
        "paused": _posts(times + pauses[(np.arange(len(times))[:, None] >= places).sum(axis=1)]),
    }


def _posts(times: NDArray[np.datetime64]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "post_id": [f"{number:07d}" for number in range(len(times))],
            "created_at": pd.DatetimeIndex(times, tz="UTC").as_unit("us"),
            "content": None,
        }
    )

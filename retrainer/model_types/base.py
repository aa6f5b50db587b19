"""What both model types have in common: origins, metrics, and the shape of a model type."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.model_types import ModelTypeName

Forecasts = TypeVar("Forecasts")
Targets = TypeVar("Targets")

SAMPLE_SIZE = 20  # how many forecasts `predictions_json` holds


@dataclass(frozen=True)
class Origins:
    """The moments at which n forecasts are made.

    Posts are ordered by (created_at, post_id). An origin knows the rows `posts.iloc[: position + 1]` and no other,
    so a later post of the same second stays unknown to it.

    Attributes:
        time: (n,) datetime64[us], UTC; when the forecast is made, never before the last post it knows.
        position: (n,) int64; the row of the last post known.
        target_time: (n,) datetime64[us], UTC; for content, the moment of the post that is to be foretold.
    """

    time: NDArray[np.datetime64]
    position: NDArray[np.int64]
    target_time: NDArray[np.datetime64] | None = None

    def __len__(self) -> int:
        return len(self.position)

    def __getitem__(self, index: slice | NDArray[Any] | Sequence[int]) -> Origins:
        chosen = None if self.target_time is None else self.target_time[index]
        return Origins(self.time[index], self.position[index], chosen)

    @classmethod
    def before(cls, posts: pd.DataFrame, rows: NDArray[np.int64], *, target_time_known: bool = False) -> Origins:
        """Return the origins from which the posts at `rows` are forecast: right after the post before each.

        Args:
            target_time_known: whether the forecaster knows when those posts come (for timing, the answer).
        """
        times = utc_times(posts)
        return cls(time=times[rows - 1], position=rows - 1, target_time=times[rows] if target_time_known else None)

    @classmethod
    def at(cls, posts: pd.DataFrame, times: NDArray[np.datetime64]) -> Origins:
        """Return the origins at wall-clock times, each knowing every post up to it, those of that very moment included.

        Args:
            times: (n,) datetime64[us], UTC; none before the first post.

        Raises:
            ValueError: a time lies before the first post.
        """
        position = np.searchsorted(utc_times(posts), times, side="right") - 1
        if (position < 0).any():
            raise ValueError(f"no post is known at '{times.min()}'")
        return cls(time=times, position=position.astype(np.int64))

    def copy(self) -> Origins:
        """Return origins that can be changed without changing these."""
        target = None if self.target_time is None else self.target_time.copy()
        return Origins(self.time.copy(), self.position.copy(), target)


def utc_times(posts: pd.DataFrame) -> NDArray[np.datetime64]:
    """Return `created_at` as an array of datetime64[us] in UTC."""
    times: NDArray[np.datetime64] = (
        posts["created_at"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]")
    )
    return times


def hours_between(start: NDArray[np.datetime64], end: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Return `end - start` in hours."""
    return (end - start) / np.timedelta64(3_600_000_000, "us")


@dataclass(frozen=True)
class Metric:
    """One figure of an evaluation, as it is shown.

    Attributes:
        key: its name in documents and tables.
        label: its name for a reader.
        unit: how it is written: hours, a share shown in percent, or a plain number.
        threshold: what the specification calls a good value, or None.
        description: what it says, in one line, for a reader who does not know it; empty where the label says it.
    """

    key: str
    label: str
    unit: Literal["hours", "share", "number", "count", "dollars"]
    threshold: tuple[Literal["<", ">"], float] | None = None
    description: str = ""

    def format(self, value: float | None) -> str:
        """Write a value in the metric's unit; a dash where there is none."""
        if value is None:
            return "-"
        match self.unit:
            case "hours":
                return f"{value:.2f}h"
            case "share":
                return f"{value:.1%}"
            case "count":
                return f"{value:.0f}"
            case "dollars":
                return f"${value:.4f}"
            case "number":
                return f"{value:.4f}"

    def has_value(self, value: float | None) -> bool:
        """Whether there is a figure; nothing counted and nothing paid are none."""
        return value is not None and (value != 0 or self.unit not in {"count", "dollars"})

    def is_good(self, value: float) -> bool | None:
        """Whether the value meets the specification's good value; None where it names none."""
        if self.threshold is None:
            return None
        sign, bound = self.threshold
        return value < bound if sign == "<" else value > bound


@dataclass(frozen=True)
class Reliability:
    """What was stated, held against what came.

    Attributes:
        what: what was stated of each forecast, in a reader's words.
        stated: the probability stated, or the mean of those stated.
        observed: the share of the forecasts for which it came true.
        num_predictions: of how many forecasts.
    """

    what: str
    stated: float
    observed: float
    num_predictions: int


class StoredForecasts(NamedTuple, Generic[Forecasts, Targets]):
    """What a forecasts file holds.

    Attributes:
        forecasts: the version's.
        targets: what came true.
        post_ids: the ids of the posts foretold.
        naive: the naive forecasts beside them; None in a file of a release that did not keep them.
    """

    forecasts: Forecasts
    targets: Targets
    post_ids: list[str]
    naive: Forecasts | None


class ModelType(ABC, Generic[Forecasts, Targets]):
    """One model type: its forecasts, targets, metrics and files. It has no state."""

    name: ClassVar[ModelTypeName]
    metrics: ClassVar[tuple[Metric, ...]]
    component_names: ClassVar[tuple[str, ...]]  # the metrics that the means of the contributions are
    forecasts_suffix: ClassVar[str]
    target_time_known: ClassVar[bool]  # whether a forecaster is told when the post to foretell comes

    @abstractmethod
    def usable_posts(self, posts: pd.DataFrame) -> pd.DataFrame:
        """Return the posts that count for this type, in order, with a fresh index."""

    @abstractmethod
    def require_trainable(self, posts: pd.DataFrame) -> None:
        """Check that the training posts carry what this type learns from.

        Raises:
            InsufficientData: they do not.
        """

    @abstractmethod
    def targets(self, posts: pd.DataFrame, origins: Origins, rows: NDArray[np.int64]) -> Targets:
        """Return what came true: the posts at `rows`, each forecast from the origin of the same place."""

    @abstractmethod
    def validate(self, forecasts: Any, count: int) -> Forecasts:
        """Return a plugin's answer as forecasts of this type.

        Raises:
            ValueError: it is not `count` forecasts, or they are not of this type; says what is wrong.
        """

    @abstractmethod
    def scorable(self, forecasts: Forecasts) -> NDArray[np.bool_]:
        """Return (n,) which forecasts can be scored at all."""

    @abstractmethod
    def select(self, forecasts: Forecasts, targets: Targets, keep: NDArray[np.bool_]) -> tuple[Forecasts, Targets]:
        """Return the forecasts and targets where `keep` is true."""

    @abstractmethod
    def score(self, forecasts: Forecasts, targets: Targets) -> dict[str, float]:
        """Return the metrics of forecasts that can all be scored; the deciding one is `overall_score`."""

    @abstractmethod
    def count_outcomes(self, forecasts: Forecasts) -> dict[str, float]:
        """Return what is counted over all forecasts, those that cannot be scored included."""

    @abstractmethod
    def are_equal(self, one: Forecasts, other: Forecasts) -> bool:
        """Whether two sets of forecasts are equal but for rounding."""

    @abstractmethod
    def summary_line(self, metrics: dict[str, float]) -> str:
        """Return the figures of an evaluation as one line of a log."""

    @abstractmethod
    def skill_scores(self, metrics: dict[str, float], naive: dict[str, float]) -> dict[str, float]:
        """Return how much better than the naive forecast: 0 is as good, 1 is perfect, below 0 is worse."""

    @abstractmethod
    def reliability(self, forecasts: Forecasts, targets: Targets) -> list[Reliability]:
        """Return stated probabilities beside what came; an empty list for a type that states none.

        Args:
            forecasts: forecasts that can all be scored.
            targets: of the same length.
        """

    @abstractmethod
    def dump(
        self,
        forecasts: Forecasts,
        targets: Targets,
        origins: Origins,
        post_ids: Sequence[str],
        naive: Forecasts,
    ) -> bytes:
        """Return the forecasts file: everything that the figures of an evaluation can be computed from again."""

    @abstractmethod
    def parse(self, data: bytes) -> StoredForecasts[Forecasts, Targets]:
        """Read a forecasts file back."""

    @abstractmethod
    def sample(self, forecasts: Forecasts, targets: Targets, post_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return up to 20 forecasts beside what came true, evenly spread, for a reader."""

    @abstractmethod
    def score_components(self, forecasts: Forecasts, targets: Targets) -> NDArray[np.float64]:
        """Return (n, k) what each post adds: figures whose means make the overall score."""

    @abstractmethod
    def overall_score(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (…) the overall scores of (…, k) means of contributions."""

    @abstractmethod
    def segments(self, posts: pd.DataFrame, origins: Origins) -> dict[str, NDArray[np.bool_]]:
        """Return by name in which of n situations of a user's kind each origin is, told by what it knows."""


def quarters_of_day(times: NDArray[np.datetime64]) -> dict[str, NDArray[np.bool_]]:
    """Return which of (n,) times, UTC, lie in each quarter of the day, by a name for it."""
    hours = times.astype("datetime64[h]").astype(int) % 24
    return {
        f"from {start:02d}:00 to {start + 6:02d}:00 UTC": (hours >= start) & (hours < start + 6)
        for start in range(0, 24, 6)
    }


def evenly_spaced(count: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` of 0 … count-1, evenly spread over the whole span, first and last among them."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    if most == 1:
        return np.array([count - 1], dtype=np.int64)
    return np.round(np.linspace(0, count - 1, most)).astype(np.int64)


def skill_score(score: float, reference: float) -> float:
    """Return the skill (S - S_ref) / (1 - S_ref) of a score whose perfect value is 1.

    Source: Wilks, Statistical Methods in the Atmospheric Sciences, "skill scores". A perfect reference leaves nothing
    to gain: the skill is then 0 for an equal score.
    """
    if reference >= 1:
        return 0.0 if score >= reference else float(score - reference)
    return float((score - reference) / (1 - reference))

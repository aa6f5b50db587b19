"""The interface of a model type, and what both types share: origins and metrics."""

from __future__ import annotations

import io
import zipfile
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import numpy as np

from retrainer.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Sequence, Sized

    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.model_types import ModelTypeName

Forecasts = TypeVar("Forecasts", bound="Sized")
Targets = TypeVar("Targets")

MAX_ARRAY_BYTES = 512 * 1024 * 1024  # of all arrays in a file: the forecasts from 300,000 origins
SAMPLE_SIZE = 20  # forecasts in `predictions_json`


@dataclass(frozen=True)
class Origins:
    """The origins of n forecasts: when each is made, and which posts it knows.

    Posts are ordered by (created_at, post_id). An origin knows the rows `posts.iloc[: position + 1]` and no others, so
    it does not know a later post of the same second.

    Attributes:
        time: (n,) datetime64[us], UTC; when the forecast is made, not before the last known post.
        position: (n,) int64; the row of the last known post.
        target_time: (n,) datetime64[us], UTC; for content, the time of the post to forecast.
    """

    time: NDArray[np.datetime64]
    position: NDArray[np.int64]
    target_time: NDArray[np.datetime64] | None = None

    def __len__(self) -> int:
        return len(self.position)

    def __getitem__(self, index: slice | NDArray[Any] | Sequence[int]) -> Origins:
        target_time = None if self.target_time is None else self.target_time[index]
        return Origins(self.time[index], self.position[index], target_time)

    @classmethod
    def before(cls, posts: pd.DataFrame, rows: NDArray[np.int64], *, target_time_known: bool = False) -> Origins:
        """Return the origins for forecasting the posts at `rows`: each right after the previous post.

        Args:
            posts: all posts, in order.
            rows: (n,) the posts to forecast.
            target_time_known: whether forecasts may use the times of these posts. For timing, they are the answer.
        """
        times = utc_times(posts)
        return cls(time=times[rows - 1], position=rows - 1, target_time=times[rows] if target_time_known else None)

    @classmethod
    def at(cls, posts: pd.DataFrame, times: NDArray[np.datetime64]) -> Origins:
        """Return the origins at wall-clock times, each knowing every post up to and including its time.

        Args:
            posts: all posts, in order.
            times: (n,) datetime64[us], UTC.

        Raises:
            ValueError: a time is before the first post.
        """
        position = np.searchsorted(utc_times(posts), times, side="right") - 1
        if (position < 0).any():
            raise ValueError(f"no post at or before '{times.min()}'")
        return cls(time=times, position=position.astype(np.int64))

    def copy(self) -> Origins:
        """Return a deep copy."""
        target = None if self.target_time is None else self.target_time.copy()
        return Origins(self.time.copy(), self.position.copy(), target)


def utc_times(posts: pd.DataFrame) -> NDArray[np.datetime64]:
    """Return `created_at` as an array of datetime64[us] in UTC."""
    times: NDArray[np.datetime64] = posts["created_at"].to_numpy("datetime64[us]")
    return times


def read_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Read the arrays of an .npz file. Nothing in it is run, and a small file cannot expand to more than 512 MB.

    Raises:
        ArtifactError: it is not such a file, or too large.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_ARRAY_BYTES:
            raise ArtifactError(
                f"a file of arrays expands from {len(data):,} to {size:,} bytes, more than {MAX_ARRAY_BYTES:,}",
                hint="It was not read. Evaluate the version again",
            )
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise ArtifactError(f"a file of arrays is damaged: {error}", hint="Evaluate the version again") from error


def hours_between(start: NDArray[np.datetime64], end: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Return `end - start` in hours."""
    return (end - start) / np.timedelta64(3_600_000_000, "us")


def silences(times: NDArray[np.datetime64], origins: Origins) -> NDArray[np.float64]:
    """Return (n,) the hours of silence so far at each origin or, right after a post, those before it.

    Args:
        times: (m,) of all posts, in order.
        origins: n origins.
    """
    so_far = hours_between(times[origins.position], origins.time)
    before = hours_between(times[np.maximum(origins.position - 1, 0)], times[origins.position])
    return np.where(so_far > 0, so_far, before)


@dataclass(frozen=True)
class Metric:
    """How a metric of an evaluation is shown.

    Attributes:
        key: its key in documents.
        label: its name in tables.
        unit: its unit; a share is shown in percent.
        description: an explanation in one line; empty if the label says enough.
        threshold: what a good value is below or above; None if that is not defined.
        best: the value of a perfect forecast; None if no value is better than another.
    """

    key: str
    label: str
    unit: Literal["hours", "share", "number", "count", "dollars"]
    description: str = ""
    threshold: tuple[Literal["<", ">"], float] | None = None
    best: float | None = None

    @property
    def is_tally(self) -> bool:
        """Whether the metric is a count or a cost, summed over all forecasts, not only the scored ones."""
        return self.unit in {"count", "dollars"}

    def format(self, value: float | None) -> str:
        """Format a value in the metric's unit; a dash for None."""
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

    def compare(self, value: float | None, other: float | None) -> Literal["better", "same", "worse"] | None:
        """Compare a value with another one as they are shown; None if that makes no sense."""
        if self.best is None or value is None or other is None:
            return None
        if self.format(value) == self.format(other):
            return "same"
        return "better" if abs(value - self.best) < abs(other - self.best) else "worse"

    def has_value(self, value: float | None) -> bool:
        """Whether there is a value to show; a count or cost of 0 is not shown."""
        return value is not None and (value != 0 or not self.is_tally)


@dataclass(frozen=True)
class Reliability:
    """A row of a reliability diagram: predicted probability against observed frequency.

    Attributes:
        what: the event, for a reader.
        stated: the predicted probability, or the mean of the predicted ones.
        observed: the share of forecasts for which the event occurred.
        num_predictions: the number of forecasts.
    """

    what: str
    stated: float
    observed: float
    num_predictions: int


class StoredForecasts(NamedTuple, Generic[Forecasts, Targets]):
    """The content of a forecasts file.

    Attributes:
        forecasts: the version's forecasts.
        targets: the actual values.
        post_ids: the ids of the forecast posts.
        naive: the naive forecasts; None in a file from a release that did not store them.
        times: (n,) datetime64[us], UTC; when each forecast was made.
    """

    forecasts: Forecasts
    targets: Targets
    post_ids: list[str]
    naive: Forecasts | None
    times: NDArray[np.datetime64]


class ModelType(ABC, Generic[Forecasts, Targets]):
    """A model type: its forecasts, targets, metrics and files. It has no state."""

    name: ClassVar[ModelTypeName]
    metrics: ClassVar[tuple[Metric, ...]]
    component_names: ClassVar[tuple[str, ...]]  # the metrics that are the means of `score_components`
    figure_names: ClassVar[tuple[str, ...]]  # of `figures`
    forecasts_suffix: ClassVar[str]
    target_time_known: ClassVar[bool]  # whether forecasts may use the time of the post to forecast

    @abstractmethod
    def usable_posts(self, posts: pd.DataFrame) -> pd.DataFrame:
        """Return the posts that this type can use, in order, with a new index."""

    @abstractmethod
    def require_trainable(self, posts: pd.DataFrame) -> None:
        """Check that the training posts have what this type learns from.

        Raises:
            InsufficientData: they do not.
        """

    @abstractmethod
    def targets(self, posts: pd.DataFrame, origins: Origins, rows: NDArray[np.int64]) -> Targets:
        """Return the actual values of the posts at `rows`, each forecast from the origin with the same index."""

    @abstractmethod
    def validate(self, forecasts: Any, count: int) -> Forecasts:
        """Return a plugin's answer as forecasts of this type.

        Raises:
            TypeError: it is not a collection of forecasts of this type.
            ValueError: it is not `count` forecasts, or one of them is invalid.
        """

    def scorable(self, forecasts: Forecasts) -> NDArray[np.bool_]:
        """Return (n,) which forecasts can be scored."""
        return np.ones(len(forecasts), dtype=bool)

    @abstractmethod
    def select(self, forecasts: Forecasts, targets: Targets, keep: NDArray[np.bool_]) -> tuple[Forecasts, Targets]:
        """Return the forecasts and targets where `keep` (n,) is true."""

    @abstractmethod
    def score(self, forecasts: Forecasts, targets: Targets) -> dict[str, float]:
        """Return the metrics of scorable forecasts; `overall_score` decides comparisons."""

    def count_outcomes(self, forecasts: Forecasts) -> dict[str, float]:  # noqa: ARG002
        """Return counts and costs over all forecasts, including those that cannot be scored."""
        return {}

    @abstractmethod
    def are_equal(self, one: Forecasts, other: Forecasts) -> bool:
        """Whether two sets of forecasts are equal up to rounding."""

    @abstractmethod
    def summary_line(self, metrics: dict[str, float]) -> str:
        """Return the main metrics as one line for the log."""

    def skill_scores(self, metrics: dict[str, float], naive: dict[str, float]) -> dict[str, float]:
        """Return the skill over the naive forecast: 0 is equal, 1 is perfect, below 0 is worse."""
        return {"skill": skill_score(metrics["overall_score"], naive["overall_score"])}

    def reliability(self, forecasts: Forecasts, targets: Targets) -> list[Reliability]:  # noqa: ARG002
        """Return the reliability of predicted probabilities; empty for a type that predicts none.

        Args:
            forecasts: scorable forecasts.
            targets: their actual values.
        """
        return []

    @abstractmethod
    def dump(
        self,
        forecasts: Forecasts,
        targets: Targets,
        origins: Origins,
        post_ids: Sequence[str],
        naive: Forecasts,
    ) -> bytes:
        """Return the content of a forecasts file, from which every metric of an evaluation can be recomputed."""

    def parse(self, data: bytes) -> StoredForecasts[Forecasts, Targets]:
        """Parse a forecasts file.

        Raises:
            ArtifactError: it is damaged.
        """
        try:
            stored = self._parse(data)
            self.validate(stored.forecasts, len(stored.post_ids))
            self.select(stored.forecasts, stored.targets, np.ones(len(stored.post_ids), dtype=bool))
        except (LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
            problem = f"a file of forecasts is damaged: {type(error).__name__}: {error}"
            raise ArtifactError(problem, hint="Evaluate the version again") from error
        return stored

    @abstractmethod
    def _parse(self, data: bytes) -> StoredForecasts[Forecasts, Targets]:
        """Parse a forecasts file; any error means that it is damaged."""

    def sample(self, forecasts: Forecasts, targets: Targets, post_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return up to 20 evenly spaced forecasts with their actual values, for a reader."""
        rows = evenly_spaced(len(forecasts), SAMPLE_SIZE)
        return [{"post_id": post_ids[row], **self.describe(forecasts, targets, row)} for row in rows]

    @abstractmethod
    def describe(self, forecasts: Forecasts, targets: Targets, row: int) -> dict[str, Any]:
        """Return a forecast with its actual value, for a reader."""

    @abstractmethod
    def score_components(self, forecasts: Forecasts, targets: Targets) -> NDArray[np.float64]:
        """Return (n, k) the components of the score of each post, whose means give the overall score."""

    def figures(self, forecasts: Forecasts, targets: Targets) -> NDArray[np.float64]:
        """Return (n, k) the figures that are kept for each live post: the score components, and perhaps others."""
        return self.score_components(forecasts, targets)

    @abstractmethod
    def overall_score(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (…) the overall scores for (…, k) means of score components."""

    @abstractmethod
    def segments(self, posts: pd.DataFrame, origins: Origins) -> dict[str, NDArray[np.bool_]]:
        """Return, by name, a mask (n,) of the origins in each segment, using only what the origins know."""


def quarters_of_day(times: NDArray[np.datetime64]) -> dict[str, NDArray[np.bool_]]:
    """Return, by name, a mask of the (n,) times, UTC, in each quarter of the day."""
    hours = times.astype("datetime64[h]").astype(int) % 24
    return {
        f"from {start:02d}:00 to {start + 6:02d}:00 UTC": (hours >= start) & (hours < start + 6)
        for start in range(0, 24, 6)
    }


def evenly_spaced(count: int, max_count: int) -> NDArray[np.int64]:
    """Return at most `max_count` of 0 … count-1, evenly spaced, including the first and the last."""
    if count <= max_count:
        return np.arange(count, dtype=np.int64)
    if max_count == 1:
        return np.array([count - 1], dtype=np.int64)
    return np.round(np.linspace(0, count - 1, max_count)).astype(np.int64)


def skill_score(score: float, reference: float) -> float:
    """Return the skill (S - S_ref) / (1 - S_ref) of a score whose perfect value is 1.

    Against a perfect reference, the skill of an equal score is 0.

    Source: Wilks, Statistical Methods in the Atmospheric Sciences, "skill scores".
    """
    if reference >= 1:
        return 0.0 if score >= reference else float(score - reference)
    return float((score - reference) / (1 - reference))

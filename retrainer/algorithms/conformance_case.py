"""An algorithm trained on sample posts, with some forecasts: what the checks of the conformance suite are about."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from retrainer.errors import RetrainerError
from retrainer.model_types import get_model_type
from retrainer.model_types.base import Origins, evenly_spaced, utc_times

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from pydantic import BaseModel

    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.base import ModelType
    from retrainer.model_types.likelihood import Likelihoods

ORIGINS = 6  # right after a post; for timing as many more in the middle of the gaps that follow
TRAINING_SHARE = 0.8


class ConformanceError(AssertionError):
    """An algorithm does not conform. Names the check and what was observed."""


@dataclass(frozen=True)
class Case:
    """An algorithm trained on the sample, with some forecasts."""

    algorithm: LoadedAlgorithm
    model_type: ModelTypeName
    options: BaseModel
    posts: pd.DataFrame
    training_count: int
    model: Any
    origins: Origins
    forecasts: Any

    @property
    def label(self) -> str:
        return f"'{self.algorithm.name}' ({self.model_type})"

    @property
    def definition(self) -> ModelType[Any, Any]:
        return get_model_type(self.model_type)

    def train(self, posts: pd.DataFrame, previous: Any | None = None) -> Any:
        """Train a model, save it and load it again."""
        return save_and_load(self.algorithm, self.algorithm.train(posts, self.options, self.model_type, previous))

    def predict(self, posts: pd.DataFrame, origins: Origins, model: Any = None) -> Any:
        chosen = self.model if model is None else model
        return self.algorithm.predict(chosen, posts, origins, self.options, self.model_type)

    def simulate(self, posts: pd.DataFrame, origin: Origins, *, paths: int, max_posts: int) -> NDArray[np.float64]:
        return self.algorithm.simulate(
            self.model, posts, origin, self.options, horizon_hours=1e4, max_posts=max_posts, paths=paths, seed=0
        )

    def likelihood(self, posts: pd.DataFrame, origins: Origins, texts: Sequence[str]) -> Likelihoods:
        likelihoods = self.algorithm.likelihood(self.model, posts, origins, texts, self.options)
        if likelihoods is None:
            raise ConformanceError(f"{self.label}: it has no hook likelihood")
        return likelihoods

    def require_equal(self, one: Any, other: Any, problem: str) -> None:
        if not self.definition.are_equal(one, other):
            raise ConformanceError(f"{self.label}: {problem}")

    def forecast_at(self, index: int, forecasts: Any = None) -> Any:
        """Return one of the forecasts."""
        chosen = self.forecasts if forecasts is None else forecasts
        keep = np.arange(len(self.origins)) == index
        targets = self.definition.targets(self.posts, self.origins, self.origins.position + 1)
        return self.definition.select(chosen, targets, keep)[0]

    def describe_origin(self, index: int) -> str:
        return f"at {self.origins.time[index]} UTC, which knows the posts up to row {self.origins.position[index]},"


def create_case(
    algorithm: LoadedAlgorithm, model_type: ModelTypeName, given: Mapping[str, Any], posts: pd.DataFrame
) -> Case:
    usable = _posts_of_a_run(posts, model_type)
    training_count = int(len(usable) * TRAINING_SHARE)
    options = algorithm.options(given, model_type)
    try:
        trained = algorithm.train(usable.iloc[:training_count], options, model_type)
        model = save_and_load(algorithm, trained)
        rows = training_count + evenly_spaced(len(usable) - training_count - 3, ORIGINS)
        origins = Origins.before(usable, rows, target_time_known=get_model_type(model_type).target_time_known)
        if model_type == "timing":
            origins = _add_silences(usable, origins)
        forecasts = algorithm.predict(model, usable, origins, options, model_type)
    except RetrainerError as error:
        raise ConformanceError(f"'{algorithm.name}' ({model_type}) cannot train and forecast: {error}") from error
    return Case(algorithm, model_type, options, usable, training_count, model, origins, forecasts)


def _posts_of_a_run(posts: pd.DataFrame, model_type: ModelTypeName) -> pd.DataFrame:
    """Return the posts as a run gets them: timing models get no texts."""
    usable = get_model_type(model_type).usable_posts(posts)
    columns = {
        "post_id": usable["post_id"].astype(object),
        "created_at": usable["created_at"].astype("datetime64[us, UTC]"),
    }
    if model_type == "content":
        columns["content"] = pd.Series(usable["content"].tolist())  # with whatever dtype pandas gives texts
    return pd.DataFrame(columns)


def _add_silences(posts: pd.DataFrame, origins: Origins) -> Origins:
    """Return the origins followed by as many in the middle of the gaps that start at them."""
    times = utc_times(posts)
    middles = origins.time + (times[origins.position + 1] - origins.time) // 2
    return Origins(np.concatenate([origins.time, middles]), np.concatenate([origins.position, origins.position]))


def save_and_load(algorithm: LoadedAlgorithm, model: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        names = algorithm.save(model, Path(folder))
        return algorithm.load({name: (Path(folder) / name).read_bytes() for name in names})


def change_posts_after(posts: pd.DataFrame, position: int) -> pd.DataFrame:
    """Return the posts with a different time, text and id for every post after the row."""
    changed = posts.copy()
    later = np.arange(len(posts)) > position
    shift = pd.to_timedelta(np.cumsum(later) * 7, unit="h") + pd.Timedelta(hours=31)
    changed.loc[later, "created_at"] = (posts["created_at"] + shift)[later]
    if "content" in changed:
        changed.loc[later, "content"] = [f"something else entirely, number {row}" for row in np.flatnonzero(later)]
    changed.loc[later, "post_id"] = [f"another-{row:09d}" for row in np.flatnonzero(later)]
    return changed

"""Algorithms whose models and forecasts are cached: nothing is computed twice from the same input.

The pipeline calls them like any other. A model is identified by the hash of its files; a forecast by the hashes of the
model, the posts, the origins and the options, and by the plugin's version and code.
"""

from __future__ import annotations

import hashlib
import json
import resource
import tempfile
import time
from dataclasses import dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer import __version__
from retrainer.algorithms.budget import Budget
from retrainer.algorithms.events import EventBus
from retrainer.algorithms.fingerprint import fingerprint
from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
from retrainer.errors import CostLimitReached
from retrainer.evaluation.lookahead import check_lookahead
from retrainer.files import write_files
from retrainer.model_types import get_model_type
from retrainer.replay.store import CachedResult, pack_files, pack_forecasts, unpack_files, unpack_forecasts
from retrainer.runtime import FrozenStopwatch, Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from pydantic import BaseModel

    from retrainer.algorithms import CostEstimate
    from retrainer.algorithms.manager import AlgorithmSource
    from retrainer.algorithms.model import TrainedModel
    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.base import Origins
    from retrainer.replay.sandbox import PostHistory
    from retrainer.replay.store import ReplayStore


class AlgorithmCache:
    """The cached models and forecasts of a replay. Called with a name, it returns a cached algorithm.

    Attributes:
        seconds: the processor time that computing everything used so far has taken, cached or not. Set it to 0 to
            measure a step.
        max_cost: what paid forecasts may cost, in US dollars; None if no forecast is paid.
        spent_usd: what they have cost since the replay was first started, across resumes.
    """

    def __init__(
        self, algorithms: AlgorithmSource, store: ReplayStore, history: PostHistory, max_cost: float | None = None
    ) -> None:
        self.store = store
        self.history = history
        self.seconds = 0.0
        self.max_cost = max_cost
        self.spent_usd = store.spent_usd()
        self._algorithms = algorithms
        self._loaded: dict[str, CachedAlgorithm] = {}

    def __call__(self, name: str, model_type: ModelTypeName | None = None) -> CachedAlgorithm:
        """Return the cached algorithm of this name; see `load_algorithm`."""
        if name not in self._loaded:
            loaded = self._algorithms(name)
            attributes = {field.name: getattr(loaded, field.name) for field in fields(LoadedAlgorithm)}
            self._loaded[name] = CachedAlgorithm(**attributes, cache=self)
        if model_type is not None:
            self._loaded[name].require(model_type)
        return self._loaded[name]

    def runtime(self) -> Runtime:
        """Return a runtime with these algorithms, frozen time and no listeners."""
        return Runtime(
            events=EventBus(lambda _: {}, mute=True),
            algorithms=self,
            stopwatch=FrozenStopwatch,
            check_lookahead=CachedLookaheadCheck(self),
        )

    def get_or_compute(self, key: str, compute: Callable[[], bytes]) -> bytes:
        """Return the cached data of a key, computing it if necessary."""
        result = self.store.get(key)
        if result is None:
            started = _processor_seconds()
            data = compute()
            result = CachedResult(_processor_seconds() - started, data)
            self.store.put(key, result)
        self.seconds += result.seconds
        return result.data

    def pay(self, usd: float) -> None:
        """Record the cost of forecasts, so that a resumed replay knows it."""
        self.spent_usd += usd
        self.store.record_spending(self.spent_usd)

    def require_budget(self, estimate: CostEstimate | None) -> None:
        """Check that forecasts can be paid for.

        Raises:
            CostLimitReached: they could exceed the limit.
        """
        cost = estimate.cost_usd if estimate is not None else 0.0
        if self.max_cost is not None and self.spent_usd + cost > self.max_cost:
            raise CostLimitReached(
                f"the next forecasts could cost ${cost:.4f}, which exceeds --max-cost ${self.max_cost:g}: "
                f"${self.spent_usd:.4f} is spent",
                hint="Continue with --resume and a higher --max-cost",
            )


class CachedModel:
    """A model identified by its files, and loaded when it is needed.

    Attributes:
        files: the files by name.
        key: the hash of the files.
    """

    def __init__(self, files: dict[str, bytes], load: Callable[[Mapping[str, bytes]], Any]) -> None:
        self.files = files
        self.key = _hash(*(part for name, data in sorted(files.items()) for part in (name, data)))
        self._load = load

    @cached_property
    def model(self) -> Any:
        """What the plugin's `load` returns."""
        return self._load(self.files)


@dataclass(frozen=True)
class CachedAlgorithm(LoadedAlgorithm):
    """An algorithm whose models and forecasts are cached."""

    cache: AlgorithmCache

    def train(
        self, posts: pd.DataFrame, config: BaseModel, model_type: ModelTypeName, previous: CachedModel | None = None
    ) -> Any:
        """Return the model trained on these posts with these options, from this earlier model."""
        train = partial(self._train_files, posts, config, model_type, previous)
        digest = self.cache.history.digest_of(posts)
        if digest is None:
            return CachedModel(train(), super().load)
        start = "" if previous is None else previous.key
        key = _hash("train", *self.identity(config, model_type), digest, start)
        files = self.cache.get_or_compute(key, lambda: pack_files(train()))
        return CachedModel(unpack_files(files), super().load)

    def _train_files(
        self, posts: pd.DataFrame, config: BaseModel, model_type: ModelTypeName, previous: CachedModel | None
    ) -> dict[str, bytes]:
        model = super().train(posts, config, model_type, None if previous is None else previous.model)
        with tempfile.TemporaryDirectory() as folder:
            return {name: (Path(folder) / name).read_bytes() for name in super().save(model, Path(folder))}

    def save(self, model: Any, directory: Path) -> list[str]:
        """Write the model's files."""
        write_files(model.files, directory)
        return sorted(model.files)

    def load(self, files: Mapping[str, bytes]) -> Any:
        """Return a model that is loaded when it is needed."""
        return CachedModel(dict(files), super().load)

    def predict(
        self,
        model: Any,
        posts: pd.DataFrame,
        origins: Origins,
        config: BaseModel,
        model_type: ModelTypeName,
        budget: Budget | None = None,
        without: frozenset[str] = frozenset(),
        state: bytes | None = None,
    ) -> Any:
        """Return the forecasts; those with a state are not cached.

        Raises:
            CostLimitReached: they are paid and could exceed the limit.
        """
        budget = budget or Budget()
        predict = partial(super().predict, model, posts, origins, config, model_type, budget, without, state)

        def compute() -> Any:
            if not self.description.paid:
                return predict()
            self.cache.require_budget(self.estimate(model, posts, origins, config, model_type, without))
            before, reported = budget.cost_usd, 0.0
            try:
                forecasts = predict()
                reported = get_model_type(model_type).count_outcomes(forecasts).get("cost_usd", 0.0)
                return forecasts
            finally:  # failed calls may cost money too, and a plugin may report costs without using the budget
                self.cache.pay(max(budget.cost_usd - before, reported))

        digest = self.cache.history.digest_of(posts)
        if digest is None or state is not None:
            return compute()
        target_time = b"" if origins.target_time is None else origins.target_time.astype("datetime64[us]").tobytes()
        times = (origins.time.astype("datetime64[us]").tobytes(), origins.position.tobytes(), target_time)
        key = _hash("predict", *self.identity(config, model_type), model.key, digest, *times, *sorted(without))
        return unpack_forecasts(self.cache.get_or_compute(key, lambda: pack_forecasts(compute())), model_type)

    def likelihood(
        self,
        model: Any,
        posts: pd.DataFrame,
        origins: Origins,
        texts: Sequence[str],
        config: BaseModel,
    ) -> None:
        """Return None: the likelihood of posts decides nothing, and a replay shows only what decides."""

    def _call(self, hook: str, **arguments: Any) -> Any:
        """Call a hook with the plugin's own model."""
        if isinstance(arguments.get("model"), CachedModel):
            arguments["model"] = arguments["model"].model
        return super()._call(hook, **arguments)

    def identity(self, config: BaseModel, model_type: ModelTypeName) -> tuple[str, ...]:
        """Return what determines the models and forecasts of this algorithm, besides posts and origins."""
        options = json.dumps(config.model_dump(mode="json"), sort_keys=True)
        algorithms = (self, *map(self.cache, self.members(config)))
        code = [part for each in algorithms for part in (each.name, each.distribution, each.version, each.fingerprint)]
        return (__version__, *code, model_type, options)

    @cached_property
    def fingerprint(self) -> str:
        """The hash of the plugin's code."""
        return fingerprint(self)


class CachedLookaheadCheck:
    """Checks each model of a replay once: the code does not change, and a version is evaluated many times."""

    def __init__(self, cache: AlgorithmCache) -> None:
        self._cache = cache
        self._seconds: dict[str, float] = {}  # the processor time of the check, by model

    def __call__(
        self, model: TrainedModel, posts: pd.DataFrame, origins: Origins, forecasts: Any, targets: Any
    ) -> None:
        """Check the forecasts of a model that was not checked yet."""
        key = model.model.key
        if key in self._seconds:
            self._cache.seconds += self._seconds[key]
            return
        before = self._cache.seconds
        check_lookahead(model, posts, origins, forecasts, targets, _call_plugin)
        self._seconds[key] = self._cache.seconds - before


def _call_plugin(model: TrainedModel, posts: pd.DataFrame, origins: Origins) -> Any:
    """Return forecasts from a new call of the plugin, whatever is cached."""
    return LoadedAlgorithm.predict(model.algorithm, model.model, posts, origins, model.options, model.model_type)


def _processor_seconds() -> float:
    """Return the processor time of this process and its finished children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _hash(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()

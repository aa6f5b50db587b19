"""Algorithms that remember: what was trained or forecast once, from the same, is not made again.

The pipeline calls them as any other. A model is known by the hash of its files; a forecast by that of the model, the
posts, the origins, the options, and the plugin's version and code.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer import __version__
from retrainer.algorithms.budget import workspace
from retrainer.algorithms.manager import RESERVED_FILE, LoadedAlgorithm, find_algorithm
from retrainer.errors import CostLimitReached
from retrainer.model_types import get_model_type
from retrainer.registry.artifacts import EVALUATIONS
from retrainer.replay.cache import Kept, pack_files, pack_forecasts, unpack_files, unpack_forecasts
from retrainer.replay.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from pydantic import BaseModel

    from retrainer.algorithms import CostEstimate, Importance
    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.base import Origins
    from retrainer.replay.cache import Work
    from retrainer.replay.sandbox import PostHistory


@dataclass
class SpendingLimit:
    """What may be spent on paid forecasts, and what was, in US dollars.

    Attributes:
        limit: None where nothing is paid for.
        spent: by this replay since it was begun, the calls that it was resumed after included.
    """

    limit: float | None = None
    spent: float = 0.0

    def require(self, estimate: CostEstimate | None) -> None:
        """Check that forecasts can be paid for.

        Raises:
            CostLimitReached: they could take the cost over the limit.
        """
        cost = estimate.cost_usd if estimate is not None else 0.0
        if self.limit is not None and self.spent + cost > self.limit:
            raise CostLimitReached(
                f"the next forecasts could cost ${cost:.4f}, more than is left of --max-cost ${self.limit:g}: "
                f"${self.spent:.4f} is spent",
                hint="Go on with --resume and a higher --max-cost",
            )


class Memory:
    """What the algorithms of a replay remember.

    Attributes:
        seconds: processor time that all that was used took when it was made; set it to 0 to count anew.
        blind: the keys of models that later posts were seen not to change, and how long it took to see.
        asking_since: what `seconds` was when it was last asked.
    """

    def __init__(self, work: Work, past: PostHistory, purse: SpendingLimit) -> None:
        self.work = work
        self.past = past
        self.purse = purse
        self.seconds = 0.0
        self.blind: dict[str, float] = {}
        self.asking_since = 0.0
        self._loaded: dict[str, CachedAlgorithm] = {}

    def algorithm(self, name: str) -> LoadedAlgorithm:
        """Return an algorithm that remembers, for `algorithms.manager.set_apart`."""
        if name not in self._loaded:
            found = find_algorithm(name)
            given = {field.name: getattr(found, field.name) for field in fields(LoadedAlgorithm)}
            self._loaded[name] = CachedAlgorithm(**given, memory=self)
        return self._loaded[name]

    def pay(self, usd: float) -> None:
        """Take the cost of forecasts out of the purse; that stays so if the replay is resumed."""
        self.purse.spent += usd
        self.work.note_spent(self.purse.spent)

    def once(self, key: str, make: Callable[[], bytes]) -> bytes:
        """Return what is kept under a key; made now where nothing is."""
        kept = self.work.recall(key)
        if kept is None:
            started = _processor_seconds()
            data = make()
            kept = Kept(_processor_seconds() - started, data)
            self.work.keep(key, kept)
        self.seconds += kept.seconds
        return kept.data


class CachedModel:
    """A model by its files, read when it is needed.

    Attributes:
        key: the hash of its files.
    """

    def __init__(self, files: dict[str, bytes], load: Callable[[Path], Any]) -> None:
        self.files = files
        self.key = _hash(*(part for name, data in sorted(files.items()) for part in (name, data)))
        self._load = load

    @cached_property
    def model(self) -> Any:
        """What the plugin's `load` returns."""
        with tempfile.TemporaryDirectory() as folder:
            _write(self.files, Path(folder))
            return self._load(Path(folder))


@dataclass(frozen=True)
class CachedAlgorithm(LoadedAlgorithm):
    """An algorithm whose models and forecasts are kept."""

    memory: Memory

    def train(self, posts: pd.DataFrame, config: BaseModel, model_type: ModelTypeName) -> Any:
        """Return the model trained on these posts with these options, trained at most once."""
        known = self.memory.past.digest_of(posts)
        if known is None:
            return CachedModel(self._trained_files(posts, config, model_type), super().load)
        key = _hash("train", *self._identity(config, model_type), known)
        files = self.memory.once(key, lambda: pack_files(self._trained_files(posts, config, model_type)))
        return CachedModel(unpack_files(files), super().load)

    def _trained_files(self, posts: pd.DataFrame, config: BaseModel, model_type: ModelTypeName) -> dict[str, bytes]:
        model = super().train(posts, config, model_type)
        with tempfile.TemporaryDirectory() as folder:
            return {name: (Path(folder) / name).read_bytes() for name in super().save(model, Path(folder))}

    def save(self, model: Any, directory: Path) -> list[str]:
        """Write the model's files."""
        _write(model.files, directory)
        return sorted(model.files)

    def load(self, directory: Path) -> Any:
        """Read the model's files; what stands beside them is none of the model."""
        names = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
        own = [name for name in names if str(name) != RESERVED_FILE and name.parts[0] != EVALUATIONS]
        return CachedModel({name.as_posix(): (directory / name).read_bytes() for name in own}, super().load)

    def predict(
        self, model: Any, posts: pd.DataFrame, origins: Origins, config: BaseModel, model_type: ModelTypeName
    ) -> Any:
        """Return the forecasts, made at most once.

        Raises:
            CostLimitReached: they must be paid for, and could cost more than is left.
        """
        known = self.memory.past.digest_of(posts)
        if known is None:
            return self._paid_forecasts(model, posts, origins, config, model_type)
        told = b"" if origins.target_time is None else origins.target_time.astype("datetime64[us]").tobytes()
        moments = (origins.time.astype("datetime64[us]").tobytes(), origins.position.tobytes(), told)
        key = _hash("predict", *self._identity(config, model_type), model.key, known, *moments)

        def make() -> bytes:
            return pack_forecasts(self._paid_forecasts(model, posts, origins, config, model_type))

        return unpack_forecasts(self.memory.once(key, make), model_type)

    def predict_anew(
        self, model: Any, posts: pd.DataFrame, origins: Origins, config: BaseModel, model_type: ModelTypeName
    ) -> Any:
        """Return forecasts that are made now, and not kept; never asked for where they are paid for."""
        return super().predict(model.model, posts, origins, config, model_type)

    def is_known_blind(self, model: CachedModel) -> bool:
        """Whether it was asked before: a replay has one code of the plugin, and tries a version on many posts."""
        seconds = self.memory.blind.get(model.key)
        if seconds is None:
            self.memory.asking_since = self.memory.seconds
            return False
        self.memory.seconds += seconds
        return True

    def note_blind(self, model: CachedModel) -> None:
        """Remember it until the replay ends."""
        self.memory.blind[model.key] = self.memory.seconds - self.memory.asking_since

    def estimate(
        self, model: Any, posts: pd.DataFrame, origins: Origins, config: BaseModel, model_type: ModelTypeName
    ) -> CostEstimate | None:
        """Return the most that forecasts should cost."""
        return super().estimate(model.model, posts, origins, config, model_type)

    def explain(self, model: Any, config: BaseModel, model_type: ModelTypeName) -> list[Importance]:
        """Return what the model's forecasts lean on."""
        return super().explain(model.model, config, model_type)

    def _paid_forecasts(
        self, model: CachedModel, posts: pd.DataFrame, origins: Origins, config: BaseModel, model_type: ModelTypeName
    ) -> Any:
        if not self.description.paid:
            return super().predict(model.model, posts, origins, config, model_type)
        self.memory.purse.require(self.estimate(model, posts, origins, config, model_type))
        account = workspace().account
        before, told = account.cost_usd, 0.0
        try:
            forecasts = super().predict(model.model, posts, origins, config, model_type)
            told = get_model_type(model_type).count_outcomes(forecasts).get("cost_usd", 0.0)
            return forecasts
        finally:  # what failed may be paid for too; the plugin of a stranger may keep no account
            self.memory.pay(max(account.cost_usd - before, told))

    def _identity(self, config: BaseModel, model_type: ModelTypeName) -> tuple[str, ...]:
        options = json.dumps(config.model_dump(mode="json"), sort_keys=True)
        return (__version__, self.name, self.distribution, self.version, self._source, model_type, options)

    @cached_property
    def _source(self) -> str:
        return fingerprint(self)


def _processor_seconds() -> float:
    """Return what this process and those it waited for took of the processors; what else runs here does not count."""
    return sum(os.times()[:4])


def _write(files: dict[str, bytes], folder: Path) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def _hash(*parts: str | bytes) -> str:
    running = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        running.update(len(data).to_bytes(8, "big") + data)
    return running.hexdigest()

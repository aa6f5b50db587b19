"""Finds algorithms by entry point, loads the one that is chosen, and calls its hooks.

Each algorithm gets a plugin manager of its own that holds it and the observers: a hook call then reaches exactly one
algorithm, and an observer may wrap it (`hookimpl(wrapper=True)`).
"""

from __future__ import annotations

import json
import math
import re
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import BaseModel, ValidationError

from retrainer.algorithms.calling import PluginStatus, create_plugin_manager, describe, one_process, register_plugin
from retrainer.algorithms.events import all_observers, unheard
from retrainer.algorithms.hookspecs import (
    NEEDED_HOOKS,
    Algorithm,
    AlgorithmHooks,
    CostEstimate,
    Importance,
    hookimpl,
)
from retrainer.config import explain_options_error
from retrainer.entry_points import ALGORITHMS, find_entry_points, installed_algorithms
from retrainer.errors import AlgorithmError, RetrainerError, UnknownName, UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from pathlib import Path

    import pandas as pd
    import pluggy

    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.base import Origins

MODEL_FILE = "model.json"
RESERVED_FILE = "manifest.json"  # the registry writes it beside the model's files
NOT_DETERMINISTIC = (
    "gives two answers to the same question: seed it, and do not change the model or the options in predict"
)
MAY_BE_NONE = frozenset({"check_ready", "score"})  # the hooks that need not answer
INNERMOST = "innermost"  # what `_innermost` is registered as
OBSERVER = "observer"  # and a number and its name: what an observer is registered as beside an algorithm

_stand_in: ContextVar[Callable[[str], LoadedAlgorithm] | None] = ContextVar("stand_in", default=None)


def list_algorithms() -> list[PluginStatus]:
    """Describe every installed algorithm; a broken one is listed with its problem."""
    statuses = []
    for name, distribution, version, _ in find_entry_points(ALGORITHMS):
        try:
            loaded = load_algorithm(name)
        except RetrainerError as error:
            statuses.append(PluginStatus(name, distribution, version, problem=str(error)))
        else:
            statuses.append(PluginStatus(name, distribution, version, loaded.hook_names, loaded.description))
    return statuses


def load_algorithm(name: str, model_type: ModelTypeName | None = None) -> LoadedAlgorithm:
    """Import one algorithm and check it: a unique name, all needed hooks, no hook misspelled or wrongly signed.

    Raises:
        UnknownName: no installed package provides it.
        UsageError: it does not forecast this model type.
        AlgorithmError: two packages provide it, or it is broken.
    """
    loaded = (_stand_in.get() or find_algorithm)(name)
    if model_type is not None:
        loaded.require(model_type)
    return loaded


@contextmanager
def set_apart(load: Callable[[str], LoadedAlgorithm]) -> Iterator[None]:
    """Work apart from the world: algorithms are what `load` gives for a name, and no observer hears of an event.

    So the pipeline can be tried on the past, by an algorithm that remembers its answers, and nobody is notified.
    """
    token = _stand_in.set(load)
    try:
        with unheard():
            yield
    finally:
        _stand_in.reset(token)


def find_algorithm(name: str) -> LoadedAlgorithm:
    """Import one algorithm and check it, whatever stands in for it; see `load_algorithm`."""
    offers = [offer for offer in find_entry_points(ALGORITHMS) if offer.name == name]
    if not offers:
        known = installed_algorithms()
        hint = did_you_mean(name, known) or f"Installed: {', '.join(known)}"
        raise UnknownName(f"unknown algorithm '{name}'", hint=hint)
    if len(offers) > 1:
        both = " and ".join(offer.origin for offer in offers)
        raise AlgorithmError(f"two packages provide the algorithm '{name}': {both}", hint="Uninstall one of them")
    (offer,) = offers
    try:
        plugin = offer.point.load()
    except (Exception, SystemExit) as error:
        raise AlgorithmError(
            f"the plugin '{name}' ({offer.origin}) cannot be imported: {describe(error)}",
            hint="Mend or uninstall it",
        ) from error
    return LoadedAlgorithm.from_plugin(plugin, name, (offer.distribution, offer.version))


@dataclass(frozen=True)
class LoadedAlgorithm:
    """An algorithm ready to be called. Every method raises AlgorithmError, naming the plugin and hook, if it fails."""

    description: Algorithm
    distribution: str
    version: str
    hook_names: tuple[str, ...]
    manager: pluggy.PluginManager

    @classmethod
    def from_plugin(
        cls, plugin: object, name: str, distribution: tuple[str, str] = ("unknown", "0")
    ) -> LoadedAlgorithm:
        """Check a plugin object and make it callable.

        Raises:
            AlgorithmError: it lacks a needed hook, or has one that does not fit.
        """
        manager = create_plugin_manager()
        try:
            hooks = register_plugin(manager, plugin, name)
        except ValueError as error:
            raise AlgorithmError(f"the plugin '{name}' has a hook that does not fit: {error}") from error
        missing = [hook for hook in NEEDED_HOOKS if hook not in hooks]
        if missing:
            raise AlgorithmError(
                f"the plugin '{name}' has no hook {', '.join(missing)}",
                hint="Mark the functions with @retrainer.algorithms.hookimpl",
            )
        if ("save" in hooks) != ("load" in hooks):
            raise AlgorithmError(f"the plugin '{name}' has only one of the hooks save and load")
        for number, (observer_name, observer) in enumerate(all_observers()):
            manager.register(observer, f"{OBSERVER}:{number}:{observer_name}")
        manager.register(_innermost(name), INNERMOST)
        loaded = cls(Algorithm(name, (), ""), *distribution, hooks, manager)
        description = loaded._call("algorithm")
        _check_description(description, name)
        return cls(description, *distribution, hooks, manager)

    @property
    def name(self) -> str:
        """The algorithm's name."""
        return self.description.name

    def require(self, model_type: ModelTypeName) -> None:
        """Check that it forecasts this model type.

        Raises:
            UsageError: it does not.
        """
        if model_type not in self.description.model_types:
            does = " and ".join(self.description.model_types)
            raise UsageError(f"the algorithm '{self.name}' forecasts {does}, not {model_type}")

    def options(self, given: Mapping[str, Any], model_type: ModelTypeName) -> BaseModel:
        """Check the options given in the settings and return them as the plugin's own class.

        Raises:
            ConfigError: an option is unknown or wrong.
        """
        try:
            return self.description.config.model_validate(dict(given))
        except ValidationError as error:
            raise explain_options_error(error, model_type, self.name, self.description.config) from None

    def recorded_options(self, recorded: Mapping[str, Any], model_type: ModelTypeName) -> BaseModel:
        """Read back the options that a version was trained with, as they were recorded in JSON.

        Raises:
            ConfigError: this release of the plugin no longer takes them.
        """
        try:
            return self.description.config.model_validate_json(json.dumps(recorded))
        except ValidationError as error:
            raise explain_options_error(error, model_type, self.name, self.description.config) from None

    def check_ready(self, config: BaseModel) -> None:
        """Let the plugin say that a forecast could not be made, before any work is done."""
        self._call("check_ready", config=config)

    def train(self, posts: pd.DataFrame, config: BaseModel, model_type: ModelTypeName) -> Any:
        """Train a model on a copy of the posts, which the plugin may change as it likes."""
        return self._call("train", posts=posts.copy(), config=config, model_type=model_type)

    def predict(
        self, model: Any, posts: pd.DataFrame, origins: Origins, config: BaseModel, model_type: ModelTypeName
    ) -> Any:
        """Return the forecasts, checked to be one an origin and of this model type."""
        from retrainer.model_types import get_model_type  # noqa: PLC0415  numpy and pandas are slow to import

        answer = self._call(
            "predict", model=model, posts=posts.copy(), origins=origins.copy(), config=config, model_type=model_type
        )
        try:
            return get_model_type(model_type).validate(answer, len(origins))
        except (ValueError, TypeError) as error:
            self._fail("predict", f"returned {error}", error)

    def predict_anew(
        self, model: Any, posts: pd.DataFrame, origins: Origins, config: BaseModel, model_type: ModelTypeName
    ) -> Any:
        """Do what `predict` does, whatever is remembered of the same question: here, nothing is."""
        return self.predict(model, posts, origins, config, model_type)

    def is_known_blind(self, model: Any) -> bool:
        """Whether a model need not be asked again whether later posts change its forecasts: here, it always is."""
        del model
        return False

    def note_blind(self, model: Any) -> None:
        """Hear that a model was asked, and that they do not."""

    def score(self, forecasts: Any, targets: Any, model_type: ModelTypeName) -> dict[str, float]:
        """Return the plugin's own metrics; an empty mapping where it has none."""
        own = self._call("score", forecasts=forecasts, targets=targets, model_type=model_type)
        try:
            metrics = {str(key): float(value) for key, value in (own or {}).items()}
        except (ValueError, TypeError, AttributeError) as error:
            self._fail("score", f"returned '{str(own)[:40]}' instead of a mapping of names to numbers", error)
        for key, value in metrics.items():
            if not math.isfinite(value):
                self._fail("score", f"returned {value} for '{key}'")
        return metrics

    def estimate(
        self, model: Any, posts: pd.DataFrame, origins: Origins, config: BaseModel, model_type: ModelTypeName
    ) -> CostEstimate | None:
        """Return the most that forecasts from these origins should cost; None where the plugin does not say."""
        if "estimate" not in self.hook_names:
            return None
        answer = self._call(
            "estimate", model=model, posts=posts.copy(), origins=origins.copy(), config=config, model_type=model_type
        )
        if not isinstance(answer, CostEstimate):
            self._fail("estimate", f"returned a {type(answer).__name__} instead of a CostEstimate")
        return answer

    def explain(self, model: Any, config: BaseModel, model_type: ModelTypeName) -> list[Importance]:
        """Return what the model's forecasts lean on, checked; empty where the plugin does not say."""
        if "explain" not in self.hook_names:
            return []
        answer = self._call("explain", model=model, config=config, model_type=model_type)
        if not isinstance(answer, list | tuple):
            self._fail("explain", f"returned a {type(answer).__name__} instead of a list of Importance")
        try:
            return [_checked_importance(one) for one in answer]
        except (ValueError, TypeError) as error:
            self._fail("explain", f"returned {error}", error)

    def save(self, model: Any, directory: Path) -> list[str]:
        """Write the model's files and return their names, relative to the directory, sorted.

        Raises:
            OSError: the directory cannot be written; whose it is knows better what to say.
        """
        if "save" not in self.hook_names:
            try:
                text = json.dumps(model, allow_nan=False)
            except (TypeError, ValueError) as error:
                problem = f"returned a model that JSON cannot hold ({error}); return plain data, or add save and load"
                self._fail("train", problem, error)
            lost = _lost_in_json(model, json.loads(text))
            if lost is not None:
                self._fail("train", f"returned a model that JSON would change: {lost}")
            (directory / MODEL_FILE).write_text(text, encoding="utf-8")
            return [MODEL_FILE]
        names = self._call("save", model=model, directory=directory)
        written = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
        if not isinstance(names, list) or sorted(map(str, names)) != written:
            self._fail("save", f"returned {names!r} where it wrote {written!r}")
        if RESERVED_FILE in written:
            self._fail("save", f"wrote '{RESERVED_FILE}', a name that is taken; choose another")
        return written

    def load(self, directory: Path) -> Any:
        """Read a model's files back; the caller has checked their hashes."""
        if "load" not in self.hook_names:
            return json.loads((directory / MODEL_FILE).read_text(encoding="utf-8"))
        return self._call("load", directory=directory)

    def _call(self, hook: str, **arguments: Any) -> Any:
        try:
            with one_process():
                answer = getattr(self.manager.hook, hook)(**arguments)
        except RetrainerError:
            raise
        except (Exception, SystemExit) as error:
            if hook == "save" and isinstance(error, OSError):
                raise
            self._blame_observers(hook, f"failed: {describe(error)}", error)
        if answer is None and hook not in MAY_BE_NONE:
            self._blame_observers(hook, "returned None instead of what it was given")
        return answer

    def _blame_observers(self, hook: str, problem: str, cause: BaseException | None = None) -> NoReturn:
        """Say what went wrong in a hook that the algorithm itself has answered."""
        around: list[str] = [one.plugin_name for one in getattr(self.manager.hook, hook).get_hookimpls()]
        names = [f"'{one.split(':', 2)[2]}'" for one in around if one.startswith(f"{OBSERVER}:")]
        who = f"the observer {names[0]}" if len(names) == 1 else f"one of the observers {', '.join(names)}"
        raise AlgorithmError(
            f"{who}, around the hook {hook} of '{self.name}', {problem}", hint="Mend or uninstall it"
        ) from cause

    def _fail(self, hook: str, problem: str, cause: BaseException | None = None) -> NoReturn:
        raise _failure(self.name, hook, problem) from cause


def _innermost(name: str) -> SimpleNamespace:
    """Return what stands around each hook of an algorithm, within all observers, and names it where it fails.

    So whatever else goes wrong in a hook call is an observer's fault.
    """

    def around(hook: str) -> Callable[[], Generator[None, Any, Any]]:
        @hookimpl(wrapper=True, trylast=True)
        def guard() -> Generator[None, Any, Any]:
            try:
                answer = yield
            except RetrainerError:
                raise
            except (Exception, SystemExit) as error:
                if hook == "save" and isinstance(error, OSError):
                    raise
                raise _failure(name, hook, f"failed: {describe(error)}") from error
            if answer is None and hook not in MAY_BE_NONE:
                raise _failure(name, hook, "returned None")
            return answer

        return guard

    return SimpleNamespace(**{hook: around(hook) for hook in vars(AlgorithmHooks) if not hook.startswith("_")})


def _failure(name: str, hook: str, problem: str) -> AlgorithmError:
    return AlgorithmError(f"the plugin '{name}': its hook {hook} {problem}")


def _check_description(description: Any, name: str) -> None:
    if not isinstance(description, Algorithm):
        raise AlgorithmError(
            f"the plugin '{name}': its hook algorithm returned {description!r} instead of an Algorithm"
        )
    if description.name != name or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise AlgorithmError(
            f"the plugin registered as '{name}' calls itself '{description.name}'",
            hint="Both must be the same: lower-case letters, digits and underscores",
        )
    if not description.model_types or set(description.model_types) - {"timing", "content"}:
        raise AlgorithmError(
            f"the plugin '{name}' forecasts {description.model_types!r}: 'timing' or 'content' is needed"
        )
    config = description.config
    if not _is_options_class(config):
        raise AlgorithmError(f"the plugin '{name}': its config is not a pydantic class with extra='forbid'")


def _checked_importance(one: Any) -> Importance:
    """Return an importance with a plain number, if it is one that can be shown."""
    if not isinstance(one, Importance):
        raise TypeError(f"a {type(one).__name__} instead of an Importance")
    if not str(one.label).strip():
        raise ValueError("an importance without a label")
    for name in ("label", "unit", "note"):
        text: Any = getattr(one, name)
        if not isinstance(text, str):
            raise TypeError(f"an importance whose {name} is '{text}': a text is needed")
    value = float(one.value)
    if not math.isfinite(value):
        raise ValueError(f"{value} for '{one.label}': a finite number is needed")
    return Importance(one.label, value, one.unit, one.note)


def _lost_in_json(given: Any, read: Any, place: str = "model") -> str | None:
    """Return the first thing in a model that comes back from JSON as another, and what to do; None where nothing does.

    A tuple comes back as a list, which serves as well.
    """
    if given == read:
        return None
    if isinstance(given, dict) and isinstance(read, dict):
        for key in given:
            if not isinstance(key, str):
                return f"the key {key!r} of {place} comes back as a text; use texts as keys, or add save and load"
        pairs = ((value, read[key], f"{place}[{key!r}]") for key, value in given.items())
    elif type(given) in {list, tuple} and isinstance(read, list):
        pairs = ((one, other, f"{place}[{index}]") for index, (one, other) in enumerate(zip(given, read, strict=True)))
    else:
        kind = type(given).__name__
        return f"{place}, a {kind}, comes back as a {type(read).__name__}; return plain data, or add save and load"
    return next(filter(None, (_lost_in_json(*pair) for pair in pairs)), None)


def _is_options_class(config: Any) -> bool:
    return isinstance(config, type) and issubclass(config, BaseModel) and config.model_config.get("extra") == "forbid"

"""An algorithm whose hooks can be called: it checks what they return, and says which one failed and where.

Each algorithm gets a plugin manager of its own that holds it and the observers. A hook call then reaches exactly one
algorithm, and an observer may wrap it (`hookimpl(wrapper=True)`).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from retrainer.algorithms.budget import Budget
from retrainer.algorithms.events import (
    create_plugin_manager,
    installed_observers,
    register_plugin,
)
from retrainer.algorithms.hook_results import (
    check_context_parts,
    check_description,
    check_importances,
    check_metrics,
    json_difference,
)
from retrainer.algorithms.hookspecs import (
    OPTIONAL_RESULTS,
    REQUIRED_HOOKS,
    Algorithm,
    ContextPart,
    CostEstimate,
    Importance,
)
from retrainer.config import explain_options_error, merge
from retrainer.entry_points import (
    describe_error,
    package_of,
)
from retrainer.errors import AlgorithmError, ConfigError, RetrainerError, UsageError
from retrainer.files import private_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import pandas as pd
    import pluggy
    from numpy.typing import NDArray
    from optuna.trial import BaseTrial

    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.base import Origins
    from retrainer.model_types.likelihood import Likelihoods

Result = TypeVar("Result")

MODEL_FILE = "model.json"
MANIFEST_FILE = "manifest.json"  # written by the registry beside the model's files


@dataclass(frozen=True)
class LoadedAlgorithm:
    """An algorithm whose hooks can be called.

    Every method raises AlgorithmError, naming plugin and hook, if it fails.
    """

    description: Algorithm
    distribution: str
    version: str
    hook_names: tuple[str, ...]
    manager: pluggy.PluginManager

    @classmethod
    def from_plugin(
        cls, plugin: object, name: str, distribution: tuple[str, str] = ("unknown", "0")
    ) -> LoadedAlgorithm:
        """Check a plugin object and make its hooks callable.

        Raises:
            AlgorithmError: a required hook is missing, or one is invalid.
        """
        manager = create_plugin_manager()
        try:
            hooks = register_plugin(manager, plugin, name)
        except ValueError as error:
            raise AlgorithmError(f"the plugin '{name}' has an invalid hook: {error}") from error
        missing = [hook for hook in REQUIRED_HOOKS if hook not in hooks]
        if missing:
            raise AlgorithmError(
                f"the plugin '{name}' does not implement {', '.join(missing)}",
                hint="Mark the functions with @retrainer.algorithms.hookimpl",
            )
        if ("save" in hooks) != ("load" in hooks):
            raise AlgorithmError(f"the plugin '{name}' implements only one of save and load")
        for number, observer in enumerate(installed_observers()):
            manager.register(observer.plugin, f"observer:{number}:{observer.name}")
        loaded = cls(Algorithm(name, (), ""), *distribution, hooks, manager)
        if "context_parts" in hooks and not loaded._accepts("predict", "without"):
            raise AlgorithmError(
                f"the plugin '{name}' implements context_parts, but its predict has no argument 'without'",
                hint="Add the argument 'without' to predict, and leave out the parts that it names",
            )
        description = loaded._call("algorithm")
        check_description(description, name)
        if "condense" in hooks and not (description.state_format and loaded._accepts("predict", "state")):
            raise AlgorithmError(
                f"the plugin '{name}' implements condense, but lacks a state_format or the argument 'state' of predict",
                hint="Set state_format in its Algorithm, and add the argument 'state' to predict",
            )
        if "condense" in hooks and "simulate" in hooks and not loaded._accepts("simulate", "state"):
            raise AlgorithmError(
                f"the plugin '{name}' implements condense, but its simulate has no argument 'state'",
                hint="Add the argument 'state' to simulate: with a state, its posts are the last ones only",
            )
        return replace(loaded, description=description)

    @property
    def name(self) -> str:
        return self.description.name

    @property
    def can_warm_start(self) -> bool:
        """Whether training can start from an earlier model: the algorithm's own `train` takes `previous`."""
        return self._accepts("train", "previous")

    @property
    def can_condense(self) -> bool:
        """Whether the algorithm can condense posts to a state."""
        return "condense" in self.hook_names

    def _accepts(self, hook: str, argument: str) -> bool:
        """Whether the algorithm's own implementation of a hook has an argument."""
        implementations = getattr(self.manager.hook, hook).get_hookimpls()
        return any(argument in one.argnames for one in implementations if one.plugin_name == self.name)

    def require(self, model_type: ModelTypeName) -> None:
        """Check that the algorithm forecasts a model type.

        Raises:
            UsageError: it does not.
        """
        if model_type not in self.description.model_types:
            supported = " and ".join(self.description.model_types)
            raise UsageError(f"the algorithm '{self.name}' forecasts {supported}, not {model_type}")

    def options(self, given: Mapping[str, Any], model_type: ModelTypeName, parents: tuple[str, ...] = ()) -> BaseModel:
        """Validate the options from the settings and return them as an instance of the plugin's class.

        Args:
            given: the options.
            parents: the keys between those of the model type and of the algorithm, for messages.

        Raises:
            ConfigError: an option is unknown or invalid.
        """
        with self._explained_errors(model_type, parents):
            return self.description.config.model_validate(dict(given))

    def recorded_options(
        self, recorded: Mapping[str, Any], model_type: ModelTypeName, parents: tuple[str, ...] = ()
    ) -> BaseModel:
        """Return the options that a version was trained with, from their recorded JSON.

        Raises:
            ConfigError: this release of the plugin no longer accepts them.
        """
        with self._explained_errors(model_type, parents):
            return self.description.config.model_validate_json(json.dumps(recorded))

    @contextmanager
    def _explained_errors(self, model_type: ModelTypeName, parents: tuple[str, ...]) -> Iterator[None]:
        """Say which key of the settings is invalid."""
        try:
            yield
        except ValidationError as error:
            section = (f"{model_type}_model", *parents, self.name)
            raise explain_options_error(error, section, self.description.config) from None

    def members(self, config: BaseModel) -> list[str]:
        """Return the names of the algorithms that this one calls; empty if the plugin does not say."""
        return list(self._call("members", config=config)) if "members" in self.hook_names else []

    def check_ready(self, config: BaseModel) -> None:
        """Let the plugin report, before any work starts, that no forecast could be made."""
        self._call("check_ready", config=config)

    def train(
        self, posts: pd.DataFrame, config: BaseModel, model_type: ModelTypeName, previous: Any | None = None
    ) -> Any:
        """Train a model on a copy of the posts.

        Args:
            previous: an earlier model to start from, as `load` returned it; None to start afresh.
        """
        return self._call("train", posts=posts.copy(), config=config, model_type=model_type, previous=previous)

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
        """Return one forecast per origin, of the model type's class.

        Args:
            without: the names of the parts of the context to leave out, of those that `context_parts` returns.
            state: what `condense` returned for the posts up to the first of `posts`; None if `posts` are all.
        """
        from retrainer.model_types import get_model_type  # noqa: PLC0415  numpy and pandas are slow to import

        forecasts = self._call(
            "predict",
            model=model,
            posts=posts.copy(),
            origins=origins.copy(),
            config=config,
            model_type=model_type,
            budget=budget or Budget(),
            without=without,
            state=state,
        )
        return self._checked("predict", lambda: get_model_type(model_type).validate(forecasts, len(origins)))

    def simulate(
        self,
        model: Any,
        posts: pd.DataFrame,
        origins: Origins,
        config: BaseModel,
        *,
        horizon_hours: float,
        max_posts: int,
        paths: int,
        seed: int,
        state: bytes | None = None,
    ) -> NDArray[np.float64]:
        """Return (paths, k) hours from the one origin to the posts of simulated futures; see the hook."""
        from retrainer.model_types.timing import validate_simulation  # noqa: PLC0415  numpy is slow to import

        hours = self._call(
            "simulate",
            model=model,
            posts=posts.copy(),
            origins=origins.copy(),
            config=config,
            horizon_hours=horizon_hours,
            max_posts=max_posts,
            paths=paths,
            seed=seed,
            state=state,
        )
        return self._checked("simulate", lambda: validate_simulation(hours, horizon_hours, max_posts, paths))

    def condense(
        self, model: Any, posts: pd.DataFrame, config: BaseModel, model_type: ModelTypeName, state: bytes | None = None
    ) -> tuple[bytes, int] | None:
        """Return the state after the last of some posts, and for how many posts it will do; None if there is none."""
        if not self.can_condense:
            return None
        found = self._call(
            "condense", model=model, posts=posts.copy(), config=config, model_type=model_type, state=state
        )
        if found is not None and not (isinstance(found, tuple) and [*map(type, found)] == [bytes, int]):
            self._fail("condense", f"returned a {type(found).__name__} instead of a state and a number of posts")
        state_and_number: tuple[bytes, int] | None = found
        return state_and_number

    def likelihood(
        self, model: Any, posts: pd.DataFrame, origins: Origins, texts: Sequence[str], config: BaseModel
    ) -> Likelihoods | None:
        """Return the log-likelihood of each text as the next post after its origin; None if the plugin has none."""
        from retrainer.model_types.likelihood import validate_likelihoods  # noqa: PLC0415  numpy is slow to import

        if "likelihood" not in self.hook_names:
            return None
        answer = self._call(
            "likelihood", model=model, posts=posts.copy(), origins=origins.copy(), texts=list(texts), config=config
        )
        return self._checked("likelihood", lambda: validate_likelihoods(answer, len(origins)))

    def score(self, forecasts: Any, targets: Any, model_type: ModelTypeName) -> dict[str, float]:
        """Return the plugin's own metrics; empty if it has none."""
        own = self._call("score", forecasts=forecasts, targets=targets, model_type=model_type)
        return self._checked("score", lambda: check_metrics(own or {}))

    def estimate(
        self,
        model: Any,
        posts: pd.DataFrame,
        origins: Origins,
        config: BaseModel,
        model_type: ModelTypeName,
        without: frozenset[str] = frozenset(),
    ) -> CostEstimate | None:
        """Return the most that forecasts from these origins should cost; None if the plugin does not say."""
        if "estimate" not in self.hook_names:
            return None
        estimate = self._call(
            "estimate",
            model=model,
            posts=posts.copy(),
            origins=origins.copy(),
            config=config,
            model_type=model_type,
            without=without,
        )
        if not isinstance(estimate, CostEstimate):
            self._fail("estimate", f"returned a {type(estimate).__name__} instead of a CostEstimate")
        return estimate

    def explain(self, model: Any, config: BaseModel, model_type: ModelTypeName) -> list[Importance]:
        """Return the model's feature importances; empty if the plugin does not provide them."""
        if "explain" not in self.hook_names:
            return []
        importances = self._call("explain", model=model, config=config, model_type=model_type)
        return self._checked("explain", lambda: check_importances(importances))

    def context_parts(self, model: Any, config: BaseModel, model_type: ModelTypeName) -> list[ContextPart]:
        """Return the parts of the context that `predict` can leave out; empty if it cannot leave out any."""
        if "context_parts" not in self.hook_names:
            return []
        parts = self._call("context_parts", model=model, config=config, model_type=model_type)
        return self._checked("context_parts", lambda: check_context_parts(parts))

    def search_space(self, trial: BaseTrial, config: BaseModel, model_type: ModelTypeName) -> BaseModel:
        """Return the options that the plugin takes from an Optuna trial, over the configured ones.

        Raises:
            UsageError: the plugin has no search space.
        """
        if "search_space" not in self.hook_names:
            raise UsageError(f"the algorithm '{self.name}' has no search space")
        found = self._call("search_space", trial=trial, config=config, model_type=model_type)
        if isinstance(found, self.description.config):
            return found
        if not isinstance(found, Mapping):
            self._fail("search_space", f"returned a {type(found).__name__} instead of a mapping of options")
        try:
            return self.options(merge(config.model_dump(), dict(found)), model_type)
        except ConfigError as error:
            self._fail("search_space", f"returned invalid options: {error}", error)

    def save(self, model: Any, directory: Path) -> list[str]:
        """Write the model's files and return their names, relative to the directory, sorted.

        Raises:
            OSError: the directory cannot be written.
        """
        if "save" not in self.hook_names:
            try:
                text = json.dumps(model, allow_nan=False)
            except (TypeError, ValueError) as error:
                problem = f"returned a model that JSON cannot hold ({error}). Return plain data, or add save and load"
                self._fail("train", problem, error)
            difference = json_difference(model, json.loads(text))
            if difference is not None:
                self._fail("train", f"returned a model that JSON would change: {difference}")
            (directory / MODEL_FILE).write_text(text, encoding="utf-8")
            return [MODEL_FILE]
        names = self._call("save", model=model, directory=directory)
        written = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
        if not isinstance(names, list) or sorted(map(str, names)) != written:
            self._fail("save", f"returned {names!r} but wrote {written!r}")
        if MANIFEST_FILE in written:
            self._fail("save", f"wrote '{MANIFEST_FILE}', a reserved name")
        return written

    def load(self, files: Mapping[str, bytes]) -> Any:
        """Return the model of some files, whose hashes the caller has verified.

        The plugin gets a private copy, which nobody else can change, and which is removed when it has been read.

        Args:
            files: the content by path, as `save` wrote it.
        """
        if "load" not in self.hook_names:
            return json.loads(files[MODEL_FILE])
        try:
            with private_folder(files) as directory:
                return self._call("load", directory=directory)
        except OSError as error:
            raise AlgorithmError(
                f"cannot copy the model to a temporary folder: {error.strerror}",
                hint="Set TMPDIR to a folder with free space",
            ) from error

    def _call(self, hook: str, **arguments: Any) -> Any:
        try:
            result = getattr(self.manager.hook, hook)(**arguments)
        except RetrainerError:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if hook == "save" and isinstance(error, OSError):
                raise
            packages = {package_of(plugin) for _, plugin in self.manager.list_name_plugin()}
            problem = f"its hook {hook} failed: {describe_error(error, packages)}"
            raise AlgorithmError(f"the plugin '{self.name}': {problem}") from error
        if result is None and hook not in OPTIONAL_RESULTS:
            self._fail(hook, "returned None")
        return result

    def _checked(self, hook: str, check: Callable[[], Result]) -> Result:
        """Return what a check of a hook's result returns; a TypeError or ValueError says what the hook returned."""
        try:
            return check()
        except (ValueError, TypeError) as error:
            self._fail(hook, f"returned {error}", error)

    def _fail(self, hook: str, problem: str, cause: BaseException | None = None) -> NoReturn:
        """Report what a hook returned, and where the hook is."""
        codes = (
            inspect.unwrap(one.function).__code__
            for one in getattr(self.manager.hook, hook).get_hookimpls()
            if one.plugin_name == self.name
        )
        place = next((f" ({code.co_filename}:{code.co_firstlineno})" for code in codes), "")
        raise AlgorithmError(f"the plugin '{self.name}': its hook {hook} {problem}{place}") from cause

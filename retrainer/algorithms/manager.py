"""Finds algorithms by entry point, and loads the one that is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from retrainer.algorithms.events import PluginStatus
from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
from retrainer.entry_points import ALGORITHMS, describe_error, find_entry_points, installed_algorithms
from retrainer.errors import AlgorithmError, RetrainerError, UnknownName, did_you_mean

if TYPE_CHECKING:
    from retrainer.model_types import ModelTypeName


class AlgorithmSource(Protocol):
    """Where a run gets its algorithms from."""

    def __call__(self, name: str, model_type: ModelTypeName | None = None) -> LoadedAlgorithm:
        """Return the algorithm of this name; see `load_algorithm`."""


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


def algorithms_with(hook: str) -> str:
    """Return the names of the installed algorithms that implement a hook, for a message."""
    return ", ".join(plugin.name for plugin in list_algorithms() if hook in plugin.hooks)


def load_algorithm(name: str, model_type: ModelTypeName | None = None) -> LoadedAlgorithm:
    """Import an algorithm and check it: a unique name, all required hooks, no misspelled hook, no wrong signature.

    Raises:
        UnknownName: no installed package provides it.
        UsageError: it does not forecast this model type.
        AlgorithmError: two packages provide it, or it is broken.
    """
    found = [plugin for plugin in find_entry_points(ALGORITHMS) if plugin.name == name]
    if not found:
        known = installed_algorithms()
        raise UnknownName(
            f"unknown algorithm '{name}'", hint=did_you_mean(name, known) or f"Installed: {', '.join(known)}"
        )
    if len(found) > 1:
        both = " and ".join(plugin.origin for plugin in found)
        raise AlgorithmError(f"two packages provide the algorithm '{name}': {both}", hint="Uninstall one of them")
    (installed,) = found
    try:
        plugin = installed.entry_point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise AlgorithmError(
            f"cannot import the plugin '{name}' ({installed.origin}): {describe_error(error, {installed.package})}",
            hint="Fix or uninstall it",
        ) from error
    loaded = LoadedAlgorithm.from_plugin(plugin, name, (installed.distribution, installed.version))
    if model_type is not None:
        loaded.require(model_type)
    return loaded

"""Observers: plugins that receive events and may wrap the hooks of algorithms.

Each is imported and checked once per process. One that cannot be used is logged as a warning and blocks nothing.
"""

from __future__ import annotations

import logging
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pluggy

from retrainer.algorithms.hookspecs import AlgorithmHooks, ObserverHooks
from retrainer.entry_points import OBSERVERS, InstalledPlugin, describe_error, find_entry_points, package_of
from retrainer.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from retrainer.algorithms.hookspecs import Algorithm
    from retrainer.entry_points import InstalledPlugin
    from retrainer.fleet.run import FleetResult
    from retrainer.model_types import ModelTypeName
    from retrainer.registry.tables import TrainingRun

log = logging.getLogger(__name__)

_HOOK_NAMES = {hook for hooks in (AlgorithmHooks, ObserverHooks) for hook in vars(hooks) if not hook.startswith("_")}


@dataclass(frozen=True)
class PluginStatus:
    """One installed plugin, as `retrainer plugins` shows it.

    Attributes:
        name: the entry point's name.
        distribution: the package that provides it.
        version: that package's version.
        hooks: the hooks it implements, sorted.
        description: what it says about itself; None if it is broken or an observer.
        problem: why it cannot be used; None if it can.
        kind: `algorithm` or `observer`.
    """

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...] = ()
    description: Algorithm | None = None
    problem: str | None = None
    kind: Literal["algorithm", "observer"] = "algorithm"


class Observer(NamedTuple):
    """An observer and the name under which it is registered."""

    name: str
    plugin: object


@dataclass(frozen=True)
class Event:
    """Something that happened and was committed.

    Attributes:
        kind: see `ObserverHooks.on_event`.
        reason: why, in one sentence.
        from_version_id: the previous production version, for a promotion or rollback.
        run: the run that completed or failed.
        stream: the stream of the model type; None if the event is about none.
        fleet: what came of the runs of several streams, for the kind `fleet`.
    """

    kind: Literal["run", "promotion", "rollback", "ab_test", "degraded", "failure", "stale_posts", "fleet", "end"]
    model_type: ModelTypeName | None
    version_id: str | None
    reason: str | None
    from_version_id: str | None = None
    run: TrainingRun | None = None
    stream: str | None = None
    fleet: FleetResult | None = None


class EventBus:
    """Delivers events to observers, as the documents that `on_event` describes."""

    def __init__(
        self,
        to_document: Callable[[Event], Mapping[str, Any]],
        observers: Sequence[Observer] = (),
        *,
        mute: bool = False,
    ) -> None:
        """Deliver to the given observers and to the installed ones.

        Args:
            to_document: converts an event.
            observers: in addition to the installed ones.
            mute: deliver to nobody.
        """
        self._to_document = to_document
        self._observers = observers
        self._mute = mute

    def publish(self, event: Event) -> None:
        """Deliver an event to each observer; one that fails is logged, and the others still receive it."""
        if self._mute:
            return
        observers = [*self._observers, *installed_observers()]
        document = self._to_document(event) if observers else {}
        for name, plugin in observers:
            manager = create_plugin_manager()
            manager.register(plugin, name)
            try:
                manager.hook.on_event(event=deepcopy(document))  # observers must not change each other's event
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001  the run is committed, whatever an observer does
                log.warning("Observer '%s' failed: %s", name, describe_error(error, {package_of(plugin)}))


def installed_observers() -> list[Observer]:
    """Return the installed observers that can be used."""
    loaded = _load_observers(find_entry_points(OBSERVERS))
    return [Observer(status.name, plugin) for status, plugin in loaded if plugin is not None]


def list_observers() -> list[PluginStatus]:
    """Describe every installed observer; a broken one is listed with its problem."""
    return [status for status, _ in _load_observers(find_entry_points(OBSERVERS))]


def create_plugin_manager() -> pluggy.PluginManager:
    """Return a plugin manager that knows all hooks but no plugin."""
    manager = pluggy.PluginManager("retrainer")
    manager.add_hookspecs(AlgorithmHooks)
    manager.add_hookspecs(ObserverHooks)
    return manager


def register_plugin(manager: pluggy.PluginManager, plugin: object, name: str) -> tuple[str, ...]:
    """Register a plugin and return the names of its hooks, sorted.

    Raises:
        ValueError: a hook has a wrong signature or an unknown name.
    """
    try:
        manager.register(plugin, name)
    except (pluggy.PluginValidationError, ValueError, TypeError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    hooks = sorted(caller.name for caller in manager.get_hookcallers(plugin) or [])
    for hook in hooks:
        if hook not in _HOOK_NAMES and not all(
            impl.optionalhook for impl in getattr(manager.hook, hook).get_hookimpls()
        ):
            raise ValueError(f"unknown hook '{hook}'. {did_you_mean(hook, _HOOK_NAMES)}".strip())
    return tuple(hooks)


@lru_cache(maxsize=1)
def _load_observers(plugins: tuple[InstalledPlugin, ...]) -> tuple[tuple[PluginStatus, object | None], ...]:
    return tuple(_load_observer(plugin) for plugin in plugins)


def _load_observer(installed: InstalledPlugin) -> tuple[PluginStatus, object | None]:
    """Import and check one observer; the plugin is None if it cannot be used, which is logged once."""
    source = (installed.name, installed.distribution, installed.version)
    try:
        plugin = installed.entry_point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  an observer never blocks a command
        problem = (
            f"cannot import the observer '{installed.name}' ({installed.origin}): "
            f"{describe_error(error, {installed.package})}"
        )
    else:
        try:
            hooks = _check_observer(plugin, installed.name)
        except ValueError as error:
            problem = f"ignoring the observer '{installed.name}' ({installed.origin}): {error}"
        else:
            return PluginStatus(*source, hooks, kind="observer"), plugin
    log.warning("%s", problem[0].upper() + problem[1:])
    return PluginStatus(*source, problem=problem, kind="observer"), None


def _check_observer(plugin: object, name: str) -> tuple[str, ...]:
    """Return the names of an observer's hooks, sorted.

    Raises:
        ValueError: it has no hook, an invalid one, or one that would replace an algorithm's.
    """
    manager = create_plugin_manager()
    hooks = register_plugin(manager, plugin, name)
    if not hooks:
        raise ValueError("it has no hooks. Mark its functions with @retrainer.algorithms.hookimpl")
    for hook in hooks:
        (implementation,) = getattr(manager.hook, hook).get_hookimpls()
        if hook != "on_event" and not implementation.wrapper:
            raise ValueError(f"its hook {hook} is not a wrapper. Mark it with @hookimpl(wrapper=True)")
    return hooks

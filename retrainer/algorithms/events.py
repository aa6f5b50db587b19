"""Observers: they hear what happened, and may stand around the hooks of algorithms.

Each is imported and checked once a process; one that cannot be used is a warning, and never blocks a command.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from retrainer.algorithms.calling import PluginStatus, create_plugin_manager, describe, one_process, register_plugin
from retrainer.entry_points import OBSERVERS, find_entry_points

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from retrainer.entry_points import InstalledPlugin

log = logging.getLogger(__name__)

_added: ContextVar[tuple[tuple[str, object], ...]] = ContextVar("observers added", default=())
_unheard: ContextVar[bool] = ContextVar("unheard", default=False)


def list_observers() -> list[PluginStatus]:
    """Describe every installed observer; a broken one is listed with its problem."""
    return [observer.status for observer in _installed_observers(find_entry_points(OBSERVERS))]


@contextmanager
def observed_by(name: str, observer: object) -> Iterator[None]:
    """Let an observer that no entry point names hear the events of the block."""
    token = _added.set((*_added.get(), (name, observer)))
    try:
        yield
    finally:
        _added.reset(token)


@contextmanager
def unheard() -> Iterator[None]:
    """Let no observer hear of the events of the block."""
    token = _unheard.set(True)
    try:
        yield
    finally:
        _unheard.reset(token)


def publish(event: Mapping[str, Any]) -> None:
    """Tell every observer of an event, each on its own: one that fails is a warning, and the others still hear."""
    if _unheard.get():
        return
    for name, observer in all_observers():
        manager = create_plugin_manager()
        manager.register(observer, name)
        try:
            with one_process():
                manager.hook.on_event(event=deepcopy(event))  # what one does to it is not what the next one hears
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever it is, the run is done and stays done
            log.warning("The observer '%s' failed: %s", name, describe(error))


def all_observers() -> list[tuple[str, object]]:
    """Return the observers that can be called, each once."""
    installed = [
        (one.status.name, one.plugin)
        for one in _installed_observers(find_entry_points(OBSERVERS))
        if one.plugin is not None
    ]
    found: dict[int, tuple[str, object]] = {}
    for name, observer in (*_added.get(), *installed):
        found.setdefault(id(observer), (name, observer))
    return list(found.values())


class _Observer(NamedTuple):
    """An installed observer, and what imports as it; None where that cannot be used."""

    status: PluginStatus
    plugin: object | None


@lru_cache(maxsize=1)
def _installed_observers(offers: tuple[InstalledPlugin, ...]) -> tuple[_Observer, ...]:
    """Import and check the observers, once a process: of one that cannot be used, one warning tells."""
    return tuple(_checked_observer(offer) for offer in offers)


def _checked_observer(offer: InstalledPlugin) -> _Observer:
    who = (offer.name, offer.distribution, offer.version)
    try:
        plugin = offer.point.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001  an observer never blocks a command
        problem = f"the observer '{offer.name}' ({offer.origin}) cannot be imported: {describe(error)}"
    else:
        try:
            return _Observer(PluginStatus(*who, _observing_hooks(plugin, offer.name), kind="observer"), plugin)
        except ValueError as error:
            problem = f"the observer '{offer.name}' ({offer.origin}) is left out: {error}"
    log.warning("%s", problem[0].upper() + problem[1:])
    return _Observer(PluginStatus(*who, problem=problem, kind="observer"), None)


def _observing_hooks(observer: object, name: str) -> tuple[str, ...]:
    """Return the names of an observer's hooks, sorted.

    Raises:
        ValueError: it has none, or one that does not fit, or one that would answer in an algorithm's place.
    """
    manager = create_plugin_manager()
    hooks = register_plugin(manager, observer, name)
    if not hooks:
        raise ValueError("it has no hook; mark its functions with @retrainer.algorithms.hookimpl")
    for hook in hooks:
        (mine,) = getattr(manager.hook, hook).get_hookimpls()
        if hook != "on_event" and not mine.wrapper:
            raise ValueError(f"its hook {hook} is no wrapper; mark it with @hookimpl(wrapper=True)")
    return hooks

"""What calling a plugin takes, whether it is an algorithm or an observer."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pluggy

from retrainer.algorithms.hookspecs import AlgorithmHooks, ObserverHooks
from retrainer.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrainer.algorithms.hookspecs import Algorithm


@dataclass(frozen=True)
class PluginStatus:
    """One installed plugin, as `retrainer plugins` shows it.

    Attributes:
        name: the entry point's name.
        distribution: the package it came with.
        version: that package's version.
        hooks: the hooks it has, sorted.
        description: what it says of itself; None where it is broken.
        problem: why it cannot be used; None where it can.
        kind: `algorithm` or `observer`.
    """

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...] = ()
    description: Algorithm | None = None
    problem: str | None = None
    kind: Literal["algorithm", "observer"] = "algorithm"


def create_plugin_manager() -> pluggy.PluginManager:
    """Return a plugin manager that knows the hooks, and no plugin yet."""
    manager = pluggy.PluginManager("retrainer")
    manager.add_hookspecs(AlgorithmHooks)
    manager.add_hookspecs(ObserverHooks)
    return manager


def register_plugin(manager: pluggy.PluginManager, plugin: object, name: str) -> tuple[str, ...]:
    """Register a plugin and return the names of its hooks, sorted.

    Raises:
        ValueError: a hook does not fit, or there is none of its name.
    """
    known = {hook for hooks in (AlgorithmHooks, ObserverHooks) for hook in vars(hooks) if not hook.startswith("_")}
    try:
        manager.register(plugin, name)
    except (pluggy.PluginValidationError, ValueError, TypeError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    hooks = sorted(caller.name for caller in manager.get_hookcallers(plugin) or [])
    for hook in hooks:
        if hook not in known and not all(one.optionalhook for one in getattr(manager.hook, hook).get_hookimpls()):
            raise ValueError(f"unknown hook '{hook}'. {did_you_mean(hook, known)}".strip())
    return tuple(hooks)


@contextmanager
def one_process() -> Iterator[None]:
    """End at once a second process that comes out of the block, where code of others forked and both went on.

    It would carry the run to its end too: record it twice, and promote twice.
    """
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(1)


def describe(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

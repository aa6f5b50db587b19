"""The plugins that installed packages provide by entry points. Nothing is imported from them here."""

from __future__ import annotations

import re
import sys
import traceback
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

ALGORITHMS = "retrainer.algorithms"
OBSERVERS = "retrainer.observers"
FORMATS = "retrainer.formats"
SOURCES = "retrainer.sources"
ALGORITHM_NAME = re.compile(r"[a-z]([a-z0-9_]*[a-z0-9])?")


class InstalledPlugin(NamedTuple):
    """An entry point of an installed package."""

    name: str
    distribution: str
    version: str
    entry_point: metadata.EntryPoint

    @property
    def origin(self) -> str:
        """The package and its version, for messages."""
        return f"{self.distribution} {self.version}"

    @property
    def package(self) -> str:
        """The import package that it is in."""
        return self.entry_point.module.partition(".")[0]


def find_entry_points(group: str) -> tuple[InstalledPlugin, ...]:
    """Return the entry points of a group, sorted by name and package.

    The result is cached, since reading the metadata of all packages is slow, until a package is installed or removed.
    """
    return _find_entry_points(group, tuple(_modification_time(folder) for folder in sys.path))


def installed_algorithms() -> list[str]:
    """Return the names of the installed algorithms."""
    return sorted({plugin.name for plugin in find_entry_points(ALGORITHMS)})


def describe_error(error: BaseException, packages: Collection[str]) -> str:
    """Return the type and message of an exception on one line, and the file and line of the plugin that raised it.

    Args:
        error: the exception.
        packages: the import packages of the plugins that were called.
    """
    text = " ".join(str(error).split())
    described = f"{type(error).__name__}: {text}" if text else type(error).__name__
    calls = [
        f"{frame.f_code.co_filename}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] in packages
    ]
    return f"{described} ({calls[-1]})" if calls else described


def package_of(plugin: object) -> str:
    """Return the import package of a plugin: a module, a class or an instance of one."""
    module = plugin.__name__ if isinstance(plugin, ModuleType) else getattr(plugin, "__module__", "")
    return str(module).partition(".")[0]


@lru_cache(maxsize=8)
def _find_entry_points(group: str, _packages: tuple[tuple[str, int], ...]) -> tuple[InstalledPlugin, ...]:
    plugins = []
    for point in metadata.entry_points(group=group):
        distribution = (point.dist.name, point.dist.version) if point.dist else ("unknown", "0")
        plugins.append(InstalledPlugin(point.name, *distribution, point))
    return tuple(sorted(plugins, key=lambda plugin: (plugin.name, plugin.origin)))


def _modification_time(folder: str) -> tuple[str, int]:
    """Return a folder of packages and when its content last changed, in ns."""
    with suppress(OSError):
        return folder, Path(folder or ".").stat().st_mtime_ns
    return folder, 0

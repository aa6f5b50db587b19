"""The plugins that installed packages provide by entry points. Nothing is imported from them here."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

ALGORITHMS = "retrainer.algorithms"
OBSERVERS = "retrainer.observers"
FORMATS = "retrainer.formats"
SOURCES = "retrainer.sources"


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


def find_entry_points(group: str) -> tuple[InstalledPlugin, ...]:
    """Return the entry points of a group, sorted by name and package.

    The result is cached, since reading the metadata of all packages is slow, until a package is installed or removed.
    """
    return _find_entry_points(group, tuple(_modification_time(folder) for folder in sys.path))


def installed_algorithms() -> list[str]:
    """Return the names of the installed algorithms."""
    return sorted({plugin.name for plugin in find_entry_points(ALGORITHMS)})


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

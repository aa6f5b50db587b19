"""What the installed packages offer to retrainer, by entry point; nothing of theirs is imported here."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ALGORITHMS = "retrainer.algorithms"
OBSERVERS = "retrainer.observers"


class InstalledPlugin(NamedTuple):
    """One entry point.

    Attributes:
        name: of the entry point.
        distribution, version: the package that it came with.
        point: what imports it.
    """

    name: str
    distribution: str
    version: str
    point: EntryPoint

    @property
    def origin(self) -> str:
        """The package and its version, for messages."""
        return f"{self.distribution} {self.version}"


def find_entry_points(group: str) -> tuple[InstalledPlugin, ...]:
    """Return what is offered under a group, sorted by name and package.

    Looking through all packages takes a while, so it is done once, and again where one was installed or removed.
    """
    return _offered(group, tuple(_changed_at(place) for place in sys.path))


def installed_algorithms() -> list[str]:
    """Return the names of the installed algorithms."""
    return sorted({offer.name for offer in find_entry_points(ALGORITHMS)})


@lru_cache(maxsize=4)
def _offered(group: str, _state: tuple[tuple[str, int], ...]) -> tuple[InstalledPlugin, ...]:
    from importlib.metadata import entry_points  # noqa: PLC0415  slow to import

    offers = []
    for point in entry_points(group=group):
        package = (point.dist.name, point.dist.version) if point.dist else ("unknown", "0")
        offers.append(InstalledPlugin(point.name, *package, point))
    return tuple(sorted(offers, key=lambda offer: (offer.name, offer.origin)))


def _changed_at(place: str) -> tuple[str, int]:
    """Return a folder of packages and when something was last put into it or taken away, in ns."""
    with suppress(OSError):
        return place, Path(place or ".").stat().st_mtime_ns
    return place, 0

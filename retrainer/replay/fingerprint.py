"""The code of a plugin as a hash: what was kept of an edited one is not used again, whatever its version says."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from retrainer.algorithms.manager import INNERMOST

if TYPE_CHECKING:
    from collections.abc import Iterable

    from retrainer.algorithms.manager import LoadedAlgorithm


def fingerprint(algorithm: LoadedAlgorithm) -> str:
    """Return the SHA-256 of all files of the packages of an algorithm and of the observers that may wrap its hooks.

    Where a file cannot be read, such as that of a module in a zip, it is left out: the version alone tells then.
    """
    running = hashlib.sha256()
    for name, plugin in sorted(algorithm.manager.list_name_plugin()):
        hooks = {caller.name for caller in algorithm.manager.get_hookcallers(plugin) or ()}
        if name == INNERMOST or hooks <= {"on_event"}:  # an observer that only hears, as in the first process alone
            continue
        running.update(f"{name}\0".encode())
        for file in _files_of(plugin):
            try:
                content = file.read_bytes()
            except OSError:
                continue
            running.update(hashlib.sha256(content).digest())
    return running.hexdigest()


def _files_of(plugin: object) -> Iterable[Path]:
    """Return all files of the outermost package that a plugin's module lies in, or that of the module alone."""
    parts = (plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__).split(".")
    for count in range(1, len(parts) + 1):
        module = sys.modules.get(".".join(parts[:count]))
        file = getattr(module, "__file__", None)
        if file is None:  # a namespace package is of several distributions
            continue
        if not hasattr(module, "__path__"):
            return [Path(file)]
        inside = Path(file).parent.rglob("*")
        return sorted(path for path in inside if path.suffix != ".pyc" and path.is_file())
    return []

"""The fingerprint of a plugin's code: results of a plugin that was edited since are not reused."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm


def fingerprint(algorithm: LoadedAlgorithm) -> str:
    """Return the SHA-256 of all files of the packages of an algorithm and of the observers that may wrap its hooks.

    Files that cannot be read, such as those of a module in a zip, are omitted; only the version distinguishes these.
    """
    digest = hashlib.sha256()
    for name, plugin in sorted(algorithm.manager.list_name_plugin()):
        hooks = {caller.name for caller in algorithm.manager.get_hookcallers(plugin) or ()}
        if hooks <= {"on_event"}:  # an observer that wraps nothing
            continue
        digest.update(f"{name}\0".encode())
        for file in _package_files(plugin):
            try:
                content = file.read_bytes()
            except OSError:
                continue
            digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _package_files(plugin: object) -> Iterable[Path]:
    """Return all files of the outermost package of a plugin's module, or the module's own file."""
    parts = (plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__).split(".")
    for count in range(1, len(parts) + 1):
        module = sys.modules.get(".".join(parts[:count]))
        file = getattr(module, "__file__", None)
        if file is None:  # a namespace package, shared by several distributions
            continue
        if not hasattr(module, "__path__"):
            return [Path(file)]
        inside = Path(file).parent.rglob("*")
        return sorted(path for path in inside if path.suffix != ".pyc" and path.is_file())
    return []

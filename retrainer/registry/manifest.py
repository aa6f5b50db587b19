"""The manifest of a version, and which folders in the models folder have one."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

from retrainer.files import open_within

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MANIFEST = "manifest.json"
FORMAT = 1
_LIBRARIES = ("retrainer", "numpy", "pandas", "prophet", "anthropic")  # a model's files may depend on their versions
_MAX_BYTES = 10_000_000


def make_manifest(version_id: str, data: Mapping[str, bytes]) -> bytes:
    """Return the manifest of a version with these files, by path."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "version_id": version_id,
        "libraries": _installed_versions(),
        "files": {
            name: {"sha256": hashlib.sha256(part).hexdigest(), "size": len(part)} for name, part in sorted(data.items())
        },
    }
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


@cache
def _installed_versions() -> dict[str, str]:
    versions = {}
    for library in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[library] = metadata.version(library)
    return versions


def find_version_folders(models_dir: Path, model_type: str) -> list[Path]:
    """Return the folders of complete versions, in the database or not: those whose manifest names the folder.

    Other programs call a file `manifest.json`, too.
    """
    found = (path.parent for path in (models_dir / model_type).glob(f"*/{MANIFEST}"))
    return sorted(folder for folder in found if is_version_folder(models_dir, model_type, folder.name))


def is_manifest_of(version_id: str, data: object) -> bool:
    """Whether what was read from a file is the manifest of a version."""
    if not isinstance(data, bytes):  # an error
        return False
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("version_id") == version_id and "files" in content


def is_version_folder(models_dir: Path, model_type: str, version_id: str) -> bool:
    """Whether the folder with the name of a version has its manifest."""
    try:
        with open_within(models_dir, (model_type, version_id, MANIFEST)) as file:
            return is_manifest_of(version_id, file.read(_MAX_BYTES))
    except OSError:
        return False

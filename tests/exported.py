"""Exported versions that are not as `export` wrote them."""

from __future__ import annotations

import hashlib
import json
import zipfile
from typing import TYPE_CHECKING, Any

from retrainer.transfer import DESCRIPTION, FILES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def read_export(file: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return what an export says about itself, and the version's files."""
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    description = json.loads(content.pop(DESCRIPTION))
    return description, {name.removeprefix(FILES): data for name, data in content.items()}


def write_export(file: Path, description: Mapping[str, Any], files: Mapping[str, bytes], **options: Any) -> None:
    """Write an export with these files and hashes that fit, whatever they are."""
    listed = {path: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for path, data in files.items()}
    with zipfile.ZipFile(file, "w", **options) as archive:
        archive.writestr(DESCRIPTION, json.dumps({**description, "files": listed}))
        for path, data in files.items():
            archive.writestr(FILES + path, data)


def rename_version(file: Path, version_id: str) -> None:
    """Give an exported version another id and no evaluations, as if it came from another project."""
    description, files = read_export(file)
    old = description["version"]["version_id"].encode()
    kept = {path: data for path, data in files.items() if not path.startswith("evaluations/")}
    description["version"] |= {"version_id": version_id, "evaluations": []}
    write_export(file, description, {path: data.replace(old, version_id.encode()) for path, data in kept.items()})

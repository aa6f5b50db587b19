"""Which folders in the models folder are versions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from retrainer.files import open_within

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.json"
_MAX_BYTES = 10_000_000


def find_version_folders(models_dir: Path, model_type: str) -> list[Path]:
    """Return the folders of complete versions, in the database or not: those whose manifest names the folder.

    Other programs call a file `manifest.json`, too.
    """
    found = (path.parent for path in (models_dir / model_type).glob(f"*/{MANIFEST}"))
    return sorted(folder for folder in found if _manifest_names(models_dir, model_type, folder.name))


def _manifest_names(models_dir: Path, model_type: str, version_id: str) -> bool:
    try:
        with open_within(models_dir, (model_type, version_id, MANIFEST)) as file:
            content = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("version_id") == version_id and "files" in content

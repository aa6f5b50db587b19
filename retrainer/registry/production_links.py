"""The links `models/timing_model` and `models/content_model` to the folders of the production versions.

Those of other streams than `default` are in `models/streams/ID/`. A store has none: what is in production is in the
database.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer.errors import ArtifactError
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry.folder_place import FolderPlace
from retrainer.registry.place import STREAMS
from retrainer.streams import DEFAULT_STREAM, stream_id

if TYPE_CHECKING:
    from retrainer.model_types import ModelTypeName
    from retrainer.registry.artifacts import Artifacts
    from retrainer.registry.registry import Registry
    from retrainer.registry.tables import ModelVersion

log = logging.getLogger(__name__)


class ProductionLinks:
    """The links of one stream in a models folder."""

    def __init__(self, artifacts: Artifacts, registry: Registry) -> None:
        self._artifacts = artifacts
        self._registry = registry
        self._place = artifacts.place if isinstance(artifacts.place, FolderPlace) else None

    def update(self) -> None:
        """Point `timing_model` and `content_model` to the production versions, and restore files that these lack.

        Each call reads the production versions under a lock on the models folder, so whichever of several processes
        comes last sets the right links.

        Raises:
            ArtifactError: the models folder cannot be written, or something else has the name of a link.
        """
        for production in self.set():
            self._artifacts.restore_missing_files(production)

    def set(self) -> list[ModelVersion]:
        """Point `timing_model` and `content_model` to the production versions, and return these; none of a store.

        Raises:
            ArtifactError: the models folder cannot be written, or something else has the name of a link.
        """
        if self._place is None:
            return []
        with self._place.lock():
            self._place.require_safe(self._folder.relative_to(self._place.folder).as_posix())
            self._folder.mkdir(parents=True, exist_ok=True)
            production = {version.model_type: version for version in self._registry.list_production()}
            for model_type in MODEL_TYPE_NAMES:
                self._link(model_type, production.get(model_type))
        return list(production.values())

    def require_free(self) -> None:
        """Check that nothing of the user has the name of a link to a production version.

        Raises:
            ArtifactError: a file, a folder or another link has.
        """
        if self._place is not None:
            for model_type in MODEL_TYPE_NAMES:
                _require_free(self.path(model_type), model_type)

    def find_problem(self, model_type: ModelTypeName) -> str | None:
        """Describe what is wrong with a type's production link; None if it is right."""
        if self._place is None:
            return None
        return self._find_problem(model_type, self._registry.get_production(model_type))

    def _find_problem(self, model_type: ModelTypeName, production: ModelVersion | None) -> str | None:
        link = self.path(model_type)
        if production is None:
            is_own = link.is_symlink() and _is_own_link(link, model_type)
            return "it exists, but there is no production version" if is_own else None
        if not link.is_symlink():
            return "it is not a link" if link.exists() else "it is missing"
        if os.readlink(link) != self._target(production):  # noqa: PTH115  Path would normalise what is compared
            return f"it does not point to '{production.version_id}'"
        return None if link.exists() else f"the folder of '{production.version_id}' is missing"

    @property
    def _folder(self) -> Path:
        models, stream = Path(self._artifacts.place.locate()), self._registry.stream
        return models if stream == DEFAULT_STREAM else models / STREAMS / stream_id(stream)

    def names(self, model_type: ModelTypeName, version_id: str) -> bool:
        """Whether the link of a type names a version, without asking the database; a store has no links."""
        if self._place is None:
            return True
        link = self.path(model_type)
        return link.is_symlink() and link.readlink().parts[-2:] == (model_type, version_id)

    def path(self, model_type: ModelTypeName) -> Path:
        """Return where the link of a type is."""
        return self._folder / f"{model_type}_model"

    def _target(self, version: ModelVersion) -> str:
        """Return a relative path, so that it survives a move of the models folder."""
        up = "" if self._registry.stream == DEFAULT_STREAM else "../../"
        return f"{up}{version.model_type}/{version.version_id}"

    def _link(self, model_type: ModelTypeName, production: ModelVersion | None) -> None:
        link = self.path(model_type)
        if self._find_problem(model_type, production) is None:
            return
        _require_free(link, model_type)
        if production is None:
            link.unlink()
            reason = f"Removed the link '{link.name}': there is no production version"
            log.info("%s", reason)
            self._registry.record_files(self._registry.key(model_type), "cleanup", reason)
            return
        with self._artifacts.staging(model_type) as staging:
            new_link = staging.folder / link.name
            new_link.symlink_to(self._target(production), target_is_directory=True)
            new_link.replace(link)


def _require_free(link: Path, model_type: str) -> None:
    if link.exists() and not link.is_symlink():
        kind = "folder" if link.is_dir() else "file"
        raise ArtifactError(f"cannot link '{link}': it is a {kind}", hint="Move it away")
    if link.is_symlink() and not _is_own_link(link, model_type):
        raise ArtifactError(f"cannot link '{link}': it is a link to '{link.readlink()}'", hint="Move it away")


def _is_own_link(link: Path, model_type: str) -> bool:
    parts = [part for part in link.readlink().parts if part != ".."]
    return len(parts) == 2 and parts[0] == model_type  # noqa: PLR2004  as in `_target`

"""Model files: read from their place, or from the database where they are missing, and verified by their hashes.

A version is a folder `models/<type>/<version_id>/` of plain-data files and a `manifest.json` with the SHA-256 of each.
The hash of the manifest is in the database, and so are the files (up to 32 MB), unless the place is a store.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from retrainer.errors import ArtifactError
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry.manifest import FORMAT, MANIFEST
from retrainer.registry.place import (
    LOCK_FILE,
    OWNER_FILE,
    SET_ASIDE,
    STREAMS,
    check_sha256,
    require_own,
    require_plain_paths,
    sha256,
    version_path,
)
from retrainer.registry.refits import REFITS
from retrainer.registry.staging import STAGING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from retrainer.registry.place import Place
    from retrainer.registry.refits import Refit
    from retrainer.registry.registry import Registry
    from retrainer.registry.tables import ModelVersion, VersionFile

FileProblem = Literal["missing", "changed", "unreadable"]
_OWN_NAMES = (*MODEL_TYPE_NAMES, STAGING, SET_ASIDE, STREAMS, LOCK_FILE, OWNER_FILE)


class ModelFiles:
    """The files of versions in their place. Nothing here writes."""

    def __init__(self, place: Place, registry: Registry) -> None:
        self.place = place
        self._registry = registry
        self._compared_owner: str | None = None  # the owner of the place when it was last compared with the database

    def require_own_folder(self) -> None:
        """Check that the place of the model files does not belong to another database.

        Raises:
            ConfigError: it does.
            ArtifactError: its owner cannot be read.
        """
        self._compared_owner = require_own(self.place, self._registry)

    def read(self, version: ModelVersion, refit: Refit | None = None) -> dict[str, bytes]:
        """Return the files of a version's model by path: the very bytes whose hashes were checked.

        All files of the fit are checked, each is opened once, and nothing is written but the cache of a store: what is
        missing comes from the database.

        Args:
            refit: the live fit to read; None for the evaluated fit.

        Raises:
            ArtifactError: a file was changed, or is missing and the database has no copy.
        """
        if refit is None:
            files = self.read_files(version, lambda path: not path.startswith(f"{REFITS}/"))
        else:
            files = self.read_files(version, lambda path: path.startswith(f"{refit.folder}/"))
        return files_of_fit(files, version, refit, self.place.repair_hint)

    def read_files(self, version: ModelVersion, is_wanted: Callable[[str], bool]) -> dict[str, bytes]:
        """Return those of a version's files that are wanted, by path; see `read_file`."""
        return self._read_verified(version, [row for row in self.list_files(version) if is_wanted(row.path)])

    def read_file(self, version: ModelVersion, path: str) -> bytes:
        """Return one of a version's files, checked against its hash; from the database if it is missing.

        Raises:
            ArtifactError: it was changed, or is missing and the database has no copy.
        """
        rows = self.list_files(version, path)
        if not rows:
            raise ArtifactError(f"'{version.version_id}' has no file '{path}'")
        return self._read_verified(version, rows)[path]

    def find_file_problems(self, version: ModelVersion) -> dict[str, FileProblem]:
        """Compare every file of a version with its record in the database; return the problems by path.

        Raises:
            ArtifactError: a store cannot be read.
        """
        problems: dict[str, FileProblem] = {}
        for row, data in self.place.read(version, self.list_files(version), cached=False):
            if isinstance(data, FileNotFoundError):
                problems[row.path] = "missing"
            elif isinstance(data, Exception):
                is_unknown = self.place.keeps_only_copy or isinstance(data.__cause__, PermissionError)
                problems[row.path] = "unreadable" if is_unknown else "changed"
            elif sha256(data) != row.sha256:
                problems[row.path] = "changed"
        return problems

    def size_on_disk(self, version: ModelVersion) -> int:
        """Return the size in bytes of the files that `remove_files` would remove."""
        found = self.place.find_sizes(version)
        return sum(row.size for row in self.list_files(version) if found.get(row.path) == row.size)

    def list_files(self, version: ModelVersion, path: str | None = None) -> list[VersionFile]:
        """Return the records of a version's files, or of one of them.

        Raises:
            ArtifactError: the database holds a path that could lead elsewhere.
        """
        rows = self._registry.list_files(version.version_id)
        require_plain_paths((row.path for row in rows), version.version_id)
        return [row for row in rows if path in {None, row.path}]

    def intact_files(self, version: ModelVersion) -> list[str]:
        """Return the paths of the files that are as recorded."""
        problems = self.find_file_problems(version)
        return [row.path for row in self.list_files(version) if row.path not in problems]

    def _read_verified(self, version: ModelVersion, rows: Sequence[VersionFile]) -> dict[str, bytes]:
        """Return files of a version by path, each from its place, or from the database if it is missing."""
        files = {}
        for row, found in self.place.read(version, rows, cached=True):
            data: bytes | Exception | None = found
            if isinstance(found, FileNotFoundError):
                data = self._registry.read_file(version.version_id, row.path)
            if data is None:
                raise no_copy(version, self.place.locate(version_path(version, row.path)))
            if isinstance(data, Exception):
                raise data
            check_sha256(data, row.sha256, row.path, version.version_id, self.place.repair_hint)
            files[row.path] = data
        return files


def files_of_fit(
    files: Mapping[str, bytes], version: ModelVersion, refit: Refit | None = None, hint: str = ""
) -> dict[str, bytes]:
    """Return the files of a version's model, which its manifest names, by their path beside it.

    Args:
        files: the files of the version, or those of the fit, by path.
        refit: the live fit; None for the evaluated fit.
        hint: what to do about a manifest that was changed.

    Raises:
        ArtifactError: the manifest is missing, was changed, or is from a newer release.
    """
    prefix = f"{refit.folder}/" if refit else ""
    manifest = files.get(prefix + MANIFEST, b"")
    expected = refit.manifest_sha256 if refit else version.manifest_sha256
    check_sha256(manifest, expected, prefix + MANIFEST, version.version_id, hint)
    content = json.loads(manifest)
    if content["format"] > FORMAT:
        raise ArtifactError(
            f"cannot read '{version.version_id}': its format is {content['format']}, this release reads up to {FORMAT}",
            hint="Upgrade retrainer",
        )
    return {path: files[prefix + path] for path in content["files"]}


def in_models_folder(path: Path, models_dir: Path) -> bool:
    """Whether a path is where only this program puts files in the models folder."""
    return path.is_relative_to(models_dir) and path.relative_to(models_dir).parts[:1] in {
        (name,) for name in _OWN_NAMES
    }


def no_copy(version: ModelVersion, location: str) -> ArtifactError:
    return ArtifactError(
        f"cannot repair '{version.version_id}': '{location}' is missing and there is no copy in the database",
        hint="Restore it from a backup, or train a new version",
    )

"""Model files: read from a version's folder, or from the database where they are missing, and verified by their hashes.

A version is a folder `models/<type>/<version_id>/` of plain-data files and a `manifest.json` with the SHA-256 of each.
The hash of the manifest is in the database, and so are the files (up to 32 MB).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from retrainer.errors import ArtifactError, ConfigError
from retrainer.files import open_within
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry.manifest import FORMAT, MANIFEST
from retrainer.registry.refits import REFITS
from retrainer.registry.staging import STAGING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from retrainer.registry.refits import Refit
    from retrainer.registry.registry import Registry
    from retrainer.registry.tables import ModelVersion, VersionFile

FileProblem = Literal["missing", "changed", "unreadable"]
SET_ASIDE = ".set-aside"
STREAMS = "streams"  # the folder of the production links of other streams than `default`
LOCK_FILE = ".lock"
OWNER_FILE = ".database-id"  # the id of the database that the models folder belongs to
_OWN_NAMES = (*MODEL_TYPE_NAMES, STAGING, SET_ASIDE, STREAMS, LOCK_FILE, OWNER_FILE)
_OWNER = re.compile(rb"[0-9a-f]{32}\n")


class ModelFiles:
    """The files of versions in the models folder. Nothing here writes."""

    def __init__(self, models_dir: Path, registry: Registry) -> None:
        self.models_dir = models_dir
        self._registry = registry

    def folder(self, model_type: str, version_id: str) -> Path:
        """Return the path of a version's folder, whether it exists or not."""
        return self.models_dir / model_type / version_id

    def require_no_links(self, path: Path) -> None:
        """Refuse a symbolic link in the place of a file or folder in the models folder: it may lead anywhere.

        Raises:
            ArtifactError: the path or a folder above it, up to the models folder, is one.
        """
        link = self.find_link(path)
        if link is not None:
            raise ArtifactError(
                f"'{link}' is a symbolic link",
                hint="Replace it by what it points to; only the models folder may be one",
            )

    def find_owner(self) -> str | None:
        """Return the id of the database that the models folder belongs to; None if it belongs to none yet.

        Raises:
            ArtifactError: it cannot be read.
        """
        try:
            with open_within(self.models_dir, [OWNER_FILE]) as file:
                content = file.read(100)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ArtifactError(f"cannot read '{self.models_dir / OWNER_FILE}': {error.strerror}") from error
        return content.decode().strip() if _OWNER.fullmatch(content) else None  # half a line is of a killed process

    def require_own_folder(self) -> None:
        """Check that the models folder does not belong to another database, whose files must not be touched.

        Raises:
            ConfigError: it does.
            ArtifactError: its owner cannot be read.
        """
        if self.find_owner() not in {None, self._registry.database_id()}:
            raise ConfigError(
                f"the models folder '{self.models_dir}' belongs to another database",
                hint=f"Choose another models_dir, or delete '{self.models_dir / OWNER_FILE}' to take it over",
            )

    def read(self, version: ModelVersion, refit: Refit | None = None) -> dict[str, bytes]:
        """Return the files of a version's model by path: the very bytes whose hashes were checked.

        All files of the fit are checked, each is opened once, and nothing is written: what is missing comes from the
        database.

        Args:
            refit: the live fit to read; None for the evaluated fit.

        Raises:
            ArtifactError: a file was changed, or is missing and the database has no copy.
        """
        if refit is None:
            files = self.read_files(version, lambda path: not path.startswith(f"{REFITS}/"))
        else:
            files = self.read_files(version, lambda path: path.startswith(f"{refit.folder}/"))
        return files_of_fit(files, version, refit)

    def read_files(self, version: ModelVersion, is_wanted: Callable[[str], bool]) -> dict[str, bytes]:
        """Return those of a version's files that are wanted, by path; see `read_file`."""
        return {row.path: self._read_verified(version, row) for row in self.list_files(version) if is_wanted(row.path)}

    def read_file(self, version: ModelVersion, path: str) -> bytes:
        """Return one of a version's files, checked against its hash; from the database if it is missing.

        Raises:
            ArtifactError: it was changed, or is missing and the database has no copy.
        """
        rows = self.list_files(version, path)
        if not rows:
            raise ArtifactError(f"'{version.version_id}' has no file '{path}'")
        return self._read_verified(version, rows[0])

    def find_file_problems(self, version: ModelVersion) -> dict[str, FileProblem]:
        """Compare every file of a version with its record in the database; return the problems by path."""
        problems: dict[str, FileProblem] = {}
        for row in self.list_files(version):
            try:
                self._read_from_folder(version, row)
            except FileNotFoundError:
                problems[row.path] = "missing"
            except ArtifactError as error:
                problems[row.path] = "unreadable" if isinstance(error.__cause__, PermissionError) else "changed"
        return problems

    def size_on_disk(self, version: ModelVersion) -> int:
        """Return the size in bytes of the files that `remove_files` would remove."""
        return sum(path.stat().st_size for path in self.intact_files(version))

    def list_files(self, version: ModelVersion, path: str | None = None) -> list[VersionFile]:
        """Return the records of a version's files, or of one of them.

        Raises:
            ArtifactError: the database holds a path that could lead elsewhere.
        """
        rows = self._registry.list_files(version.version_id)
        require_plain_paths((row.path for row in rows), version.version_id)
        return [row for row in rows if path in {None, row.path}]

    def _read_verified(self, version: ModelVersion, row: VersionFile) -> bytes:
        """Return one of a version's files from its folder, or from the database if it is missing."""
        try:
            return self._read_from_folder(version, row)
        except FileNotFoundError:
            content = self._registry.read_file(version.version_id, row.path)
        if content is None:
            raise no_copy(version, self.folder(version.model_type, version.version_id) / row.path)
        _check(content, row.sha256, row.path, version.version_id)
        return content

    def _read_from_folder(self, version: ModelVersion, row: VersionFile) -> bytes:
        """Return one of a version's files, opened once.

        Raises:
            FileNotFoundError: it is missing.
            ArtifactError: it was changed, cannot be read, or is a link or no regular file.
        """
        version_id = version.version_id
        try:
            with open_within(self.models_dir, (version.model_type, version_id, *PurePosixPath(row.path).parts)) as file:
                size = os.fstat(file.fileno()).st_size
                if size != row.size:
                    raise _modified(row.path, version_id, f"it has {size} bytes, recorded were {row.size}")
                content = file.read(row.size + 1)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ArtifactError(
                f"cannot read '{row.path}' of '{version_id}': {error.strerror}",
                hint=f"Check '{self.folder(version.model_type, version_id)}'",
            ) from error
        _check(content, row.sha256, row.path, version_id)
        return content

    def intact_files(self, version: ModelVersion) -> list[Path]:
        folder = self.folder(version.model_type, version.version_id)
        problems = self.find_file_problems(version)
        rows = self._registry.list_files(version.version_id)
        return [folder / row.path for row in rows if row.path not in problems]

    def find_link(self, path: Path) -> Path | None:
        """Return the first part of a path below the models folder that is a symbolic link."""
        below = [path, *path.parents][: len(path.relative_to(self.models_dir).parts)]
        return next((part for part in reversed(below) if part.is_symlink()), None)


def files_of_fit(files: Mapping[str, bytes], version: ModelVersion, refit: Refit | None = None) -> dict[str, bytes]:
    """Return the files of a version's model, which its manifest names, by their path beside it.

    Args:
        files: the files of the version, or those of the fit, by path.
        refit: the live fit; None for the evaluated fit.

    Raises:
        ArtifactError: the manifest is missing, was changed, or is from a newer release.
    """
    prefix = f"{refit.folder}/" if refit else ""
    manifest = files.get(prefix + MANIFEST, b"")
    expected = refit.manifest_sha256 if refit else version.manifest_sha256
    _check(manifest, expected, prefix + MANIFEST, version.version_id)
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


def no_copy(version: ModelVersion, path: Path) -> ArtifactError:
    return ArtifactError(
        f"cannot repair '{version.version_id}': '{path}' is missing and there is no copy in the database",
        hint="Restore it from a backup, or train a new version",
    )


def require_plain_paths(paths: Iterable[str], version_id: str) -> None:
    """Check that paths name files below the version's folder, on any system: no two the same one, none a folder.

    Raises:
        ArtifactError: one does not.
    """
    seen: set[str] = set()
    listed = list(paths)
    folders = {str(folder) for path in listed for folder in PurePosixPath(path.casefold()).parents}
    for path in listed:
        if not path.isprintable() or "\\" in path or {"", ".", ".."} & set(path.split("/")):
            problem = "is not a plain relative path"
        elif path.casefold() in seen:
            problem = "differs from another one only in case"
        elif path.casefold() in folders:
            problem = "is also a folder"
        else:
            seen.add(path.casefold())
            continue
        raise ArtifactError(
            f"'{version_id}' has a file '{path}', which {problem}", hint="It was not loaded. Train a new version"
        )


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _check(data: bytes, expected: str, name: str, version_id: str) -> None:
    if sha256(data) != expected:
        raise _modified(name, version_id, f"its SHA-256 is {sha256(data)[:12]}…, recorded was {expected[:12]}…")


def _modified(name: str, version_id: str, difference: str) -> ArtifactError:
    return ArtifactError(
        f"'{name}' of '{version_id}' was modified: {difference}",
        hint="It was not loaded. Delete the version's folder to restore it from the database",
    )

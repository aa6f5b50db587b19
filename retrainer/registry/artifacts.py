"""Model files: written completely or not at all, verified before they are read.

A version is a folder `models/<type>/<version_id>/` of plain-data files and a `manifest.json` with the SHA-256 of each.
The hash of the manifest is in the database, and so are the files (up to 32 MB): the folder is a copy, restored where it
is missing. `models/timing_model` and `models/content_model` are links to the production versions.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from retrainer.errors import ArtifactError
from retrainer.files import (
    exclusive_lock,
    is_abandoned,
    liveness_lock,
    open_within,
    remove,
    sync,
    write_atomically,
)
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry.tables import VersionFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.registry import Registry
    from retrainer.registry.tables import ModelVersion

MANIFEST = "manifest.json"
EVALUATIONS = "evaluations"  # the forecasts of a version's evaluations; not part of the model
FORMAT = 1
MAX_BYTES_IN_DATABASE = 32 * 1024 * 1024
_STAGING_PREFIX = ".staging-"
_SET_ASIDE = ".set-aside"
_LIBRARIES = ("retrainer", "numpy", "pandas", "prophet", "anthropic")  # a model's files may depend on their versions


class Artifacts:
    """The models folder."""

    def __init__(self, models_dir: Path, registry: Registry) -> None:
        self.models_dir = models_dir
        self._registry = registry

    def folder(self, model_type: str, version_id: str) -> Path:
        """Return the path of a version's folder, whether it exists or not."""
        return self.models_dir / model_type / version_id

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Provide an empty folder on the models folder's filesystem; it is removed at the end unless it was moved.

        Raises:
            ArtifactError: the models folder cannot be written.
        """
        with ExitStack() as stack:
            with report_write_errors(self.models_dir):
                self.models_dir.mkdir(parents=True, exist_ok=True)
                folder = self.models_dir / f"{_STAGING_PREFIX}{secrets.token_hex(8)}"
                with exclusive_lock(self._lock_file):
                    folder.mkdir()
                    stack.enter_context(liveness_lock(folder))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            yield folder

    def store(self, staged: Path, version: ModelVersion, written: list[str]) -> list[VersionFile]:
        """Add a manifest to the staged files, make them durable, and move them into place in one step.

        Returns:
            The rows of the files for the database, with the content unless the version is too large.

        Raises:
            ArtifactError: the models folder cannot be written, or is full; then nothing is left behind.
        """
        version_id = version.version_id
        _require_plain_paths(written, version_id)
        target = self.folder(version.model_type, version_id)
        with report_write_errors(self.models_dir):
            data = {name: (staged / name).read_bytes() for name in written}
            manifest = _manifest(version_id, data)
            (staged / MANIFEST).write_bytes(manifest)
            for name in (*written, MANIFEST):
                sync(staged / name)
            sync(staged)
            target.parent.mkdir(parents=True, exist_ok=True)
            staged.rename(target)
            sync(target.parent)
        in_database = sum(map(len, data.values())) <= MAX_BYTES_IN_DATABASE
        files = [_row(version_id, name, content, keep=in_database) for name, content in data.items()]
        files.append(_row(version_id, MANIFEST, manifest, keep=True))
        version.manifest_sha256 = files[-1].sha256
        return files

    def discard(self, version: ModelVersion) -> None:
        """Remove the folder of a version that was never registered."""
        shutil.rmtree(self.folder(version.model_type, version.version_id), ignore_errors=True)

    def read(self, version: ModelVersion) -> dict[str, bytes]:
        """Return the files of a version's model by path: the very bytes whose hashes were checked.

        All files of the version are checked, each is opened once, and nothing is written: what is missing comes from
        the database.

        Raises:
            ArtifactError: a file was changed, or is missing and the database has no copy.
        """
        files = {row.path: self._read_verified(version, row) for row in self._list_files(version)}
        manifest = files.get(MANIFEST, b"")
        _check(manifest, version.manifest_sha256, MANIFEST, version.version_id)
        content = json.loads(manifest)
        if content["format"] > FORMAT:
            raise ArtifactError(
                f"cannot read '{version.version_id}': its format is {content['format']}, "
                f"this release reads up to {FORMAT}",
                hint="Upgrade retrainer",
            )
        return {path: files[path] for path in content["files"]}

    def write_forecasts(self, version: ModelVersion, name: str, data: bytes) -> VersionFile:
        """Write the forecasts of an evaluation beside the model; return their row for the database.

        Raises:
            ArtifactError: the models folder cannot be written.
        """
        path = f"{EVALUATIONS}/{name}"
        _write(self.folder(version.model_type, version.version_id) / path, data)
        return _row(version.version_id, path, data, keep=True)

    def remove_forecasts(self, version: ModelVersion, path: str) -> None:
        """Remove the forecasts of an evaluation that could not be recorded."""
        (self.folder(version.model_type, version.version_id) / path).unlink(missing_ok=True)

    def read_forecasts(self, version: ModelVersion, path: str) -> bytes:
        """Return the forecasts file of an evaluation, checked against its hash; from the database if it is missing.

        Raises:
            ArtifactError: it was changed, or is missing and the database has no copy.
        """
        rows = self._list_files(version, path)
        if not rows:
            raise ArtifactError(f"'{version.version_id}' has no forecasts file '{path}'")
        return self._read_verified(version, rows[0])

    def link_production(self) -> None:
        """Point `timing_model` and `content_model` to the production versions.

        Each call reads the production versions under a lock on the models folder, so whichever of several processes
        comes last sets the right links.

        Raises:
            ArtifactError: the models folder cannot be written.
        """
        with report_write_errors(self.models_dir):
            self.models_dir.mkdir(parents=True, exist_ok=True)
            for model_type in MODEL_TYPE_NAMES:
                production = self._registry.get_production(model_type)
                if production is not None and not self.folder(model_type, production.version_id).exists():
                    self._restore_missing_files(production)
            with exclusive_lock(self._lock_file):
                for model_type in MODEL_TYPE_NAMES:
                    self._link(model_type)

    def abandoned_staging_folders(self) -> list[Path]:
        """Return the staging folders whose process is dead.

        Raises:
            ArtifactError: there may be some, but the models folder cannot be written.
        """
        found = list(self.models_dir.glob(f"{_STAGING_PREFIX}*"))
        if not found:
            return []
        with report_write_errors(self.models_dir), exclusive_lock(self._lock_file):
            return [folder for folder in found if is_abandoned(folder)]

    def unregistered_folders(self, model_type: ModelTypeName, since: datetime | None = None) -> list[Path]:
        """Return the folders of versions that are not in the database, or whose files were pruned.

        Call it only while no run of the type is in progress: a run moves its files into place before it registers them.

        Args:
            model_type: the model type.
            since: only folders written at or after this time; None: all.
        """
        found = [path for path in (self.models_dir / model_type).glob("*") if path.is_dir()]
        registered = self._registry.list_unpruned_version_ids(model_type) if found else set()
        strays = [path for path in found if path.name not in registered]
        return [path for path in strays if since is None or path.stat().st_mtime >= since.timestamp()]

    def stray_files(self, version: ModelVersion) -> list[Path]:
        """Return the files in a version's folder that are not in the database."""
        folder = self.folder(version.model_type, version.version_id)
        known = {row.path for row in self._registry.list_files(version.version_id)}
        return [path for path in _files_in(folder) if path.relative_to(folder).as_posix() not in known]

    def remove_strays(self, model_type: ModelTypeName, since: datetime | None = None) -> None:
        """Remove unregistered folders and stray files; see `unregistered_folders`.

        Raises:
            ArtifactError: one of them cannot be removed.
        """
        for folder in self.unregistered_folders(model_type, since):
            self.remove(folder)
        for version in self._registry.list_versions(model_type):
            for path in self.stray_files(version):
                self.remove(path)

    def remove(self, path: Path) -> None:
        """Remove a file or folder in the models folder.

        Raises:
            ArtifactError: it cannot be removed.
        """
        with report_write_errors(path.parent):
            remove(path)

    def has_manifest(self, folder: Path) -> bool:
        """Whether a folder holds a version that was written completely, in this database or not."""
        return (folder / MANIFEST).exists()

    def set_aside(self, folder: Path) -> None:
        """Move a version's folder to `.set-aside`, which nothing reads.

        Raises:
            ArtifactError: the models folder cannot be written.
        """
        target = self.models_dir / _SET_ASIDE / folder.parent.name / folder.name
        with report_write_errors(self.models_dir):
            target.parent.mkdir(parents=True, exist_ok=True)
            remove(target)
            folder.rename(target)

    def size_on_disk(self, version: ModelVersion) -> int:
        """Return the size of a version's folder in bytes."""
        return sum(path.lstat().st_size for path in _files_in(self.folder(version.model_type, version.version_id)))

    def find_file_problems(self, version: ModelVersion) -> dict[str, Literal["missing", "changed"]]:
        """Compare every file of a version with its record in the database; return the problems by path."""
        problems: dict[str, Literal["missing", "changed"]] = {}
        for row in self._list_files(version):
            try:
                self._read_from_folder(version, row)
            except FileNotFoundError:
                problems[row.path] = "missing"
            except ArtifactError:
                problems[row.path] = "changed"
        return problems

    def restore_file(self, version: ModelVersion, path: str) -> bool:
        """Write one of a version's files from the database; False if the database has no intact copy."""
        (row,) = self._list_files(version, path)
        data = self._registry.read_file(version.version_id, path)
        if data is None or _sha256(data) != row.sha256:
            return False
        _write(self.folder(version.model_type, version.version_id) / path, data)
        return True

    def find_link_problem(self, model_type: ModelTypeName) -> str | None:
        """Describe what is wrong with a type's production link; None if it is right."""
        link = self.models_dir / f"{model_type}_model"
        production = self._registry.get_production(model_type)
        if production is None:
            return "it exists, but there is no production version" if link.is_symlink() or link.exists() else None
        if not link.is_symlink():
            return "it is not a link" if link.exists() else "it is missing"
        if os.readlink(link) != _link_target(production):  # noqa: PTH115  Path would normalise what is compared
            return f"it does not point to '{production.version_id}'"
        return None if link.exists() else f"the folder of '{production.version_id}' is missing"

    def _restore_missing_files(self, version: ModelVersion) -> None:
        for path, problem in self.find_file_problems(version).items():
            if problem == "missing" and not self.restore_file(version, path):
                raise _no_copy(version, self.folder(version.model_type, version.version_id) / path)

    def _list_files(self, version: ModelVersion, path: str | None = None) -> list[VersionFile]:
        """Return the records of a version's files, or of one of them.

        Raises:
            ArtifactError: the database holds a path that could lead elsewhere.
        """
        rows = self._registry.list_files(version.version_id)
        _require_plain_paths((row.path for row in rows), version.version_id)
        return [row for row in rows if path in {None, row.path}]

    def _read_verified(self, version: ModelVersion, row: VersionFile) -> bytes:
        """Return one of a version's files from its folder, or from the database if it is missing."""
        try:
            return self._read_from_folder(version, row)
        except FileNotFoundError:
            content = self._registry.read_file(version.version_id, row.path)
        if content is None:
            raise _no_copy(version, self.folder(version.model_type, version.version_id) / row.path)
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

    @property
    def _lock_file(self) -> Path:
        return self.models_dir / ".lock"

    def _link(self, model_type: ModelTypeName) -> None:
        link = self.models_dir / f"{model_type}_model"
        production = self._registry.get_production(model_type)
        if production is None:
            link.unlink(missing_ok=True)
            return
        if self.find_link_problem(model_type) is None:
            return
        new_link = self.models_dir / f".{model_type}_model.new"  # always the same name: we hold the lock
        new_link.unlink(missing_ok=True)
        new_link.symlink_to(_link_target(production), target_is_directory=True)
        if link.is_dir() and not link.is_symlink():
            raise ArtifactError(f"cannot link '{link}': it is a folder", hint="Move it away")
        new_link.replace(link)


@contextmanager
def report_write_errors(folder: Path) -> Iterator[None]:
    """Translate an OSError into an ArtifactError that says why the models folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            f"cannot write to '{folder}': {error.strerror}", hint="Check its permissions and the free disk space"
        ) from error


def _no_copy(version: ModelVersion, path: Path) -> ArtifactError:
    return ArtifactError(
        f"cannot repair '{version.version_id}': '{path}' is missing and there is no copy in the database",
        hint="Restore it from a backup, or train a new version",
    )


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())


def _link_target(version: ModelVersion) -> str:
    return f"{version.model_type}/{version.version_id}"  # relative, so that it survives a move of the folder


def _manifest(version_id: str, data: dict[str, bytes]) -> bytes:
    libraries = {}
    for library in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            libraries[library] = metadata.version(library)
    content: dict[str, Any] = {
        "format": FORMAT,
        "version_id": version_id,
        "libraries": libraries,
        "files": {name: {"sha256": _sha256(part), "size": len(part)} for name, part in sorted(data.items())},
    }
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _row(version_id: str, path: str, data: bytes, *, keep: bool) -> VersionFile:
    return VersionFile(
        version_id=version_id, path=path, sha256=_sha256(data), size=len(data), data=data if keep else None
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _require_plain_paths(paths: Iterable[str], version_id: str) -> None:
    """Check that each path names a file below the version's folder, on any system, and no two name the same one.

    Raises:
        ArtifactError: one does not.
    """
    seen: set[str] = set()
    for path in paths:
        is_plain = path.isprintable() and "\\" not in path and not {"", ".", ".."} & set(path.split("/"))
        if not is_plain or path.casefold() in seen:
            problem = "differs from another one only in case" if is_plain else "is not a plain relative path"
            raise ArtifactError(
                f"'{version_id}' has a file '{path}', which {problem}", hint="It was not loaded. Train a new version"
            )
        seen.add(path.casefold())


def _check(data: bytes, expected: str, name: str, version_id: str) -> None:
    if _sha256(data) != expected:
        raise _modified(name, version_id, f"its SHA-256 is {_sha256(data)[:12]}…, recorded was {expected[:12]}…")


def _modified(name: str, version_id: str, difference: str) -> ArtifactError:
    return ArtifactError(
        f"'{name}' of '{version_id}' was modified: {difference}",
        hint="It was not loaded. Delete the version's folder to restore it from the database",
    )


def _write(path: Path, data: bytes) -> None:
    with report_write_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)

"""Model files: written whole or not at all, checked before they are read.

A version is a folder `models/<type>/<version_id>/` of plain-data files and a `manifest.json` that names each with its
SHA-256. The hash of the manifest is in the database, and so are the files (up to 32 MB): the folder is a copy, made
again where it is missing. `models/timing_model` and `models/content_model` are links to the production versions.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

from retrainer.errors import ArtifactError
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry.tables import VersionFile

if TYPE_CHECKING:
    from collections.abc import Iterator
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
_LIBRARIES = ("retrainer", "numpy", "pandas", "prophet", "anthropic")


@dataclass(frozen=True)
class StoredVersion:
    """A version's folder as it was written.

    Attributes:
        folder: where it is.
        manifest_sha256: the hash of its manifest.
        files: the rows for the database, with the bytes where they are not too many.
    """

    folder: Path
    manifest_sha256: str
    files: list[VersionFile]


@dataclass(frozen=True)
class FileProblem:
    """A file of a version that is not what the database says."""

    kind: Literal["missing", "changed"]
    path: str


class Artifacts:
    """The models folder."""

    def __init__(self, models_dir: Path, registry: Registry) -> None:
        self.models_dir = models_dir
        self._registry = registry

    def folder(self, model_type: str, version_id: str) -> Path:
        """Return where a version's folder is, or would be."""
        return self.models_dir / model_type / version_id

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Give an empty folder on the models folder's filesystem; gone at the end, but for what was moved out.

        Raises:
            ArtifactError: the models folder cannot be written.
        """
        with writing(self.models_dir):
            self.models_dir.mkdir(parents=True, exist_ok=True)
            folder = self.models_dir / f"{_STAGING_PREFIX}{secrets.token_hex(8)}"
            with self._locked():
                folder.mkdir()
                lock = os.open(folder, os.O_RDONLY)
                fcntl.flock(lock, fcntl.LOCK_SH)  # says that its process lives; gone with it, whatever ends it
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)

    def store(self, staged: Path, model_type: ModelTypeName, version_id: str, written: list[str]) -> StoredVersion:
        """Give the staged files a manifest, make them durable, and move them to the version's place in one step.

        Raises:
            ArtifactError: the models folder cannot be written, or is full; nothing is left behind then.
        """
        target = self.folder(model_type, version_id)
        with writing(self.models_dir):
            data = {name: (staged / name).read_bytes() for name in written}
            manifest = _manifest(version_id, data)
            (staged / MANIFEST).write_bytes(manifest)
            for name in (*written, MANIFEST):
                _sync(staged / name)
            _sync(staged)
            target.parent.mkdir(parents=True, exist_ok=True)
            staged.rename(target)
            _sync(target.parent)
        in_database = sum(map(len, data.values())) <= MAX_BYTES_IN_DATABASE
        files = [_row(version_id, name, content, keep=in_database) for name, content in data.items()]
        files.append(_row(version_id, MANIFEST, manifest, keep=True))
        return StoredVersion(target, _sha256(manifest), files)

    def discard(self, model_type: ModelTypeName, version_id: str) -> None:
        """Remove the folder of a version that was never registered."""
        shutil.rmtree(self.folder(model_type, version_id), ignore_errors=True)

    def verify(self, version: ModelVersion) -> Path:
        """Return the version's folder after checking every file in it against its hash; make what is missing again.

        Raises:
            ArtifactError: a file was changed, or is missing and the database does not hold it.
        """
        folder = self.folder(version.model_type, version.version_id)
        rows = self._registry.list_files(version.version_id)
        if not folder.exists():
            self._restore_missing(version)
        for row in rows:
            if not (folder / row.path).exists() and not self.restore_file(version, row.path):
                raise _gone(version, folder / row.path)
            _check(_read(folder / row.path, version.version_id), row.sha256, row.path, version.version_id)
        manifest = _read(folder / MANIFEST, version.version_id)
        _check(manifest, version.manifest_sha256, MANIFEST, version.version_id)
        written_as = json.loads(manifest)["format"]
        if written_as > FORMAT:
            raise ArtifactError(
                f"'{version.version_id}' was written in format {written_as}, newer than this program knows ({FORMAT})",
                hint="Upgrade retrainer",
            )
        return folder

    def write_forecasts(self, version: ModelVersion, name: str, data: bytes) -> VersionFile:
        """Keep the forecasts of an evaluation beside the model; return their row for the database.

        Raises:
            ArtifactError: the models folder cannot be written.
        """
        path = f"{EVALUATIONS}/{name}"
        _write_file(self.folder(version.model_type, version.version_id) / path, data)
        return _row(version.version_id, path, data, keep=True)

    def remove_forecasts(self, version: ModelVersion, path: str) -> None:
        """Remove the forecasts of an evaluation that could not be recorded."""
        (self.folder(version.model_type, version.version_id) / path).unlink(missing_ok=True)

    def read_forecasts(self, version: ModelVersion, path: str) -> bytes:
        """Return the forecasts file of an evaluation, checked against its hash; from the database if it is missing.

        Raises:
            ArtifactError: it is gone, or was changed.
        """
        rows = self._registry.list_files(version.version_id, [path])
        if not rows:
            raise ArtifactError(f"'{version.version_id}' has no forecasts file '{path}'")
        target = self.folder(version.model_type, version.version_id) / path
        if not target.exists():
            data = self._registry.read_file(version.version_id, path)
            if data is not None:
                _write_file(target, data)
        content = _read(target, version.version_id)
        _check(content, rows[0].sha256, path, version.version_id)
        return content

    def link_production(self) -> None:
        """Point `timing_model` and `content_model` at what the database says is live.

        Each call reads production afresh under a lock on the models folder, so the last one to run is right whatever
        order several processes come in.

        Raises:
            ArtifactError: the models folder cannot be written.
        """
        with writing(self.models_dir):
            self.models_dir.mkdir(parents=True, exist_ok=True)
            for model_type in MODEL_TYPE_NAMES:
                production = self._registry.get_production(model_type)
                if production is not None and not self.folder(model_type, production.version_id).exists():
                    self._restore_missing(production)
            with self._locked():
                for model_type in MODEL_TYPE_NAMES:
                    self._link(model_type)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the models folder, for a moment."""
        with (self.models_dir / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def abandoned_staging_folders(self) -> list[Path]:
        """Return the staging folders whose process is gone.

        Raises:
            ArtifactError: there may be some, but the models folder cannot be written.
        """
        found = list(self.models_dir.glob(f"{_STAGING_PREFIX}*"))
        if not found:
            return []
        with writing(self.models_dir), self._locked():
            return [folder for folder in found if _is_abandoned(folder)]

    def unregistered_folders(self, model_type: ModelTypeName, since: datetime | None = None) -> list[Path]:
        """Return the folders of versions that the database does not know, or whose files were pruned.

        Args:
            model_type: whose folders.
            since: only those that were written then or later; None: all.

        Only meaningful while no run of the type is going on: a run moves its files into place before it registers them.
        """
        found = [path for path in (self.models_dir / model_type).glob("*") if path.is_dir()]
        kept = self._registry.list_unpruned_version_ids(model_type) if found else set()
        strays = [path for path in found if path.name not in kept]
        return [path for path in strays if since is None or path.stat().st_mtime >= since.timestamp()]

    def has_manifest(self, folder: Path) -> bool:
        """Whether a folder holds a version that was written to its end, whoever knows it."""
        return (folder / MANIFEST).exists()

    def set_aside(self, folder: Path) -> None:
        """Move a version's folder away, to where nothing looks for one.

        Raises:
            ArtifactError: the models folder cannot be written.
        """
        target = self.models_dir / _SET_ASIDE / folder.parent.name / folder.name
        with writing(self.models_dir):
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                remove(target)
            folder.rename(target)

    def stray_files(self, version: ModelVersion) -> list[Path]:
        """Return the files in a version's folder that the database does not know."""
        folder = self.folder(version.model_type, version.version_id)
        known = {row.path for row in self._registry.list_files(version.version_id)}
        return [path for path in _files_in(folder) if path.relative_to(folder).as_posix() not in known]

    def size_on_disk(self, version: ModelVersion) -> int:
        """Return how many bytes a version's folder holds."""
        return sum(path.lstat().st_size for path in _files_in(self.folder(version.model_type, version.version_id)))

    def find_file_problems(self, version: ModelVersion) -> list[FileProblem]:
        """Hold every file of a version against the database: what is missing, and what was changed."""
        folder = self.folder(version.model_type, version.version_id)
        problems: list[FileProblem] = []
        for row in self._registry.list_files(version.version_id):
            path = folder / row.path
            if not path.is_file():
                problems.append(FileProblem("missing", row.path))
            elif _sha256(path.read_bytes()) != row.sha256:
                problems.append(FileProblem("changed", row.path))
        return problems

    def restore_file(self, version: ModelVersion, path: str) -> bool:
        """Write one of a version's files from the database; False where the database does not hold it intact."""
        (row,) = self._registry.list_files(version.version_id, [path])
        data = self._registry.read_file(version.version_id, path)
        if data is None or _sha256(data) != row.sha256:
            return False
        _write_file(self.folder(version.model_type, version.version_id) / path, data)
        return True

    def find_link_problem(self, model_type: ModelTypeName) -> str | None:
        """Say what is wrong with a type's production link; None where it is right."""
        link = self.models_dir / f"{model_type}_model"
        production = self._registry.get_production(model_type)
        if production is None:
            return "it is there, but nothing is in production" if link.is_symlink() or link.exists() else None
        if not link.is_symlink():
            return "it is no link" if link.exists() else "it is missing"
        if os.readlink(link) != _link_target(production):  # noqa: PTH115  Path would normalise what is compared
            return f"it does not point to '{production.version_id}'"
        return None if link.exists() else f"the folder of '{production.version_id}' is missing"

    def _link(self, model_type: ModelTypeName) -> None:
        link = self.models_dir / f"{model_type}_model"
        production = self._registry.get_production(model_type)
        if production is None:
            link.unlink(missing_ok=True)
            return
        if self.find_link_problem(model_type) is None:
            return
        fresh = self.models_dir / f".{model_type}_model.new"  # of one name: we hold the lock
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(_link_target(production), target_is_directory=True)
        if link.is_dir() and not link.is_symlink():
            raise ArtifactError(f"'{link}' is a folder where a link belongs", hint="Move it away")
        fresh.replace(link)

    def _restore_missing(self, version: ModelVersion) -> None:
        """Make a version's folder again from the database."""
        target = self.folder(version.model_type, version.version_id)
        names = [row.path for row in self._registry.list_files(version.version_id)]
        with self.staging() as staged:
            for name in names:
                data = self._registry.read_file(version.version_id, name)
                if data is None:
                    raise _gone(version, target / name)
                _write_file(staged / name, data)
            with writing(self.models_dir):
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    staged.rename(target)
                except OSError:
                    if not target.exists():  # where another process was faster, its bytes are the same
                        raise


def _gone(version: ModelVersion, path: Path) -> ArtifactError:
    return ArtifactError(
        f"files of '{version.version_id}' are gone: '{path}' is missing and the database does not hold it",
        hint="Bring it back from a copy, or train a new version",
    )


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it.

    Raises:
        ArtifactError: it cannot be removed.
    """
    with writing(path.parent):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that a model's files depend on."""
    found = {}
    for library in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found[library] = version(library)
    return found


def _is_abandoned(folder: Path) -> bool:
    try:
        lock = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(lock)


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())


def _link_target(version: ModelVersion) -> str:
    return f"{version.model_type}/{version.version_id}"  # relative, so that it survives a move of the folder


def _manifest(version_id: str, data: dict[str, bytes]) -> bytes:
    content: dict[str, Any] = {
        "format": FORMAT,
        "version_id": version_id,
        "libraries": library_versions(),
        "files": {name: {"sha256": _sha256(part), "size": len(part)} for name, part in sorted(data.items())},
    }
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _row(version_id: str, path: str, data: bytes, *, keep: bool) -> VersionFile:
    return VersionFile(
        version_id=version_id, path=path, sha256=_sha256(data), size=len(data), data=data if keep else None
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(path: Path, version_id: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"cannot read '{path.name}' of '{version_id}': {error.strerror}", hint=f"Look at '{path.parent}'"
        ) from error


def _check(data: bytes, expected: str, name: str, version_id: str) -> None:
    if _sha256(data) != expected:
        raise ArtifactError(
            f"'{name}' of '{version_id}' is not what was written: its SHA-256 is {_sha256(data)[:12]}…, "
            f"the record says {expected[:12]}…",
            hint="It is not read. Remove the version's folder to have it made again from the database",
        )


def _write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(data)
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Ask the filesystem to make a file, or a folder's entries, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say in one line why the models folder cannot be written, if it cannot."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            f"cannot write to '{folder}': {error.strerror}", hint="Check its rights and the free space"
        ) from error

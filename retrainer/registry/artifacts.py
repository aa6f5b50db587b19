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
from typing import TYPE_CHECKING, Any

from retrainer.errors import ArtifactError
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry.tables import VersionFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.registry import Registry
    from retrainer.registry.tables import ModelVersion

MANIFEST = "manifest.json"
EVALUATIONS = "evaluations"  # the forecasts of a version's evaluations; not part of the model
FORMAT = 1
MAX_BYTES_IN_DATABASE = 32 * 1024 * 1024
_STAGING_PREFIX = ".staging-"
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
        with _writing(self.models_dir):
            self.models_dir.mkdir(parents=True, exist_ok=True)
            folder = self.models_dir / f"{_STAGING_PREFIX}{secrets.token_hex(8)}"
            folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def store(self, staged: Path, model_type: ModelTypeName, version_id: str, written: list[str]) -> StoredVersion:
        """Give the staged files a manifest, make them durable, and move them to the version's place in one step.

        Raises:
            ArtifactError: the models folder cannot be written, or is full; nothing is left behind then.
        """
        target = self.folder(model_type, version_id)
        with _writing(self.models_dir):
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

    def verified_folder(self, version: ModelVersion) -> Path:
        """Return the version's folder after checking every model file against its hash; make it again if missing.

        Raises:
            ArtifactError: a file is missing or was changed, or the folder is gone and the database lacks it too.
        """
        folder = self.folder(version.model_type, version.version_id)
        if not (folder / MANIFEST).exists():
            self._restore_missing(version)
        manifest = _read(folder / MANIFEST, version.version_id)
        _check(manifest, version.manifest_sha256, MANIFEST, version.version_id)
        for name, entry in json.loads(manifest)["files"].items():
            _check(_read(folder / name, version.version_id), entry["sha256"], name, version.version_id)
        return folder

    def write_forecasts(self, version: ModelVersion, name: str, data: bytes) -> VersionFile:
        """Keep the forecasts of an evaluation beside the model; return their row for the database.

        Raises:
            ArtifactError: the models folder cannot be written.
        """
        path = f"{EVALUATIONS}/{name}"
        _write_file(self.folder(version.model_type, version.version_id) / path, data)
        return _row(version.version_id, path, data, keep=True)

    def read_forecasts(self, version: ModelVersion, path: str) -> bytes:
        """Return the forecasts file of an evaluation, checked against its hash; from the database if it is missing.

        Raises:
            ArtifactError: it is gone, or was changed.
        """
        rows = self._registry.files(version.version_id, [path])
        if not rows:
            raise ArtifactError(f"'{version.version_id}' has no forecasts file '{path}'")
        target = self.folder(version.model_type, version.version_id) / path
        if not target.exists():
            data = self._registry.file_data(version.version_id, path)
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
        with _writing(self.models_dir):
            self.models_dir.mkdir(parents=True, exist_ok=True)
            with (self.models_dir / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                for model_type in MODEL_TYPE_NAMES:
                    self._link(model_type)

    def _link(self, model_type: ModelTypeName) -> None:
        link = self.models_dir / f"{model_type}_model"
        production = self._registry.production(model_type)
        if production is None:
            link.unlink(missing_ok=True)
            return
        if not self.folder(model_type, production.version_id).exists():
            self._restore_missing(production)
        target = os.path.join(model_type, production.version_id)  # noqa: PTH118  a relative link survives a move
        if link.is_symlink() and os.readlink(link) == target:  # noqa: PTH115  Path would normalise what is compared
            return
        fresh = self.models_dir / f".{model_type}_model.{os.getpid()}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target, target_is_directory=True)
        fresh.replace(link)

    def _restore_missing(self, version: ModelVersion) -> None:
        """Make a version's folder again from the database."""
        target = self.folder(version.model_type, version.version_id)
        names = [row.path for row in self._registry.files(version.version_id)]
        with self.staging() as staged:
            for name in names:
                data = self._registry.file_data(version.version_id, name)
                if data is None:
                    raise ArtifactError(
                        f"the files of '{version.version_id}' are gone: '{target}' is missing and the database does "
                        f"not hold '{name}'",
                        hint="Bring the folder back from a copy, or train a new version",
                    )
                _write_file(staged / name, data)
            with _writing(self.models_dir):
                target.parent.mkdir(parents=True, exist_ok=True)
                # What is left there is without a manifest: an empty or broken remainder, replaced as a whole.
                shutil.rmtree(target, ignore_errors=True)
                with suppress(FileExistsError):  # another process was faster with the same bytes
                    staged.rename(target)


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that a model's files depend on."""
    found = {}
    for library in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found[library] = version(library)
    return found


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
    with _writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(data)
            _sync(temporary)
            temporary.replace(path)
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
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            f"cannot write to '{folder}': {error.strerror}", hint="Check its rights and the free space"
        ) from error

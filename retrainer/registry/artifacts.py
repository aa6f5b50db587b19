"""Model files: written completely or not at all.

The folder of a version is a copy of what the database holds, restored where it is missing; see `model_files`.

Files are staged, recorded in the database, and only then moved into place. So whatever is in place without being in the
database is somebody else's, or belongs to another state of the database, and is never deleted.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from retrainer.errors import ArtifactError
from retrainer.files import exclusive_lock, files_in, report_write_errors, sync, write_files
from retrainer.registry.manifest import MANIFEST, find_version_folders, make_manifest
from retrainer.registry.model_files import (
    LOCK_FILE,
    OWNER_FILE,
    SET_ASIDE,
    ModelFiles,
    no_copy,
    require_plain_paths,
    sha256,
)
from retrainer.registry.refits import REFITS, NewRefit
from retrainer.registry.staging import STAGING, claim_abandoned, find_abandoned, open_staging
from retrainer.registry.tables import VersionFile
from retrainer.streams import DEFAULT_STREAM, ModelKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.refits import Refit
    from retrainer.registry.staging import Staging
    from retrainer.registry.tables import ModelVersion

log = logging.getLogger(__name__)

EVALUATIONS = "evaluations"  # the forecasts of a version's evaluations; not part of the model
MAX_BYTES_IN_DATABASE = 32 * 1024 * 1024
MODEL = "model"  # the folder of a new model while it is staged and has no version id yet


class Artifacts(ModelFiles):
    """The models folder."""

    @contextmanager
    def staging(self, model_type: ModelTypeName) -> Iterator[Staging]:
        """Provide an empty folder on the models folder's filesystem; it is removed at the end.

        Raises:
            ArtifactError: the models folder cannot be written.
            ConfigError: it belongs to another database.
        """
        with ExitStack() as stack:
            self._claim()
            with report_write_errors(self.models_dir, ArtifactError):
                self.require_no_links(self.models_dir / STAGING)
                staging = stack.enter_context(open_staging(self.models_dir, model_type))
            yield staging

    def stage_version(self, staging: Staging, version: ModelVersion, data: Mapping[str, bytes]) -> list[VersionFile]:
        """Add a manifest to the staged files of a new model and make them durable.

        Args:
            staging: its subfolder `model` has the files.
            version: the version that they are; it gets the hash of the manifest.
            data: what was read from the files, by path.

        Returns:
            The rows of the files for the database, with the content unless the version is too large.

        Raises:
            ArtifactError: the models folder cannot be written, or is full.
        """
        files = self._stage_model(staging, version, data)
        version.manifest_sha256 = files[-1].sha256
        return files

    def stage_refit(self, staging: Staging, version: ModelVersion, data: Mapping[str, bytes], refit: Refit) -> NewRefit:
        """Add a manifest to the staged files of a new live fit and make them durable.

        Args:
            staging: its subfolder `model` has the files.
            version: the version that it is a fit of.
            data: what was read from the files, by path.
            refit: describes it; the hash of the manifest is added.

        Raises:
            ArtifactError: the models folder cannot be written, or is full.
        """
        files = self._stage_model(staging, version, data, f"{refit.folder}/")
        return NewRefit(replace(refit, manifest_sha256=files[-1].sha256), files)

    def _stage_model(
        self, staging: Staging, version: ModelVersion, data: Mapping[str, bytes], prefix: str = ""
    ) -> list[VersionFile]:
        """Move a staged model to its path below the staging folder; return the rows of its files, the manifest last.

        Args:
            prefix: its path in the folder of the version.
        """
        model, version_id = staging.folder / MODEL, version.version_id
        require_plain_paths(data, version_id)
        self.require_no_links(self.folder(version.model_type, version_id) / prefix)
        with report_write_errors(self.models_dir, ArtifactError):
            manifest = make_manifest(version_id, data)
            (model / MANIFEST).write_bytes(manifest)
            written = [model / name for name in (*data, MANIFEST)]
            folders = {folder for path in written for folder in path.parents if folder.is_relative_to(model)}
            for path in (*written, *folders):
                sync(path)
            staged = staging.folder / version.model_type / version_id / prefix
            staged.parent.mkdir(parents=True)
            model.rename(staged)
        in_database = sum(map(len, data.values())) <= MAX_BYTES_IN_DATABASE
        files = [_row(version_id, prefix + name, content, keep=in_database) for name, content in data.items()]
        return [*files, _row(version_id, prefix + MANIFEST, manifest, keep=True)]

    def stage_forecasts(self, staging: Staging, version: ModelVersion, name: str, data: bytes) -> VersionFile:
        """Stage the forecasts of an evaluation; return their row for the database.

        Raises:
            ArtifactError: the models folder cannot be written, or is full.
        """
        path = f"{EVALUATIONS}/{name}"
        self._stage(staging, version, path, data)
        return _row(version.version_id, path, data, keep=True)

    def stage_files(self, staging: Staging, version: ModelVersion, files: Mapping[str, bytes]) -> list[VersionFile]:
        """Stage all files of a version, with its manifests; return their rows for the database.

        Args:
            files: their content, by plain relative path.

        Raises:
            ArtifactError: the models folder cannot be written, or is full.
        """
        target = self.folder(version.model_type, version.version_id)
        self.require_no_links(target)
        staged = staging.folder / target.relative_to(self.models_dir)
        with report_write_errors(self.models_dir, ArtifactError):
            write_files(files, staged)
            for path in [*staged.rglob("*"), staged]:
                sync(path)
        sizes: Counter[str] = Counter()  # of the fits, in bytes
        for name, data in files.items():
            sizes[_fit_of(name)] += len(data) if _is_of_model(name) else 0
        large = {name for name in files if _is_of_model(name) and sizes[_fit_of(name)] > MAX_BYTES_IN_DATABASE}
        return [_row(version.version_id, name, data, keep=name not in large) for name, data in files.items()]

    def publish(self, staging: Staging) -> None:
        """Move staged files, which the database knows by now, into place.

        Raises:
            ArtifactError: the models folder cannot be written. The next run moves the files that are left.
        """
        staging.registered = True
        with report_write_errors(self.models_dir, ArtifactError):
            self._move_into_place(staging.folder, files_in(staging.folder))

    def abandoned_staging_folders(self) -> list[Path]:
        """Return the staging folders of dead processes, including those that were not made yet.

        Raises:
            ArtifactError: a link is in the place of their parent.
        """
        self.require_no_links(self.models_dir / STAGING)
        return find_abandoned(self.models_dir)

    def clear_abandoned(self, folder: Path) -> None:
        """Move the files that the database knows from the staging folder of a dead process into place; remove the rest.

        Raises:
            ArtifactError: the models folder cannot be written.
        """
        self.require_own_folder()
        self.require_no_links(folder)
        with report_write_errors(self.models_dir, ArtifactError), claim_abandoned(folder) as model_type:
            if model_type is None:
                return
            recorded = [path for path in files_in(folder) if self._is_missing_file(path, path.relative_to(folder))]
            self._move_into_place(folder, recorded)
            left = [str(path.relative_to(folder)) for path in files_in(folder)]
            if left:
                reason = f"Removed '{folder.relative_to(self.models_dir)}' of a process that died: {', '.join(left)}"
                self._registry.record_files(ModelKey(DEFAULT_STREAM, model_type), "cleanup", reason)
                log.info("%s", reason)

    def unknown_versions(self, model_type: ModelTypeName) -> list[Path]:
        """Return the folders of complete versions that are not in the database.

        Raises:
            ArtifactError: a link is in the place of a folder.
        """
        parent = self.models_dir / model_type
        self.require_no_links(parent)
        found = find_version_folders(self.models_dir, model_type)
        known = self._registry.list_version_ids(model_type) if found else set()
        return [folder for folder in found if folder.name not in known]

    def set_aside(self, folder: Path) -> Path:
        """Move a version's folder into `.set-aside`, which nothing reads, beside what is there; return its new path.

        Raises:
            ArtifactError: the models folder cannot be written.
        """
        parent = self.models_dir / SET_ASIDE / folder.parent.name
        with self.lock():
            self.require_no_links(folder)
            self.require_no_links(parent)
            parent.mkdir(parents=True, exist_ok=True)
            target = _free_path(parent / folder.name)
            folder.rename(target)
        log.warning("Moved '%s' to '%s': the database does not know this version", folder, target)
        return target

    def pruned_versions_with_files(self, model_type: ModelTypeName) -> list[ModelVersion]:
        """Return the pruned versions some of whose files are still there, unchanged.

        Raises:
            ArtifactError: a link is in the place of a folder.
        """
        parent = self.models_dir / model_type
        self.require_no_links(parent)
        names = {path.name for path in parent.glob("*")}
        pruned = names & self._registry.list_version_ids(model_type, pruned=True) if names else set()
        versions = map(self._registry.get_version, sorted(pruned))
        return [version for version in versions if self.intact_files(version)]

    def remove_files(self, version: ModelVersion) -> None:
        """Remove the recorded files of a version and the folders that are empty then. What was changed or added stays.

        Raises:
            ArtifactError: one of them cannot be removed, or is behind a link.
        """
        folder = self.folder(version.model_type, version.version_id)
        self.require_own_folder()
        self.require_no_links(folder)
        paths = [folder / row.path for row in self._registry.list_files(version.version_id)]
        folders = {parent for path in paths for parent in path.parents if parent.is_relative_to(folder)}
        with report_write_errors(folder, ArtifactError):
            for path in self.intact_files(version):
                path.unlink()
            for empty in sorted(folders, reverse=True):
                with suppress(OSError):  # it is not empty
                    empty.rmdir()
        log.info("Removed the files of '%s'", version.version_id)
        kept = [str(path.relative_to(folder)) for path in files_in(folder)]
        if kept:
            log.warning("Kept files in '%s' that were changed or added: %s", folder, ", ".join(kept))

    def restore_file(self, version: ModelVersion, path: str) -> bool:
        """Write one of a version's files from the database. A changed file in its place is set aside.

        Returns:
            False if the database has no intact copy, or a link or folder is in its way.
        """
        (row,) = self.list_files(version, path)
        data = self._registry.read_file(version.version_id, path)
        target = self.folder(version.model_type, version.version_id) / path
        blocked = target.is_dir() or self.find_link(target) is not None
        if data is None or sha256(data) != row.sha256 or blocked:
            return False
        with self.staging(version.model_type_name) as staging:
            staged = self._stage(staging, version, path, data)
            if target.exists():
                self._set_aside_file(version, path)
            with report_write_errors(self.models_dir, ArtifactError):
                self._move_into_place(staging.folder, [staged])
        return True

    def _set_aside_file(self, version: ModelVersion, path: str) -> None:
        """Move one of a version's files into `.set-aside`, beside what is there."""
        source = self.folder(version.model_type, version.version_id) / path
        wanted = self.models_dir / SET_ASIDE / source.relative_to(self.models_dir)
        with self.lock():
            self.require_no_links(wanted)
            wanted.parent.mkdir(parents=True, exist_ok=True)
            target = _free_path(wanted)
            source.rename(target)
            sync(target.parent)
        reason = f"Moved '{path}' of '{version.version_id}', which was changed, to '{target}'"
        log.warning("%s", reason)
        self._registry.record_files(version.model_key, "set_aside", reason, version.version_id)

    def restore_missing_files(self, version: ModelVersion) -> None:
        for path, problem in self.find_file_problems(version).items():
            if problem == "missing" and not self.restore_file(version, path):
                raise no_copy(version, self.folder(version.model_type, version.version_id) / path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let one process at a time change the models folder."""
        lock_file = self.models_dir / LOCK_FILE
        with report_write_errors(self.models_dir, ArtifactError):
            self.models_dir.mkdir(parents=True, exist_ok=True)
            self.require_no_links(lock_file)
            with exclusive_lock(lock_file):
                self.require_own_folder()
                if self.find_owner() is None:
                    self._write_owner()
                yield

    def _claim(self) -> None:
        """Mark the models folder with the id of the database, unless it is marked."""
        self.require_own_folder()
        if self.find_owner() is None:
            with self.lock():
                pass

    def _write_owner(self) -> None:
        marker = self.models_dir / OWNER_FILE
        with open(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666), "wb") as file:  # noqa: PTH123
            file.write(f"{self._registry.database_id()}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        sync(self.models_dir)

    def _stage(self, staging: Staging, version: ModelVersion, path: str, data: bytes) -> Path:
        self.require_no_links(self.folder(version.model_type, version.version_id) / path)
        staged = staging.folder / version.model_type / version.version_id / path
        with report_write_errors(self.models_dir, ArtifactError):
            staged.parent.mkdir(parents=True)
            staged.write_bytes(data)
            sync(staged)
        return staged

    def _move_into_place(self, folder: Path, paths: list[Path]) -> None:
        """Move files of a staging folder to the same paths in the models folder, and make that durable."""
        changed = set()
        for path in paths:
            target = self.models_dir / path.relative_to(folder)
            self.require_no_links(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            changed |= {parent for parent in target.parents if parent.is_relative_to(self.models_dir)}
        for parent in sorted(changed, reverse=True):
            sync(parent)

    def _is_missing_file(self, staged: Path, path: Path) -> bool:
        """Whether a staged file is missing at its path, where the database knows it with this content."""
        if len(path.parts) < 3 or staged.is_symlink() or os.path.lexists(self.models_dir / path):  # noqa: PLR2004
            return False
        _, version_id, *names = path.parts
        rows = self._registry.list_files(version_id, ["/".join(names)])
        return bool(rows) and sha256(staged.read_bytes()) == rows[0].sha256


def _free_path(path: Path) -> Path:
    """Return a path, or the same with a number added if something is there."""
    names = itertools.chain([path.name], (f"{path.name}.{number}" for number in itertools.count(2)))
    return next(path.with_name(name) for name in names if not os.path.lexists(path.with_name(name)))


def _fit_of(path: str) -> str:
    """Return the folder of the fit that one of a version's files belongs to."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == REFITS else ""


def _is_of_model(path: str) -> bool:
    """Whether one of a version's files is neither a manifest nor the forecasts of an evaluation."""
    return not path.startswith(f"{EVALUATIONS}/") and path.removeprefix(f"{_fit_of(path)}/") != MANIFEST


def _row(version_id: str, path: str, data: bytes, *, keep: bool) -> VersionFile:
    return VersionFile(
        version_id=version_id, path=path, sha256=sha256(data), size=len(data), data=data if keep else None
    )

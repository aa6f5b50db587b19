"""Model files: written completely or not at all.

The files of a version are in a place (see `place`): the models folder, a copy of what the database holds, which is
restored where it is missing, or a store, which holds the only copy.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from retrainer.errors import ArtifactError
from retrainer.files import report_write_errors, write_files
from retrainer.registry.manifest import MANIFEST, make_manifest
from retrainer.registry.model_files import ModelFiles, no_copy
from retrainer.registry.place import require_plain_paths, sha256, version_path
from retrainer.registry.refits import REFITS, NewRefit
from retrainer.registry.tables import VersionFile
from retrainer.streams import DEFAULT_STREAM, ModelKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.refits import Refit
    from retrainer.registry.staging import Staging
    from retrainer.registry.tables import ModelVersion

log = logging.getLogger(__name__)

EVALUATIONS = "evaluations"  # the forecasts of a version's evaluations; not part of the model
MAX_BYTES_IN_DATABASE = 32 * 1024 * 1024
MODEL = "model"  # the folder of a new model while it is staged and has no version id yet


class Artifacts(ModelFiles):
    """The files of versions in their place, and how they get there."""

    @contextmanager
    def staging(self, model_type: ModelTypeName) -> Iterator[Staging]:
        """Provide an empty folder for new files; it is removed at the end.

        Raises:
            ArtifactError: the place of the model files cannot be written.
            ConfigError: it belongs to another database.
        """
        self._claim()
        with self.place.open_staging(model_type) as staging:
            yield staging

    def _claim(self) -> None:
        """Mark the place with the id of the database, unless it is marked."""
        owner = self.place.find_owner()
        if owner is not None and owner == self._compared_owner:
            return
        self.require_own_folder()
        if owner is None:
            self.place.claim()
            self.require_own_folder()  # another process may have been faster

    def stage_version(self, staging: Staging, version: ModelVersion, data: Mapping[str, bytes]) -> list[VersionFile]:
        """Add a manifest to the staged files of a new model and make them durable.

        Args:
            staging: its subfolder `model` has the files.
            version: the version that they are; it gets the hash of the manifest.
            data: what was read from the files, by path.

        Returns:
            The rows of the files for the database, with the content unless the version is too large.

        Raises:
            ArtifactError: the place of the model files cannot be written, or is full.
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
            ArtifactError: the place of the model files cannot be written, or is full.
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
        self.place.require_safe(version_path(version, prefix))
        manifest = make_manifest(version_id, data)
        files = {prefix + name: content for name, content in {**data, MANIFEST: manifest}.items()}
        with report_write_errors(staging.folder, ArtifactError):
            (model / MANIFEST).write_bytes(manifest)
            staged = staging.folder / version_path(version, prefix)
            staged.parent.mkdir(parents=True)
            model.rename(staged)
        self.place.prepare(staging, prefix, version, files)
        return self._rows(version, files)

    def stage_forecasts(self, staging: Staging, version: ModelVersion, name: str, data: bytes) -> VersionFile:
        """Stage the forecasts of an evaluation; return their row for the database.

        Raises:
            ArtifactError: the place of the model files cannot be written, or is full.
        """
        path = f"{EVALUATIONS}/{name}"
        self._stage(staging, path, version, {path: data})
        (row,) = self._rows(version, {path: data})
        return row

    def stage_files(self, staging: Staging, version: ModelVersion, files: Mapping[str, bytes]) -> list[VersionFile]:
        """Stage all files of a version, with its manifests; return their rows for the database.

        Args:
            files: their content, by plain relative path.

        Raises:
            ArtifactError: the place of the model files cannot be written, or is full.
        """
        self._stage(staging, "", version, files)
        return self._rows(version, files)

    def _stage(self, staging: Staging, name: str, version: ModelVersion, files: Mapping[str, bytes]) -> None:
        for path in files:
            self.place.require_safe(version_path(version, path))
        with report_write_errors(staging.folder, ArtifactError):
            write_files(files, staging.folder / version_path(version))
        self.place.prepare(staging, name, version, files)

    def _rows(self, version: ModelVersion, files: Mapping[str, bytes]) -> list[VersionFile]:
        """Return the rows of files for the database, without the content of what it does not hold a copy of."""
        sizes = {path: len(data) for path, data in files.items()}
        large = set(files) if self.place.keeps_only_copy else too_large_for_database(sizes)
        return [
            VersionFile(
                version_id=version.version_id,
                path=path,
                sha256=sha256(data),
                size=len(data),
                data=None if path in large else data,
            )
            for path, data in files.items()
        ]

    def publish(self, staging: Staging) -> None:
        """Move staged files, which the database knows by now, into place.

        Raises:
            ArtifactError: the models folder cannot be written. The next run moves the files that are left.
        """
        self.place.publish(staging)

    def find_abandoned(self) -> list[str]:
        """Return what dead processes left, for people to read.

        Raises:
            ArtifactError: the place of the model files cannot be read.
        """
        return self.place.find_abandoned()

    def clear_abandoned(self) -> None:
        """Move what dead processes left into place where the database knows it; remove the rest.

        Raises:
            ArtifactError: the place of the model files cannot be written.
        """
        self.require_own_folder()
        for model_type, reason in self.place.clear_abandoned():
            self._registry.record_files(ModelKey(DEFAULT_STREAM, model_type), "cleanup", reason)
            log.info("%s", reason)

    def unknown_versions(self, model_type: ModelTypeName) -> list[str]:
        """Return the ids of complete versions that are not in the database.

        Raises:
            ArtifactError: a link is in the place of a folder, or the place cannot be read.
        """
        return self.place.find_unknown_versions(model_type)

    def set_aside(self, model_type: ModelTypeName, version_id: str) -> str:
        """Move a version's folder into `.set-aside`, which nothing reads, beside what is there; return its new path.

        Raises:
            ArtifactError: the place of the model files cannot be written.
        """
        path = f"{model_type}/{version_id}"
        target = self.place.set_aside(path)
        log.warning("Moved '%s' to '%s': the database does not know this version", self.place.locate(path), target)
        return target

    def pruned_versions_with_files(self, model_type: ModelTypeName) -> list[ModelVersion]:
        """Return the pruned versions some of whose files are still there, unchanged.

        Raises:
            ArtifactError: a link is in the place of a folder.
        """
        names = set(self.place.list_names(model_type))
        pruned = names & self._registry.list_version_ids(model_type, pruned=True) if names else set()
        versions = map(self._registry.get_version, sorted(pruned))
        return [version for version in versions if self.intact_files(version)]

    def remove_files(self, version: ModelVersion) -> None:
        """Remove the recorded files of a version and the folders that are empty then. What was changed or added stays.

        Raises:
            ArtifactError: one of them cannot be removed, or is behind a link.
        """
        self.require_own_folder()
        self.place.require_safe(version_path(version))
        kept = self.place.remove(version, self.intact_files(version))
        log.info("Removed the files of '%s'", version.version_id)
        if kept:
            folder = self.place.locate(version_path(version))
            log.warning("Kept files in '%s' that were changed or added: %s", folder, ", ".join(kept))

    def restore_file(self, version: ModelVersion, path: str) -> bool:
        """Write one of a version's files from a copy, in the database or on this machine. A changed one is set aside.

        Returns:
            False if there is no intact copy, or a link or folder is in its way.
        """
        (row,) = self.list_files(version, path)
        data = self._registry.read_file(version.version_id, path)
        if data is None:
            data = self.place.find_copy(row.sha256)
        if data is None or sha256(data) != row.sha256:
            return False
        self._claim()
        try:
            aside = self.place.put(version, path, data)
        except FileExistsError:
            return False
        if aside is not None:
            reason = f"Moved '{path}' of '{version.version_id}', which was changed, to '{aside}'"
            log.warning("%s", reason)
            self._registry.record_files(version.model_key, "set_aside", reason, version.version_id)
        return True

    def restore_missing_files(self, version: ModelVersion) -> None:
        for path, problem in self.find_file_problems(version).items():
            if problem == "missing" and not self.restore_file(version, path):
                raise no_copy(version, self.place.locate(version_path(version, path)))


def too_large_for_database(sizes: Mapping[str, int]) -> set[str]:
    """Return the paths of a version's files that belong to a fit of more than 32 MB.

    Args:
        sizes: the sizes in bytes, by path.
    """
    totals: Counter[str] = Counter()
    for path, size in sizes.items():
        totals[_fit_of(path)] += size if _is_of_model(path) else 0
    return {path for path in sizes if _is_of_model(path) and totals[_fit_of(path)] > MAX_BYTES_IN_DATABASE}


def _fit_of(path: str) -> str:
    """Return the folder of the fit that one of a version's files belongs to."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == REFITS else ""


def _is_of_model(path: str) -> bool:
    """Whether one of a version's files is neither a manifest nor the forecasts of an evaluation."""
    return not path.startswith(f"{EVALUATIONS}/") and path.removeprefix(f"{_fit_of(path)}/") != MANIFEST

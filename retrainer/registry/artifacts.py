"""Model files: written completely or not at all, verified before they are read.

A version is a folder `models/<type>/<version_id>/` of plain-data files and a `manifest.json` with the SHA-256 of each.
The hash of the manifest is in the database, and so are the files (up to 32 MB): the folder is a copy, restored where it
is missing. `models/timing_model` and `models/content_model` are links to the production versions.

Files are staged, recorded in the database, and only then moved into place. So whatever is in place without being in the
database is somebody else's, or belongs to another state of the database, and is never deleted.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from retrainer.errors import ArtifactError
from retrainer.files import exclusive_lock, files_in, open_within, sync
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry.manifest import MANIFEST, find_version_folders
from retrainer.registry.staging import STAGING, claim_abandoned, find_abandoned, open_staging
from retrainer.registry.tables import VersionFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.registry import Registry
    from retrainer.registry.staging import Staging
    from retrainer.registry.tables import ModelVersion

log = logging.getLogger(__name__)

EVALUATIONS = "evaluations"  # the forecasts of a version's evaluations; not part of the model
FORMAT = 1
MAX_BYTES_IN_DATABASE = 32 * 1024 * 1024
MODEL = "model"  # the folder of a new model while it is staged and has no version id yet
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

    def require_no_links(self, path: Path) -> None:
        """Refuse a symbolic link in the place of a file or folder in the models folder: it may lead anywhere.

        Raises:
            ArtifactError: the path or a folder above it, up to the models folder, is one.
        """
        link = self._find_link(path)
        if link is not None:
            raise ArtifactError(
                f"'{link}' is a symbolic link",
                hint="Replace it by what it points to; only the models folder may be one",
            )

    @contextmanager
    def staging(self, model_type: ModelTypeName) -> Iterator[Staging]:
        """Provide an empty folder on the models folder's filesystem; it is removed at the end.

        Raises:
            ArtifactError: the models folder cannot be written.
        """
        with ExitStack() as stack:
            with report_write_errors(self.models_dir):
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
        model, version_id = staging.folder / MODEL, version.version_id
        require_plain_paths(data, version_id)
        self.require_no_links(self.folder(version.model_type, version_id))
        with report_write_errors(self.models_dir):
            manifest = _manifest(version_id, data)
            (model / MANIFEST).write_bytes(manifest)
            for name in (*data, MANIFEST):
                sync(model / name)
            sync(model)
            staged = staging.folder / version.model_type / version_id
            staged.parent.mkdir()
            model.rename(staged)
        in_database = sum(map(len, data.values())) <= MAX_BYTES_IN_DATABASE
        files = [_row(version_id, name, content, keep=in_database) for name, content in data.items()]
        files.append(_row(version_id, MANIFEST, manifest, keep=True))
        version.manifest_sha256 = files[-1].sha256
        return files

    def stage_forecasts(self, staging: Staging, version: ModelVersion, name: str, data: bytes) -> VersionFile:
        """Stage the forecasts of an evaluation; return their row for the database.

        Raises:
            ArtifactError: the models folder cannot be written, or is full.
        """
        path = f"{EVALUATIONS}/{name}"
        self._stage(staging, version, path, data)
        return _row(version.version_id, path, data, keep=True)

    def publish(self, staging: Staging) -> None:
        """Move staged files, which the database knows by now, into place.

        Raises:
            ArtifactError: the models folder cannot be written. The next run moves the files that are left.
        """
        staging.registered = True
        with report_write_errors(self.models_dir):
            self._move_into_place(staging.folder, files_in(staging.folder))

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
        """Point `timing_model` and `content_model` to the production versions, and restore files that these lack.

        Each call reads the production versions under a lock on the models folder, so whichever of several processes
        comes last sets the right links.

        Raises:
            ArtifactError: the models folder cannot be written, or something else has the name of a link.
        """
        self.set_links()
        for model_type in MODEL_TYPE_NAMES:
            production = self._registry.get_production(model_type)
            if production is not None:
                self._restore_missing_files(production)

    def set_links(self) -> None:
        """Point `timing_model` and `content_model` to the production versions.

        Raises:
            ArtifactError: the models folder cannot be written, or something else has the name of a link.
        """
        with self._lock():
            for model_type in MODEL_TYPE_NAMES:
                self._link(model_type)

    def require_free_links(self) -> None:
        """Check that nothing of the user has the name of a link to a production version.

        Raises:
            ArtifactError: a file, a folder or another link has.
        """
        for model_type in MODEL_TYPE_NAMES:
            _require_free(self.models_dir / f"{model_type}_model", model_type)

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
        self.require_no_links(folder)
        with report_write_errors(self.models_dir), claim_abandoned(folder) as model_type:
            if model_type is None:
                return
            recorded = [path for path in files_in(folder) if self._is_missing_file(path, path.relative_to(folder))]
            self._move_into_place(folder, recorded)
            left = [str(path.relative_to(folder)) for path in files_in(folder)]
            if left:
                reason = f"Removed '{folder.relative_to(self.models_dir)}' of a process that died: {', '.join(left)}"
                self._registry.record_cleanup(model_type, reason)
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
        parent = self.models_dir / _SET_ASIDE / folder.parent.name
        with self._lock():
            self.require_no_links(folder)
            self.require_no_links(parent)
            parent.mkdir(parents=True, exist_ok=True)
            names = itertools.chain([folder.name], (f"{folder.name}.{number}" for number in itertools.count(2)))
            target = next(parent / name for name in names if not os.path.lexists(parent / name))
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
        return [version for version in versions if self._intact_files(version)]

    def remove_files(self, version: ModelVersion) -> None:
        """Remove the recorded files of a version and the folders that are empty then. What was changed or added stays.

        Raises:
            ArtifactError: one of them cannot be removed, or is behind a link.
        """
        folder = self.folder(version.model_type, version.version_id)
        self.require_no_links(folder)
        paths = [folder / row.path for row in self._registry.list_files(version.version_id)]
        folders = {parent for path in paths for parent in path.parents if parent.is_relative_to(folder)}
        with report_write_errors(folder):
            for path in self._intact_files(version):
                path.unlink()
            for empty in sorted(folders, reverse=True):
                with suppress(OSError):  # it is not empty
                    empty.rmdir()
        log.info("Removed the files of '%s'", version.version_id)
        kept = [str(path.relative_to(folder)) for path in files_in(folder)]
        if kept:
            log.warning("Kept files in '%s' that were changed or added: %s", folder, ", ".join(kept))

    def size_on_disk(self, version: ModelVersion) -> int:
        """Return the size in bytes of the files that `remove_files` would remove."""
        return sum(path.stat().st_size for path in self._intact_files(version))

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
        """Write one of a version's files from the database.

        Returns:
            False if the database has no intact copy, or a link or folder is in its way.
        """
        (row,) = self._list_files(version, path)
        data = self._registry.read_file(version.version_id, path)
        target = self.folder(version.model_type, version.version_id) / path
        blocked = target.is_dir() or self._find_link(target) is not None
        if data is None or _sha256(data) != row.sha256 or blocked:
            return False
        with self.staging(version.model_type_name) as staging:
            staged = self._stage(staging, version, path, data)
            with report_write_errors(self.models_dir):
                self._move_into_place(staging.folder, [staged])
        return True

    def find_link_problem(self, model_type: ModelTypeName) -> str | None:
        """Describe what is wrong with a type's production link; None if it is right."""
        link = self.models_dir / f"{model_type}_model"
        production = self._registry.get_production(model_type)
        if production is None:
            is_own = link.is_symlink() and _is_own_link(link, model_type)
            return "it exists, but there is no production version" if is_own else None
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
        require_plain_paths((row.path for row in rows), version.version_id)
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

    def _intact_files(self, version: ModelVersion) -> list[Path]:
        folder = self.folder(version.model_type, version.version_id)
        problems = self.find_file_problems(version)
        rows = self._registry.list_files(version.version_id)
        return [folder / row.path for row in rows if row.path not in problems]

    def _find_link(self, path: Path) -> Path | None:
        """Return the first part of a path below the models folder that is a symbolic link."""
        below = [path, *path.parents][: len(path.relative_to(self.models_dir).parts)]
        return next((part for part in reversed(below) if part.is_symlink()), None)

    def _stage(self, staging: Staging, version: ModelVersion, path: str, data: bytes) -> Path:
        self.require_no_links(self.folder(version.model_type, version.version_id) / path)
        staged = staging.folder / version.model_type / version.version_id / path
        with report_write_errors(self.models_dir):
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
        return bool(rows) and _sha256(staged.read_bytes()) == rows[0].sha256

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Let one process at a time change the models folder."""
        lock_file = self.models_dir / ".lock"
        with report_write_errors(self.models_dir):
            self.models_dir.mkdir(parents=True, exist_ok=True)
            self.require_no_links(lock_file)
            with exclusive_lock(lock_file):
                yield

    def _link(self, model_type: ModelTypeName) -> None:
        link = self.models_dir / f"{model_type}_model"
        production = self._registry.get_production(model_type)
        if self.find_link_problem(model_type) is None:
            return
        _require_free(link, model_type)
        if production is None:
            link.unlink()
            reason = f"Removed the link '{link.name}': there is no production version"
            log.info("%s", reason)
            self._registry.record_cleanup(model_type, reason)
            return
        with self.staging(model_type) as staging:
            new_link = staging.folder / link.name
            new_link.symlink_to(_link_target(production), target_is_directory=True)
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


def _require_free(link: Path, model_type: str) -> None:
    if link.exists() and not link.is_symlink():
        kind = "folder" if link.is_dir() else "file"
        raise ArtifactError(f"cannot link '{link}': it is a {kind}", hint="Move it away")
    if link.is_symlink() and not _is_own_link(link, model_type):
        raise ArtifactError(f"cannot link '{link}': it is a link to '{link.readlink()}'", hint="Move it away")


def _no_copy(version: ModelVersion, path: Path) -> ArtifactError:
    return ArtifactError(
        f"cannot repair '{version.version_id}': '{path}' is missing and there is no copy in the database",
        hint="Restore it from a backup, or train a new version",
    )


def _link_target(version: ModelVersion) -> str:
    return f"{version.model_type}/{version.version_id}"  # relative, so that it survives a move of the folder


def _is_own_link(link: Path, model_type: str) -> bool:
    target = link.readlink()
    return len(target.parts) == 2 and target.parts[0] == model_type  # noqa: PLR2004  as in `_link_target`


def _manifest(version_id: str, data: Mapping[str, bytes]) -> bytes:
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


def require_plain_paths(paths: Iterable[str], version_id: str) -> None:
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

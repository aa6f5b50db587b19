"""Versions in a folder on a disk: a verified copy of what the database holds, unless a version is too large for it.

Files are staged, recorded in the database, and only then moved into place. So whatever is in place without being in the
database is somebody else's, or belongs to another state of the database, and is never deleted. No link below the folder
is followed.
"""

from __future__ import annotations

import itertools
import os
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from retrainer.errors import ArtifactError
from retrainer.files import exclusive_lock, files_in, open_within, report_write_errors, sync
from retrainer.registry.manifest import is_version_folder
from retrainer.registry.place import (
    LOCK_FILE,
    OWNER_FILE,
    SET_ASIDE,
    modified,
    parse_owner,
    require_own,
    sha256,
    version_path,
)
from retrainer.registry.staging import STAGING, claim_abandoned, find_abandoned, open_staging

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.registry import Registry
    from retrainer.registry.staging import Staging
    from retrainer.registry.tables import ModelVersion, VersionFile


class FolderPlace:
    """The models folder."""

    keeps_only_copy = False
    repair_hint = "It was not loaded. Delete the version's folder to restore it from the database"

    def __init__(self, folder: Path, registry: Registry) -> None:
        self.folder = folder
        self._registry = registry

    def locate(self, path: str = "") -> str:
        """Return where a path is."""
        return str(self.folder / path)

    def require_safe(self, path: str) -> None:
        """Refuse a symbolic link in the place of a file or folder in the models folder: it may lead anywhere.

        Raises:
            ArtifactError: the path or a folder above it, up to the models folder, is one.
        """
        link = self._find_link(path)
        if link is not None:
            raise ArtifactError(
                f"'{link}' is a symbolic link",
                hint="Replace it with what it points to; only the models folder may be one",
            )

    def find_owner(self) -> str | None:
        """Return the id of the database that the models folder belongs to; None if it belongs to none yet.

        Raises:
            ArtifactError: it cannot be read.
        """
        try:
            with open_within(self.folder, [OWNER_FILE]) as file:
                content = file.read(100)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ArtifactError(f"cannot read '{self.folder / OWNER_FILE}': {error.strerror}") from error
        return parse_owner(content)  # half a line is of a killed process

    def claim(self) -> None:
        """Mark the models folder with the id of the database."""
        with self.lock():
            pass

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let one process at a time change the models folder.

        Raises:
            ArtifactError: it cannot be written.
            ConfigError: it belongs to another database.
        """
        lock_file = self.folder / LOCK_FILE
        with report_write_errors(self.folder, ArtifactError):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.require_safe(LOCK_FILE)
            with exclusive_lock(lock_file):
                require_own(self, self._registry)
                if self.find_owner() is None:
                    self._write_owner()
                yield

    def _write_owner(self) -> None:
        marker = self.folder / OWNER_FILE
        with open(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666), "wb") as file:  # noqa: PTH123
            file.write(f"{self._registry.database_id()}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        sync(self.folder)

    def read(
        self,
        version: ModelVersion,
        rows: Sequence[VersionFile],
        *,
        cached: bool,  # noqa: ARG002  there is no faster copy
    ) -> Iterator[tuple[VersionFile, bytes | Exception]]:
        """Read files of a version, each opened once."""
        for row in rows:
            try:
                yield row, self._read(version, row)
            except (FileNotFoundError, ArtifactError) as error:
                yield row, error

    def _read(self, version: ModelVersion, row: VersionFile) -> bytes:
        """Read one of a version's files.

        Raises:
            FileNotFoundError: it is missing.
            ArtifactError: it has another size, cannot be read, or is a link or no regular file.
        """
        version_id = version.version_id
        try:
            with open_within(self.folder, PurePosixPath(version_path(version, row.path)).parts) as file:
                size = os.fstat(file.fileno()).st_size
                if size != row.size:
                    difference = f"it has {size} bytes, recorded were {row.size}"
                    raise modified(row.path, version_id, difference, self.repair_hint)
                return file.read(row.size + 1)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ArtifactError(
                f"cannot read '{row.path}' of '{version_id}': {error.strerror}",
                hint=f"Check '{self.locate(version_path(version))}'",
            ) from error

    def find_copy(self, sha256: str) -> bytes | None:  # noqa: ARG002
        """Return None: there is no cache."""
        return None

    def find_sizes(self, version: ModelVersion) -> dict[str, int]:
        """Return the sizes in bytes of a version's files, by path in its folder."""
        folder = self.folder / version_path(version)
        return {path.relative_to(folder).as_posix(): path.lstat().st_size for path in files_in(folder)}

    @contextmanager
    def open_staging(self, model_type: ModelTypeName) -> Iterator[Staging]:
        """Provide an empty folder on the models folder's filesystem; it is removed at the end."""
        with ExitStack() as stack:
            with report_write_errors(self.folder, ArtifactError):
                self.require_safe(STAGING)
                staging = stack.enter_context(open_staging(self.folder, model_type))
            yield staging

    def prepare(
        self,
        staging: Staging,
        name: str,  # noqa: ARG002  each staging folder is of its own
        version: ModelVersion,
        files: Mapping[str, bytes],
    ) -> None:
        """Make staged files durable."""
        folder = staging.folder / version_path(version)
        written = [folder / path for path in files]
        folders = {parent for path in written for parent in path.parents if parent.is_relative_to(folder)}
        with report_write_errors(self.folder, ArtifactError):
            for path in (*written, *folders):
                sync(path)

    def publish(self, staging: Staging) -> None:
        """Move staged files into place."""
        staging.registered = True
        with report_write_errors(self.folder, ArtifactError):
            self._move_into_place(staging.folder, files_in(staging.folder))

    def find_abandoned(self) -> list[str]:
        """Return the staging folders of dead processes."""
        self.require_safe(STAGING)
        return [str(folder) for folder in find_abandoned(self.folder) if folder.exists()]

    def clear_abandoned(self) -> Iterator[tuple[ModelTypeName, str]]:
        """Move the files that the database knows from the staging folders of dead processes; remove the rest."""
        self.require_safe(STAGING)
        for folder in find_abandoned(self.folder):
            self.require_safe(folder.relative_to(self.folder).as_posix())
            with report_write_errors(self.folder, ArtifactError), claim_abandoned(folder) as model_type:
                if model_type is None:
                    continue
                recorded = [path for path in files_in(folder) if self._is_missing_file(path, path.relative_to(folder))]
                self._move_into_place(folder, recorded)
                left = [str(path.relative_to(folder)) for path in files_in(folder)]
                if left:
                    place = folder.relative_to(self.folder)
                    yield model_type, f"Removed '{place}' of a process that died: {', '.join(left)}"

    def _is_missing_file(self, staged: Path, path: Path) -> bool:
        """Whether a staged file is missing at its path, where the database knows it with this content."""
        if len(path.parts) < 3 or staged.is_symlink() or os.path.lexists(self.folder / path):  # noqa: PLR2004
            return False
        _, version_id, *names = path.parts
        rows = self._registry.list_files(version_id, ["/".join(names)])
        return bool(rows) and sha256(staged.read_bytes()) == rows[0].sha256

    def list_names(self, model_type: ModelTypeName) -> list[str]:
        self.require_safe(model_type)
        return [path.name for path in (self.folder / model_type).glob("*")]

    def find_unknown_versions(self, model_type: ModelTypeName) -> list[str]:
        """Return the ids of complete versions that the database does not know."""
        self.require_safe(model_type)
        names = set(self.list_names(model_type))
        unknown = names - self._registry.list_version_ids(model_type) if names else names
        return [name for name in sorted(unknown) if is_version_folder(self.folder, model_type, name)]

    def set_aside(self, path: str) -> str:
        """Move a file or folder into `.set-aside`, beside what is there."""
        source, wanted = self.folder / path, self.folder / SET_ASIDE / path
        with self.lock():
            self.require_safe(path)
            self.require_safe(f"{SET_ASIDE}/{path}")
            wanted.parent.mkdir(parents=True, exist_ok=True)
            target = _free_path(wanted)
            source.rename(target)
            sync(target.parent)
        return str(target)

    def remove(self, version: ModelVersion, paths: Iterable[str]) -> list[str]:
        """Remove files of a version and the folders that are empty then."""
        folder = self.folder / version_path(version)
        self.require_safe(version_path(version))
        recorded = [folder / row.path for row in self._registry.list_files(version.version_id)]
        folders = {parent for path in recorded for parent in path.parents if parent.is_relative_to(folder)}
        with report_write_errors(folder, ArtifactError):
            for path in paths:
                (folder / path).unlink()
            for empty in sorted(folders, reverse=True):
                with suppress(OSError):  # it is not empty
                    empty.rmdir()
        return [str(path.relative_to(folder)) for path in files_in(folder)]

    def put(self, version: ModelVersion, path: str, data: bytes) -> str | None:
        """Write a recorded file. A changed file in its place is set aside."""
        target = self.folder / version_path(version, path)
        if target.is_dir() or self._find_link(version_path(version, path)) is not None:
            raise FileExistsError(target)
        with self.open_staging(version.model_type_name) as staging:
            staged = staging.folder / version_path(version, path)
            with report_write_errors(self.folder, ArtifactError):
                staged.parent.mkdir(parents=True)
                staged.write_bytes(data)
                sync(staged)
            aside = self.set_aside(version_path(version, path)) if target.exists() else None
            with report_write_errors(self.folder, ArtifactError):
                self._move_into_place(staging.folder, [staged])
        return aside

    def _move_into_place(self, folder: Path, paths: list[Path]) -> None:
        """Move files of a staging folder to the same paths in the models folder, and make that durable."""
        changed = set()
        for path in paths:
            name = path.relative_to(folder)
            target = self.folder / name
            self.require_safe(name.as_posix())
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            changed |= {parent for parent in target.parents if parent.is_relative_to(self.folder)}
        for parent in sorted(changed, reverse=True):
            sync(parent)

    def _find_link(self, path: str) -> Path | None:
        """Return the first part of a path that is a symbolic link."""
        parts = PurePosixPath(path).parts
        below = (self.folder.joinpath(*parts[: count + 1]) for count in range(len(parts)))
        return next((part for part in below if part.is_symlink()), None)


def _free_path(path: Path) -> Path:
    """Return a path, or the same with a number added if something is there."""
    names = itertools.chain([path.name], (f"{path.name}.{number}" for number in itertools.count(2)))
    return next(path.with_name(name) for name in names if not os.path.lexists(path.with_name(name)))

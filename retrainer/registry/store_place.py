"""Versions in a store: an object a file, at the path that it would have in a models folder.

The database holds the hashes of the files and no copy of them. A version's files are uploaded before the transaction
that records it, so it is whole from then on; what was uploaded and not recorded is nobody's version. Files are read
through a cache on this machine.
"""

from __future__ import annotations

import itertools
import logging
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from retrainer.errors import ArtifactError, RetrainerError
from retrainer.files import files_in, report_write_errors
from retrainer.registry.file_cache import FileCache
from retrainer.registry.manifest import MANIFEST, is_manifest_of
from retrainer.registry.place import OWNER_FILE, SET_ASIDE, parse_owner, sha256, version_path
from retrainer.registry.staging import claim_abandoned, find_abandoned, open_staging
from retrainer.registry.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.registry import Registry
    from retrainer.registry.staging import Staging
    from retrainer.registry.store import Store
    from retrainer.registry.tables import ModelVersion, VersionFile
    from retrainer.registry.uploads import Upload

log = logging.getLogger(__name__)

_CACHE = "cache"  # the folder of the cache in the local folder


class StorePlace:
    """A store, with a local folder for its cache and for files that are about to be uploaded."""

    keeps_only_copy = True
    repair_hint = "It was not loaded. `retrainer doctor --repair` restores it if this machine has a copy"

    def __init__(self, store: Store, local_folder: Path, registry: Registry) -> None:
        self._store = store
        self._local = local_folder
        self._registry = registry
        self._cache = FileCache(local_folder / _CACHE)
        self._uploads = Uploads(store, registry)
        self._owner: str | None = None

    def locate(self, path: str = "") -> str:
        """Return the URL of a path."""
        return self._store.url(path) if path else self._store.root_url

    def require_safe(self, path: str) -> None:
        """A store has no links that could lead elsewhere."""

    def find_owner(self) -> str | None:
        """Return the id of the database that the store belongs to; None if it belongs to none yet."""
        if self._owner is None:  # it is asked for by every command, and never changes but by hand
            with suppress(FileNotFoundError):
                self._owner = parse_owner(self._store.read(OWNER_FILE))
        return self._owner

    def claim(self) -> None:
        """Mark the store with the id of the database."""
        with suppress(FileExistsError):  # another process was faster, perhaps for another database
            self._store.create(OWNER_FILE, f"{self._registry.database_id()}\n".encode())

    def read(
        self, version: ModelVersion, rows: Sequence[VersionFile], *, cached: bool
    ) -> Iterator[tuple[VersionFile, bytes | Exception]]:
        """Read files of a version, those that are not in the cache all at once."""
        missing = {}
        for row in rows:
            data = self._cache.get(row.sha256) if cached else None
            if data is None:
                missing[version_path(version, row.path)] = row
            else:
                yield row, data
        for key, found in self._store.read_all(missing).items():
            row = missing[key]
            if isinstance(found, bytes) and sha256(found) == row.sha256:
                self._cache.add(row.sha256, found)
            yield row, found

    def find_copy(self, sha256: str) -> bytes | None:
        """Return a file with this hash from the cache."""
        return self._cache.get(sha256)

    def find_sizes(self, version: ModelVersion) -> dict[str, int]:
        """Return the sizes in bytes of what is stored of a version, by path."""
        folder = version_path(version)
        return {key.removeprefix(f"{folder}/"): size for key, size in self._store.find(folder).items()}

    @contextmanager
    def open_staging(self, model_type: ModelTypeName) -> Iterator[Staging]:
        """Provide an empty local folder; remove it, and what was uploaded from it but not recorded, at the end."""
        with ExitStack() as stack:
            with report_write_errors(self._local, ArtifactError):
                staging = stack.enter_context(open_staging(self._local, model_type))
            try:
                yield staging
            finally:
                for upload in staging.uploads:
                    self._end(upload, is_recorded=staging.registered)
                staging.registered = False  # the local files are no longer needed

    def _end(self, upload: Upload, *, is_recorded: bool) -> None:
        """End an upload that was not published. What cannot be removed now is left to the next run."""
        try:
            if not is_recorded:
                self._uploads.clear(upload)
        except RetrainerError as error:
            log.debug("Left to the next run: %s", error)
        finally:
            self._uploads.give_up(upload)

    def prepare(self, staging: Staging, name: str, version: ModelVersion, files: Mapping[str, bytes]) -> None:
        """Upload staged files of a version; its manifest comes last."""
        full_name = ".".join((version.version_id, *name.split("/"))).rstrip(".")
        upload = self._uploads.start(full_name, version.model_type_name, version.version_id, list(files))
        try:
            for path in sorted(files, key=lambda path: path.rpartition("/")[2] == MANIFEST):
                self._store.write(version_path(version, path), files[path])
        except BaseException:  # a request that failed here may still be carried out: the next run removes the object
            self._uploads.give_up(upload)
            raise
        staging.uploads.append(upload)

    def publish(self, staging: Staging) -> None:
        """End the upload of files that the database knows by now, and move the local ones to the cache."""
        for path in files_in(staging.folder):
            data = path.read_bytes()
            self._cache.add(sha256(data), data)
        for upload in staging.uploads:
            try:
                self._uploads.finish(upload)
            except ArtifactError as error:  # the version is whole; the next run removes the announcement
                log.debug("Left to the next run: %s", error)
        staging.uploads.clear()

    def find_abandoned(self) -> list[str]:
        """Return the local folders, and the announcements of uploads, that dead processes left."""
        folders = [str(folder) for folder in find_abandoned(self._local) if folder.exists()]
        return [*folders, *(self.locate(upload.key) for upload in self._uploads.list() if upload.is_abandoned())]

    def clear_abandoned(self) -> Iterator[tuple[ModelTypeName, str]]:
        """Remove what dead processes uploaded and did not record."""
        for folder in find_abandoned(self._local):
            with report_write_errors(self._local, ArtifactError), claim_abandoned(folder):
                pass  # nothing in it is needed
        for upload in self._uploads.list():
            if upload.is_abandoned() and self._uploads.get(upload) == upload:
                removed = self._uploads.clear(upload)
                if removed:
                    process = f"the process {upload.process.pid} on '{upload.process.host}'"
                    yield upload.model_type, f"Removed what {process} uploaded and did not record: {', '.join(removed)}"

    def list_names(self, model_type: ModelTypeName) -> list[str]:
        """Return the names of the version folders, complete or not."""
        return self._store.list_names(model_type)

    def find_unknown_versions(self, model_type: ModelTypeName) -> list[str]:
        """Return the ids of complete versions that the database does not know and that nobody is uploading."""
        names = set(self.list_names(model_type))
        names -= {upload.version_id for upload in self._uploads.list()}  # first: it is recorded before it ends
        names -= self._registry.list_version_ids(model_type) if names else set()
        keys = {f"{model_type}/{name}/{MANIFEST}": name for name in sorted(names)}
        found = self._store.read_all(keys)
        return [name for key, name in keys.items() if is_manifest_of(name, found[key])]

    def set_aside(self, path: str) -> str:
        """Move a file, or a folder with everything in it, into `.set-aside`; return where it is then."""
        found = self._store.find(path) or [path]
        wanted = f"{SET_ASIDE}/{path}"
        names = itertools.chain([wanted], (f"{wanted}.{number}" for number in itertools.count(2)))
        target = next(name for name in names if not self._store.exists(name))
        for key in sorted(found):
            self._store.move(key, target + key.removeprefix(path))
        return self.locate(target)

    def remove(self, version: ModelVersion, paths: Iterable[str]) -> list[str]:
        """Remove files of a version; return the paths of those that are left."""
        self._store.remove(version_path(version, path) for path in paths)
        return sorted(self.find_sizes(version))

    def put(self, version: ModelVersion, path: str, data: bytes) -> str | None:
        """Write a recorded file. A changed one in its place is set aside."""
        key = version_path(version, path)
        aside = self.set_aside(key) if self._store.exists(key) else None
        self._store.write(key, data)
        return aside

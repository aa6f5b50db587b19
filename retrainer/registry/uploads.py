"""Uploads to a store, and how to tell those of a dead process from those in progress.

Before its first object is written, an upload is announced by the object `.uploads/<name>.json`, which lists the paths
and the process. It is removed once the database knows the files. No two uploads of the same name are in progress at a
time, and none replaces a recorded file. So an object that a dead process announced and did not record is a leftover.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from retrainer.errors import ArtifactError, RetrainerError
from retrainer.model_types import parse_model_type
from retrainer.registry.liveness import ProcessIdentity, is_gone
from retrainer.registry.place import require_plain_paths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.registry import Registry
    from retrainer.registry.store import Store

UPLOADS = ".uploads"
MAX_AGE = timedelta(days=1)  # after which an upload of a process on another machine counts as abandoned
_SUFFIX = ".json"
_in_progress: set[str] = set()  # the tokens of this process's uploads


@dataclass(frozen=True)
class Upload:
    """Files on their way into a store.

    Attributes:
        name: the name of its announcement.
        token: what distinguishes it from every other upload.
        database_id: the database that is to know the files.
        paths: the files, relative to the folder of the version.
        process: the process that uploads them.
        started_at: when it began, by the clock of its machine.
    """

    name: str
    token: str
    database_id: str
    model_type: ModelTypeName
    version_id: str
    paths: tuple[str, ...]
    process: ProcessIdentity
    started_at: datetime

    @property
    def key(self) -> str:
        """The key of its announcement."""
        return f"{UPLOADS}/{self.name}{_SUFFIX}"

    def document(self) -> bytes:
        """Return it as JSON."""
        return (json.dumps(asdict(self), indent=2, default=datetime.isoformat) + "\n").encode()

    @classmethod
    def parse(cls, data: bytes) -> Upload:
        """Reverse `document`.

        Raises:
            ValueError, TypeError, LookupError, RetrainerError: it is none.
        """
        content: dict[str, Any] = json.loads(data)
        process = content["process"]
        process["started_at"] = datetime.fromisoformat(process["started_at"])
        content |= {
            "model_type": parse_model_type(content["model_type"]),
            "paths": tuple(content["paths"]),
            "process": ProcessIdentity(**process),
            "started_at": datetime.fromisoformat(content["started_at"]),
        }
        upload = cls(**content)
        require_plain_paths([upload.version_id], upload.version_id)
        require_plain_paths(upload.paths, upload.version_id)
        return upload

    def is_abandoned(self) -> bool:
        """Whether its process is gone, or has given it up."""
        if self.token in _in_progress:
            return False
        gone = is_gone(self.process)
        if gone is None:
            return datetime.now(UTC) - self.started_at > MAX_AGE
        return gone or self.process.pid == os.getpid()


class Uploads:
    """The uploads to one store for one database."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry

    def start(self, name: str, model_type: ModelTypeName, version_id: str, paths: Sequence[str]) -> Upload:
        """Announce an upload.

        Raises:
            ArtifactError: another process uploads the same, the files are recorded already, or the store fails.
        """
        upload = Upload(
            name,
            secrets.token_hex(8),
            self._registry.database_id(),
            model_type,
            version_id,
            tuple(paths),
            ProcessIdentity.current(),
            datetime.now(UTC),
        )
        _in_progress.add(upload.token)
        try:
            self._announce(upload)
        except BaseException:
            _in_progress.discard(upload.token)  # it may have been written nevertheless: the next run finds out
            raise
        if self._recorded(upload):
            self.finish(upload)
            raise ArtifactError(f"'{version_id}' is already stored", hint="Run the command again")
        return upload

    def _announce(self, upload: Upload) -> None:
        try:
            self._store.create(upload.key, upload.document())
        except FileExistsError as error:
            if self.get(upload) != upload:  # else the answer to it was lost, and the client tried again
                raise ArtifactError(
                    f"the files of '{upload.version_id}' are being uploaded by another process",
                    hint="Wait for it to end; `retrainer doctor --repair` removes what a dead process left",
                ) from error

    def finish(self, upload: Upload) -> None:
        """Remove the announcement of an upload whose files are recorded."""
        _in_progress.discard(upload.token)
        self._store.remove([upload.key])

    def give_up(self, upload: Upload) -> None:
        """Leave an upload to the next run, which looks in the database what became of it."""
        _in_progress.discard(upload.token)

    def clear(self, upload: Upload) -> list[str]:
        """Remove the files of an upload that the database does not know, and the announcement.

        Returns:
            The keys removed.
        """
        recorded = self._recorded(upload)
        folder = f"{upload.model_type}/{upload.version_id}"
        unknown = {f"{folder}/{path}" for path in upload.paths if path not in recorded}
        found = sorted(unknown & self._store.find(folder).keys())
        self._store.remove(found)
        if not recorded:
            self._store.abort_multipart(unknown)
        self.finish(upload)
        return found

    def list(self) -> list[Upload]:
        """Return the uploads for this database that are announced."""
        keys = [f"{UPLOADS}/{name}" for name in self._store.list_names(UPLOADS) if name.endswith(_SUFFIX)]
        uploads = [self._parse(key, data) for key, data in self._store.read_all(keys).items()]
        return [upload for upload in uploads if upload is not None]

    def get(self, upload: Upload) -> Upload | None:
        """Return an upload as it is announced now; None if it no longer is."""
        try:
            return self._parse(upload.key, self._store.read(upload.key))
        except FileNotFoundError:
            return None

    def _parse(self, key: str, data: bytes | Exception) -> Upload | None:
        if isinstance(data, FileNotFoundError):  # it has just ended
            return None
        if isinstance(data, Exception):
            raise data
        try:
            upload = Upload.parse(data)
        except (ValueError, TypeError, LookupError, RetrainerError):
            return None
        return upload if upload.key == key and upload.database_id == self._registry.database_id() else None

    def _recorded(self, upload: Upload) -> set[str]:
        return {row.path for row in self._registry.list_files(upload.version_id, upload.paths)}

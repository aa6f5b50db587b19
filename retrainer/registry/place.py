"""What a place of model files provides: a folder on a disk (`folder_place`) or an object store (`store_place`).

A path is relative to the place, with `/` between its parts: `timing/<version_id>/model.json`.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Protocol

from retrainer.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.registry import Registry
    from retrainer.registry.staging import Staging
    from retrainer.registry.tables import ModelVersion, VersionFile

SET_ASIDE = ".set-aside"
STREAMS = "streams"  # the folder of the production links of other streams than `default`
LOCK_FILE = ".lock"
OWNER_FILE = ".database-id"  # the id of the database that the place belongs to
_OWNER = re.compile(rb"[0-9a-f]{32}\n")


class Place(Protocol):
    """Where the files of versions are. Each method raises ArtifactError if the place cannot be read or written."""

    keeps_only_copy: bool  # whether the database holds no copy of what is here
    repair_hint: str  # what to do about a changed file

    def locate(self, path: str = "") -> str:
        """Return where a path is, for people to read."""

    def require_safe(self, path: str) -> None:
        """Check that a path does not lead out of the place."""

    def find_owner(self) -> str | None:
        """Return the id of the database that the place belongs to; None if it belongs to none yet."""

    def claim(self) -> None:
        """Mark the place with the id of the database, unless it is marked."""

    def read(
        self, version: ModelVersion, rows: Sequence[VersionFile], *, cached: bool
    ) -> Iterable[tuple[VersionFile, bytes | Exception]]:
        """Read files of a version; a FileNotFoundError, or an ArtifactError, stands for the content of each that fails.

        Args:
            cached: whether a copy that was read before will do.
        """

    def find_copy(self, sha256: str) -> bytes | None:
        """Return a file with this hash from a cache on this machine; None if there is none."""

    def find_sizes(self, version: ModelVersion) -> dict[str, int]:
        """Return the sizes in bytes of a version's files, by path in its folder."""

    def open_staging(self, model_type: ModelTypeName) -> AbstractContextManager[Staging]:
        """Provide an empty local folder for new files; remove it at the end, with what is not to be kept."""

    def prepare(self, staging: Staging, name: str, version: ModelVersion, files: Mapping[str, bytes]) -> None:
        """Make new files durable, before the database records them.

        Args:
            name: of what is written; nobody else writes the same at the same time.
            files: the content of the staged files, by path in the folder of the version.
        """

    def publish(self, staging: Staging) -> None:
        """Move new files, which the database knows by now, into place."""

    def find_abandoned(self) -> list[str]:
        """Return what dead processes left, for people to read."""

    def clear_abandoned(self) -> Iterator[tuple[ModelTypeName, str]]:
        """Move what dead processes left into place where the database knows it; remove the rest.

        Yields:
            What was removed: the model type, and a sentence.
        """

    def list_names(self, model_type: ModelTypeName) -> list[str]:
        """Return the names in the folder of a model type."""

    def find_unknown_versions(self, model_type: ModelTypeName) -> list[str]:
        """Return the ids of complete versions that the database does not know, and that nobody is writing."""

    def set_aside(self, path: str) -> str:
        """Move a file or folder into `.set-aside`, which nothing reads; return where it is then."""

    def remove(self, version: ModelVersion, paths: Iterable[str]) -> list[str]:
        """Remove files of a version, and folders that are empty then; return the paths of the files that are left."""

    def put(self, version: ModelVersion, path: str, data: bytes) -> str | None:
        """Write a recorded file; return where a changed file in its place was set aside, if there was one.

        Raises:
            FileExistsError: a link or a folder is in its place.
        """


def require_own(place: Place, registry: Registry) -> str | None:
    """Check that a place does not belong to another database, whose files must not be touched.

    Returns:
        The id of the database that it belongs to; None if it belongs to none yet.

    Raises:
        ConfigError: it does.
        ArtifactError: its owner cannot be read.
    """
    owner = place.find_owner()
    if owner not in {None, registry.database_id()}:
        raise ConfigError(
            f"the models folder '{place.locate()}' belongs to another database",
            hint=f"Choose another models_dir, or delete '{place.locate(OWNER_FILE)}' to take it over",
        )
    return owner


def parse_owner(content: bytes) -> str | None:
    """Return the id of a database as it marks a place; None if it is incomplete."""
    return content.decode().strip() if _OWNER.fullmatch(content) else None


def version_path(version: ModelVersion, path: str = "") -> str:
    """Return the path of a version's folder, or of a file in it."""
    folder = f"{version.model_type}/{version.version_id}"
    return f"{folder}/{path}" if path else folder


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


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


def check_sha256(data: bytes, expected: str, name: str, version_id: str, hint: str) -> None:
    """Check the hash of one of a version's files.

    Raises:
        ArtifactError: it is another one.
    """
    if sha256(data) != expected:
        difference = f"its SHA-256 is {sha256(data)[:12]}…, recorded was {expected[:12]}…"
        raise modified(name, version_id, difference, hint)


def modified(name: str, version_id: str, difference: str, hint: str) -> ArtifactError:
    return ArtifactError(f"'{name}' of '{version_id}' was modified: {difference}", hint=hint)

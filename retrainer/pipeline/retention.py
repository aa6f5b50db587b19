"""Step 7: keep the last N versions; and, by hand, restore archived ones, or prune their files."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.registry.artifacts import remove

if TYPE_CHECKING:
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion

log = logging.getLogger(__name__)


def archive_old_versions(project: Project, model_type: ModelTypeName, now: datetime) -> list[str]:
    """Archive the versions beyond the newest `keep_versions`; their files and records stay.

    Never archived: the production version, the one that a rollback would return to, and a pinned one.

    Returns:
        The ids archived.
    """
    settings = project.settings.retraining
    if not settings.archive_old_versions:
        return []
    archived = project.registry.archive_old_versions(model_type, settings.keep_versions, now)
    if archived:
        log.info("Archived %d old versions: %s", len(archived), ", ".join(archived))
    return archived


def restore(project: Project, version_id: str, reason: str, now: datetime) -> bool:
    """Bring an archived version back, its files checked and, where they are missing, made again from the database.

    Returns:
        False where the version is not archived.

    Raises:
        UnknownName: there is no such version.
        PromotionRefused: its files were pruned.
        ArtifactError: its files were changed, or are gone.
    """
    version = project.registry.get_version(version_id)
    if version.status == "archived" and version.pruned_at is None:
        project.artifacts.verify(version)
    return project.registry.restore(version_id, reason, now)


@dataclass(frozen=True)
class Prunable:
    """An archived version and what deleting its files frees.

    Attributes:
        bytes_on_disk: in the models folder.
        bytes_in_database: of the copy in the database.
    """

    version: ModelVersion
    bytes_on_disk: int
    bytes_in_database: int


def prunable(project: Project, model_type: ModelTypeName | None = None) -> list[Prunable]:
    """Return the archived versions whose files could be deleted, the newest first; pinned ones are kept."""
    return [
        Prunable(
            version=version,
            bytes_on_disk=project.artifacts.size_on_disk(version),
            bytes_in_database=project.registry.get_stored_size(version.version_id),
        )
        for version in project.registry.list_versions(model_type, status="archived")
        if version.pruned_at is None and not version.pinned
    ]


def prune(project: Project, versions: list[Prunable], now: datetime) -> list[str]:
    """Delete the files of archived versions, in the database and in the models folder; their records stay.

    The database goes first: a folder that outlives a kill in between is found and removed by `doctor --repair`.

    Returns:
        The ids pruned; a version that was restored meanwhile is none of them.

    Raises:
        ArtifactError: a folder cannot be deleted.
    """
    chosen = {case.version.version_id: case.version for case in versions}
    pruned = project.registry.prune(list(chosen), "Files deleted to save space", now)
    for version_id in pruned:
        remove(project.artifacts.folder(chosen[version_id].model_type, version_id))
    return pruned

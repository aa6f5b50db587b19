"""Step 7: archive all but the latest versions. Also restoring and pruning archived versions by hand."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.registry.place import version_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion

log = logging.getLogger(__name__)


def archive_old_versions(project: Project, model_type: ModelTypeName, now: datetime) -> list[str]:
    """Archive all but the newest `keep_versions` versions; their files and records stay.

    The production version, the version that a rollback would return to, the challenger of a running A/B test, and
    pinned versions are never archived.

    Returns:
        The ids of the archived versions.
    """
    settings = project.settings.retraining
    if not settings.archive_old_versions:
        return []
    archived = project.registry.archive_old_versions(model_type, settings.keep_versions, now)
    if archived:
        log.info("Archived %d old versions: %s", len(archived), ", ".join(archived))
    return archived


def restore(project: Project, version_id: str, reason: str, now: datetime) -> bool:
    """Restore an archived version after verifying its files.

    Returns:
        False if the version is not archived.

    Raises:
        UnknownName: there is no such version.
        PromotionRefused: its files were pruned.
        ArtifactError: its files were changed or are missing.
    """
    version = project.registry.get_version(version_id)
    if version.status == "archived" and version.pruned_at is None:
        for refit in {None, version.refit}:
            project.artifacts.read(version, refit)
    return project.registry.restore(version_id, reason, now)


@dataclass(frozen=True)
class Prunable:
    """An archived version and the space that pruning it frees.

    Attributes:
        bytes_on_disk: size of its files in the models folder.
        bytes_in_database: size of their copy in the database.
    """

    version: ModelVersion
    bytes_on_disk: int
    bytes_in_database: int


def prunable(
    project: Project, model_type: ModelTypeName | None = None, streams: Sequence[str] | None = None
) -> list[Prunable]:
    """Return the archived versions whose files can be deleted, newest first. Pinned versions are kept.

    Args:
        streams: of these streams; None for all.
    """
    return [
        Prunable(
            version=version,
            bytes_on_disk=project.artifacts.size_on_disk(version),
            bytes_in_database=project.registry.get_stored_size(version.version_id),
        )
        for version in project.registry.across(streams).list_versions(model_type, status="archived")
        if version.pruned_at is None and not version.pinned
    ]


def prune(project: Project, versions: list[Prunable], now: datetime) -> list[str]:
    """Delete the files of archived versions from the database and the models folder; their records stay.

    Files that were changed or added stay, with a warning. The database comes first: what a kill in between leaves is
    removed by the next run.

    Returns:
        The ids of the pruned versions, without those that were restored meanwhile.

    Raises:
        ArtifactError: a file cannot be deleted, or a link is in the place of one; then nothing was changed.
    """
    project.artifacts.require_own_folder()
    for prunable in versions:
        project.artifacts.place.require_safe(version_path(prunable.version))
    by_id = {prunable.version.version_id: prunable.version for prunable in versions}
    pruned = project.registry.prune(list(by_id), "Files deleted to save space", now)
    for version_id in pruned:
        project.artifacts.remove_files(by_id[version_id])
    return pruned

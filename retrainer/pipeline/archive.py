"""Step 7: keep the last N versions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project

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
    archived = project.registry.archive_all_but(model_type, settings.keep_versions, now)
    if archived:
        log.info("Archived %d old versions: %s", len(archived), ", ".join(archived))
    return archived

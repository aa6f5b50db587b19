"""What a command does first: put right what a process that died left behind."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from retrainer.algorithms.manager import broadcast
from retrainer.documents import run_document
from retrainer.errors import ArtifactError
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry.artifacts import remove

if TYPE_CHECKING:
    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project

log = logging.getLogger(__name__)


def recover(project: Project) -> None:
    """Close runs whose process is gone, remove what they had half written, and set the production links right.

    Cheap where nothing died: one query, and a look at the links. A models folder that cannot be written is no hindrance
    to a command that only reads: what cannot be put right is left for the next one.
    """
    dead = project.registry.close_dead_runs()
    for run in dead:
        log.warning("Closed the run '%s' as failed. %s", run.run_id, run.error)
        broadcast(
            {
                "kind": "run",
                "model_type": run.model_type,
                "version_id": None,
                "reason": run.error,
                "run": run_document(run),
            }
        )
    try:
        for folder in project.artifacts.abandoned_staging():
            remove(folder)
        for model_type in MODEL_TYPE_NAMES:
            if any(run.model_type == model_type for run in dead):
                remove_half_written(project, model_type)
        if any(project.artifacts.wrong_link(model_type) for model_type in MODEL_TYPE_NAMES):
            project.artifacts.link_production()
    except ArtifactError as error:
        log.debug("Not put right: %s", error)


def remove_half_written(project: Project, model_type: ModelTypeName) -> None:
    """Remove folders of versions that were never registered, and forecasts files that were never recorded."""

    def tidy() -> None:
        for folder in project.artifacts.unregistered_folders(model_type):
            remove(folder)
        for version in project.registry.versions(model_type):
            for path in project.artifacts.stray_files(version):
                remove(path)

    project.registry.while_idle(model_type, tidy)

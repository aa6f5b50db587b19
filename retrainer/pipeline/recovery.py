"""What a command does first: put right what a process that died left behind."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from retrainer.algorithms.events import publish
from retrainer.errors import ArtifactError
from retrainer.model_types import MODEL_TYPE_NAMES

if TYPE_CHECKING:
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project

log = logging.getLogger(__name__)

_CLOCK_TOLERANCE = timedelta(minutes=1)  # when a process began is known from the time of boot, which may move


def recover(project: Project) -> None:
    """Close runs whose process is gone, remove what they had half written, and set the production links right.

    Cheap where nothing died: one query, and a look at the links. A models folder that cannot be written is no hindrance
    to a command that only reads: what cannot be put right is left for the next one.
    """
    dead = project.registry.close_dead_runs()
    for run in dead:
        from retrainer.render.documents.runs import run_document  # noqa: PLC0415  slow to import

        log.warning("Closed the run '%s' as failed. %s", run.run_id, run.error)
        publish(
            {
                "kind": "run",
                "model_type": run.model_type,
                "version_id": None,
                "reason": run.error,
                "run": run_document(run),
            }
        )
    try:
        for folder in project.artifacts.abandoned_staging_folders():
            project.artifacts.remove(folder)
        for model_type in MODEL_TYPE_NAMES:
            starts = [run.process_started_at for run in dead if run.model_type == model_type]
            if starts:
                remove_leftovers(project, model_type, min(starts))
        if any(project.artifacts.find_link_problem(model_type) for model_type in MODEL_TYPE_NAMES):
            project.artifacts.link_production()
    except ArtifactError as error:
        log.debug("Not put right: %s", error)


def remove_leftovers(project: Project, model_type: ModelTypeName, since: datetime) -> None:
    """Remove what dead runs left: folders of versions never registered, and forecasts files never recorded.

    Args:
        project: the project.
        model_type: of the runs.
        since: when the first of their processes began. An older folder is not theirs: it may be the last copy of a
            version that another database knows.
    """

    def remove_strays() -> None:
        project.artifacts.remove_strays(model_type, since - _CLOCK_TOLERANCE)

    project.registry.call_while_idle(model_type, remove_strays)

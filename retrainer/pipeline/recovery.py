"""Clean up after processes that died. `train` does this first; commands that only look never write."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from retrainer.algorithms.events import Event
from retrainer.errors import ArtifactError
from retrainer.model_types import MODEL_TYPE_NAMES

if TYPE_CHECKING:
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)

_CLOCK_TOLERANCE = timedelta(minutes=1)  # process start times are derived from the boot time, which may shift


def recover(project: Project, runtime: Runtime) -> None:
    """Close runs whose process is gone, remove their partial files, and repair the production links.

    Cheap if nothing died: one query and a look at the links. A models folder that cannot be written does not stop a
    command that only reads; what cannot be repaired is left for the next command.
    """
    dead = project.registry.close_dead_runs()
    for run in dead:
        log.warning("Closed the run '%s' as failed. %s", run.run_id, run.error)
        runtime.events.publish(Event("run", run.model_type_name, None, run.error, run=run))
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
        log.debug("Not repaired: %s", error)


def remove_leftovers(project: Project, model_type: ModelTypeName, since: datetime) -> None:
    """Remove what dead runs left: folders of unregistered versions, and forecasts that were not recorded.

    Args:
        since: when the first of their processes started. Older folders are not theirs: one may be the last copy of a
            version that another database knows.
    """

    def remove_strays() -> None:
        project.artifacts.remove_strays(model_type, since - _CLOCK_TOLERANCE)

    project.registry.call_while_idle(model_type, remove_strays)

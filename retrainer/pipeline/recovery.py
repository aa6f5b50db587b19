"""Clean up after processes that died. `train` does this first; commands that only look never write."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from retrainer.algorithms.events import Event
from retrainer.errors import ArtifactError
from retrainer.model_types import MODEL_TYPE_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)


def close_dead_runs(project: Project, runtime: Runtime) -> None:
    """Close runs whose process is gone."""
    for run in project.registry.close_dead_runs():
        log.warning("Closed the run '%s' as failed. %s", run.run_id, run.error)
        runtime.events.publish(Event("run", run.model_type_name, None, run.error, run=run, stream=run.stream))


def recover(project: Project, runtime: Runtime) -> None:
    """Close dead runs, finish what they left unfinished in the models folder, and repair the links of the stream.

    What cannot be repaired is left for the next run.

    Raises:
        ConfigError: the models folder belongs to another database.
    """
    project.artifacts.require_own_folder()
    close_dead_runs(project, runtime)
    steps: list[Callable[[], None]] = [project.artifacts.clear_abandoned]
    for model_type in MODEL_TYPE_NAMES:
        steps += [
            partial(set_aside_unknown_versions, project, model_type),
            partial(finish_pruning, project, model_type),
        ]
    _attempt(*steps)
    repair_links(project)


def repair_links(project: Project) -> None:
    """Repair the links to the production versions of the stream; a run may have been killed before it set them."""
    if any(project.production_links.find_problem(model_type) for model_type in MODEL_TYPE_NAMES):
        _attempt(project.production_links.update)


def set_aside_unknown_versions(project: Project, model_type: ModelTypeName) -> None:
    """Set aside the complete versions that the database does not know, unless it is empty: another one may know them.

    Raises:
        ArtifactError: the models folder cannot be written.
    """
    if project.registry.across(None).list_versions(limit=1):
        for version_id in project.artifacts.unknown_versions(model_type):
            set_aside(project, model_type, version_id)


def set_aside(project: Project, model_type: ModelTypeName, version_id: str) -> bool:
    """Set aside a version that the database does not know; False if a run that may be writing it is in progress.

    Raises:
        ArtifactError: the models folder cannot be written.
    """

    def move() -> str | None:
        if version_id not in project.artifacts.unknown_versions(model_type):  # a backup was restored meanwhile
            return None
        target = project.artifacts.set_aside(model_type, version_id)
        return f"Moved '{version_id}', unknown to the database, to '{target}'"

    return project.registry.record_while_idle(model_type, "set_aside", move)


def finish_pruning(project: Project, model_type: ModelTypeName) -> None:
    """Remove the files of pruned versions that a killed `prune` left.

    Raises:
        ArtifactError: one of them cannot be removed.
    """
    for version in project.artifacts.pruned_versions_with_files(model_type):
        project.artifacts.remove_files(version)


def _attempt(*steps: Callable[[], None]) -> None:
    """Take each step; warn of each problem once, such as a store that does not answer."""
    problems: dict[str, None] = {}
    for step in steps:
        try:
            step()
        except ArtifactError as error:
            problems[str(error)] = None
    for problem in problems:
        log.warning("Not cleaned up: %s", problem)

"""Compares the model files, links and runs with the database, and repairs what the database has a copy of.

It also reports what `health` finds, which only a person can fix.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

from retrainer.errors import ArtifactError, ConfigError, MissingCredentials
from retrainer.files import require_readable
from retrainer.health import ProblemKind, check_surroundings
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.pipeline.recovery import set_aside
from retrainer.registry.place import version_path
from retrainer.schedule.installed import find_schedules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrainer.errors import RetrainerError
    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.model_files import FileProblem
    from retrainer.registry.tables import ModelVersion

log = logging.getLogger(__name__)

T = TypeVar("T")

RUN_SECONDS = 2.0  # for runs in progress to move files into place, and to set links, that the database knows already
_POLL_SECONDS = 0.1

FindingKind = (
    Literal[
        "dead_run",
        "foreign_folder",
        "unreadable_folder",
        "missing_file",
        "changed_file",
        "unreadable_file",
        "stray_folder",
        "wrong_link",
    ]
    | ProblemKind
)
_FILE_PROBLEMS: dict[FileProblem, tuple[FindingKind, str]] = {
    "missing": ("missing_file", "is missing"),
    "changed": ("changed_file", "was changed"),
    "unreadable": ("unreadable_file", "cannot be read"),
}


@dataclass(frozen=True)
class Finding:
    """A problem.

    Attributes:
        kind: the kind of problem.
        subject: the run, version or path concerned.
        message: the problem in one sentence.
        hint: what to do, unless `--repair` can repair it.
        repaired: whether it was repaired; None if that was not requested.
        repairable: whether `--repair` can repair it.
    """

    kind: FindingKind
    subject: str
    message: str
    hint: str = ""
    repaired: bool | None = None
    repairable: bool = True


Repair = Callable[[], object]  # returns False if it did not help


@dataclass
class _Patience:
    """The seconds left for runs in progress."""

    seconds: float

    def confirm(self, find: Callable[[], T]) -> T:
        """Return a problem that is found, unless it passes."""
        found = find()
        while found and self.seconds > 0:
            time.sleep(_POLL_SECONDS)
            self.seconds -= _POLL_SECONDS
            found = find()
        return found


def examine(project: Project, *, repair: bool = False) -> list[Finding]:
    """Check every run, version, file and link, and what the project needs around it.

    Args:
        repair: restore files and links from the database, and remove what dead processes left. Changed files, and
            complete versions that the database does not know, are moved to `.set-aside` in the models folder.

    Returns:
        The problems found.
    """
    return [
        replace(finding, repairable=repair_it is not None, repaired=_attempt(repair_it) if repair else None)
        for finding, repair_it in _find_problems(project)
    ]


def _attempt(repair: Repair | None) -> bool:
    try:
        return repair is not None and repair() is not False
    except (ArtifactError, OSError) as error:
        log.warning("Not repaired: %s", error)
        return False


def _find_problems(project: Project) -> Iterator[tuple[Finding, Repair | None]]:
    """Find the problems one by one: each is repaired before the next is looked for."""
    running, dead = project.registry.across(None).list_running_runs(), project.registry.find_dead_runs()
    patience = _Patience(RUN_SECONDS if len(running) > len(dead) else 0)
    yield from _dead_runs(project)
    production = project.registry.across(None).list_production()
    for problem in check_surroundings(project, find_schedules(project.config_file), datetime.now(UTC), production):
        yield Finding(problem.kind, problem.subject, problem.message, problem.hint), None
    folder_problem = _folder_problem(project)
    if folder_problem is not None:
        yield folder_problem, None
        return
    for left in project.artifacts.find_abandoned():
        message = f"'{left}' was left behind by a process that has ended"
        yield Finding("stray_folder", left, message), project.artifacts.clear_abandoned
    for model_type in MODEL_TYPE_NAMES:
        yield from _reported(_stray_folders(project, model_type), project, model_type)
        for version in project.registry.across(None).list_versions(model_type):
            if version.pruned_at is None:
                yield from _file_problems(project, version, patience)
    for name in project.list_streams():  # after the files: a link may need a folder restored above
        for model_type in MODEL_TYPE_NAMES:
            yield from _reported(_link_problems(project.for_stream(name), model_type, patience), project, model_type)


def _folder_problem(project: Project) -> Finding | None:
    """Return what prevents any look at the models folder."""
    models_dir = project.artifacts.place.locate()
    try:
        project.artifacts.require_own_folder()
        require_readable(project.models_dir)
    except ConfigError as error:
        return Finding("foreign_folder", models_dir, str(error))
    except (ArtifactError, MissingCredentials, OSError) as error:
        return _unreadable(models_dir, error)
    return None


def _reported(
    problems: Iterator[tuple[Finding, Repair | None]], project: Project, model_type: ModelTypeName
) -> Iterator[tuple[Finding, Repair | None]]:
    """Find problems in the folder of a model type; if that fails, this is the problem."""
    try:
        require_readable(project.models_dir / model_type)
        yield from problems
    except (ArtifactError, OSError) as error:
        yield _unreadable(project.artifacts.place.locate(model_type), error), None


def _unreadable(folder: str, error: RetrainerError | OSError) -> Finding:
    reason = error.strerror if isinstance(error, OSError) else error
    return Finding("unreadable_folder", folder, f"'{folder}' cannot be checked: {reason}")


def _dead_runs(project: Project) -> Iterator[tuple[Finding, Repair]]:
    def close(run_id: str) -> bool:
        project.registry.close_dead_runs()
        return run_id not in {run.run_id for run in project.registry.across(None).list_running_runs()}

    for run, reason in project.registry.find_dead_runs():
        message = f"the run '{run.run_id}' is recorded as running, but {reason}"
        yield Finding("dead_run", run.run_id, message), partial(close, run.run_id)


def _stray_folders(project: Project, model_type: ModelTypeName) -> Iterator[tuple[Finding, Repair | None]]:
    artifacts, registry = project.artifacts, project.registry
    is_empty = not registry.across(None).list_versions(limit=1)
    for version_id in artifacts.unknown_versions(model_type):
        folder = artifacts.place.locate(f"{model_type}/{version_id}")
        message = f"'{folder}' is a version that the database does not know"
        repair: Repair | None = partial(set_aside, project, model_type, version_id)
        if is_empty:  # a new database, or the wrong one
            message += "; it is not moved, since the database has no versions at all"
            repair = None
        else:
            message += "; --repair moves it to '.set-aside', since it may belong to another database"
        yield Finding("stray_folder", folder, message), repair
    for version in artifacts.pruned_versions_with_files(model_type):
        message = f"'{artifacts.place.locate(version_path(version))}' has files of a version that was pruned"
        yield Finding("stray_folder", version.version_id, message), partial(artifacts.remove_files, version)


def _file_problems(project: Project, version: ModelVersion, patience: _Patience) -> Iterator[tuple[Finding, Repair]]:
    for file, problem in patience.confirm(partial(project.artifacts.find_file_problems, version)).items():
        kind, state = _FILE_PROBLEMS[problem]
        message = f"'{file}' of '{version.version_id}' {state}"
        repair = partial(project.artifacts.restore_file, version, file)
        yield Finding(kind, version.version_id, message), repair


def _link_problems(
    project: Project, model_type: ModelTypeName, patience: _Patience
) -> Iterator[tuple[Finding, Repair]]:
    def relink() -> bool:
        project.production_links.update()
        return project.production_links.find_problem(model_type) is None

    problem = patience.confirm(partial(project.production_links.find_problem, model_type))
    if problem is not None:
        link = project.production_links.path(model_type)
        yield Finding("wrong_link", str(link), f"the link '{link}' is wrong: {problem}"), relink

"""Compares the model files, links and runs with the database, and repairs what the database has a copy of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.pipeline.recovery import set_aside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion

FindingKind = Literal["dead_run", "missing_file", "changed_file", "stray_folder", "wrong_link"]


@dataclass(frozen=True)
class Finding:
    """A problem.

    Attributes:
        kind: the kind of problem.
        subject: the run, version or path concerned.
        message: the problem in one sentence.
        repaired: whether it was repaired; None if that was not requested.
    """

    kind: FindingKind
    subject: str
    message: str
    repaired: bool | None = None


Repair = Callable[[], object]  # returns False if the problem cannot be repaired


def _cannot_repair() -> bool:
    return False


def examine(project: Project, *, repair: bool = False) -> list[Finding]:
    """Check every run, version, file and link.

    Args:
        repair: restore files and links from the database, and remove what dead processes left. A complete version that
            the database does not know is moved to `.set-aside` in the models folder.

    Returns:
        The problems found.

    Raises:
        ArtifactError: with `repair`, the models folder cannot be written.
    """
    return [
        replace(finding, repaired=repair_it() is not False if repair else None)
        for finding, repair_it in _find_problems(project)
    ]


def _find_problems(project: Project) -> Iterator[tuple[Finding, Repair]]:
    """Find the problems one by one: each is repaired before the next is looked for."""
    yield from _dead_runs(project)
    for folder in project.artifacts.abandoned_staging_folders():
        if folder.exists():
            message = f"'{folder}' was left behind by a process that has ended"
            yield Finding("stray_folder", str(folder), message), partial(project.artifacts.clear_abandoned, folder)
    for model_type in MODEL_TYPE_NAMES:
        yield from _stray_folders(project, model_type)
        for version in project.registry.list_versions(model_type):
            if version.pruned_at is None:
                yield from _file_problems(project, version)
    for model_type in MODEL_TYPE_NAMES:  # last: a link may need a folder restored above
        yield from _link_problems(project, model_type)


def _dead_runs(project: Project) -> Iterator[tuple[Finding, Repair]]:
    def close(run_id: str) -> bool:
        project.registry.close_dead_runs()
        return run_id not in {run.run_id for run in project.registry.list_running_runs()}

    for run, reason in project.registry.find_dead_runs():
        message = f"the run '{run.run_id}' is recorded as running, but {reason}"
        yield Finding("dead_run", run.run_id, message), partial(close, run.run_id)


def _stray_folders(project: Project, model_type: ModelTypeName) -> Iterator[tuple[Finding, Repair]]:
    artifacts, registry = project.artifacts, project.registry
    is_empty = not registry.list_versions(limit=1)
    for folder in artifacts.unknown_versions(model_type):
        message = f"'{folder}' is a version that the database does not know"
        repair: Repair = partial(set_aside, project, model_type, folder)
        if is_empty:  # a new database, or the wrong one
            message += "; it is not moved, since the database has no versions at all"
            repair = _cannot_repair
        else:
            message += "; --repair moves it to '.set-aside', since it may belong to another database"
        yield Finding("stray_folder", str(folder), message), repair
    for version in artifacts.pruned_versions_with_files(model_type):
        message = f"'{artifacts.folder(model_type, version.version_id)}' has files of a version that was pruned"
        yield Finding("stray_folder", version.version_id, message), partial(artifacts.remove_files, version)


def _file_problems(project: Project, version: ModelVersion) -> Iterator[tuple[Finding, Repair]]:
    for file, problem in project.artifacts.find_file_problems(version).items():
        kind: FindingKind = "missing_file" if problem == "missing" else "changed_file"
        state = "is missing" if problem == "missing" else "was changed"
        message = f"'{file}' of '{version.version_id}' {state}"
        repair = partial(project.artifacts.restore_file, version, file)
        yield Finding(kind, version.version_id, message), repair


def _link_problems(project: Project, model_type: ModelTypeName) -> Iterator[tuple[Finding, Repair]]:
    def relink() -> bool:
        project.production_links.update()
        return project.production_links.find_problem(model_type) is None

    problem = project.production_links.find_problem(model_type)
    if problem is not None:
        link = project.models_dir / f"{model_type}_model"
        yield Finding("wrong_link", str(link), f"the link '{link}' is wrong: {problem}"), relink

"""Holds everything that is stored against everything that is recorded, and mends what the database knows better."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from retrainer.model_types import MODEL_TYPE_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion

FindingKind = Literal["dead_run", "missing_file", "changed_file", "stray_file", "stray_folder", "wrong_link"]


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        kind: what sort of thing.
        subject: the run, version or path that it is about.
        message: what is wrong, in one sentence.
        mended: whether it was put right; None where that was not asked for.
    """

    kind: FindingKind
    subject: str
    message: str
    mended: bool | None = None


@dataclass(frozen=True)
class _Case:
    """A finding with the way to mend it, which says whether it could."""

    finding: Finding
    mend: Callable[[], bool]


def examine(project: Project, *, repair: bool = False) -> list[Finding]:
    """Look at every run, version, file and link.

    Args:
        repair: mend what can be mended: the database is the truth, so files and links are made again from it, and
            what it does not know is removed; a whole version is only moved to `.set-aside` in the models folder.

    Returns:
        What was found; with `repair`, whether it was mended.

    Raises:
        ArtifactError: with `repair`, the models folder cannot be written.
    """
    findings = []
    for case in _cases(project):
        found = case.finding
        mended = case.mend() if repair else None
        findings.append(Finding(found.kind, found.subject, found.message, mended))
    return findings


def _cases(project: Project) -> Iterator[_Case]:
    yield from _dead_runs(project)
    for folder in project.artifacts.abandoned_staging_folders():
        message = f"'{folder}' was left by a process that is gone"
        yield _Case(Finding("stray_folder", str(folder), message), partial(_remove, project, folder))
    for model_type in MODEL_TYPE_NAMES:
        yield from _stray_folders(project, model_type)
        for version in project.registry.list_versions(model_type):
            if version.pruned_at is None:
                yield from _files(project, version)
    for model_type in MODEL_TYPE_NAMES:  # last: a link may need a folder that was made again above
        yield from _link(project, model_type)


def _dead_runs(project: Project) -> Iterator[_Case]:
    for run, reason in project.registry.find_dead_runs():
        message = f"the run '{run.run_id}' is recorded as running, but {reason}"
        yield _Case(Finding("dead_run", run.run_id, message), partial(_closed, project, run.run_id))


def _stray_folders(project: Project, model_type: ModelTypeName) -> Iterator[_Case]:
    running = {run.model_type for run in project.registry.list_running_runs()}
    if model_type in running:
        return  # its folder may not be registered yet
    knows_any = bool(project.registry.list_versions(limit=1))
    for folder in project.artifacts.unregistered_folders(model_type):
        message = f"'{folder}' belongs to no version that has files"
        if knows_any and project.artifacts.has_manifest(folder) and not project.registry.has_version(folder.name):
            message += "; --repair moves it to '.set-aside', since it may be another database's"
            yield _Case(Finding("stray_folder", str(folder), message), partial(_set_aside, project, folder))
        elif knows_any:
            yield _Case(Finding("stray_folder", str(folder), message), partial(_remove, project, folder))
        else:  # a database that is new, or the wrong one: these may be the last copies
            message += "; the database knows no version at all, so it is left"
            yield _Case(Finding("stray_folder", str(folder), message), lambda: False)


def _files(project: Project, version: ModelVersion) -> Iterator[_Case]:
    for problem in project.artifacts.find_file_problems(version):
        state = "is missing" if problem.kind == "missing" else "is not what was written"
        message = f"'{problem.path}' of '{version.version_id}' {state}"
        kind: FindingKind = "missing_file" if problem.kind == "missing" else "changed_file"
        mend = partial(project.artifacts.restore_file, version, problem.path)
        yield _Case(Finding(kind, version.version_id, message), mend)
    for path in project.artifacts.stray_files(version):
        message = f"'{path}' is no file of '{version.version_id}'"
        yield _Case(Finding("stray_file", version.version_id, message), partial(_remove, project, path))


def _link(project: Project, model_type: ModelTypeName) -> Iterator[_Case]:
    problem = project.artifacts.find_link_problem(model_type)
    if problem is None:
        return

    def mend() -> bool:
        project.artifacts.link_production()
        return project.artifacts.find_link_problem(model_type) is None

    link = project.models_dir / f"{model_type}_model"
    yield _Case(Finding("wrong_link", str(link), f"the link '{link}' is wrong: {problem}"), mend)


def _closed(project: Project, run_id: str) -> bool:
    project.registry.close_dead_runs()
    return project.registry.get_run(run_id).status != "running"


def _set_aside(project: Project, folder: Path) -> bool:
    project.artifacts.set_aside(folder)
    return True


def _remove(project: Project, path: Path) -> bool:
    project.artifacts.remove(path)
    return True

"""Health checks that `doctor` and `status` share: of plugins, the models folder, schedules and the database."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from retrainer.algorithms.manager import load_algorithm
from retrainer.errors import RetrainerError
from retrainer.live.summary import summarize_live
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.pipeline.loading import version_options
from retrainer.schedule.installed import names_no_stream
from retrainer.streams import of_stream, stream_argument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from retrainer.project import Project
    from retrainer.registry.registry import Registry
    from retrainer.registry.tables import ModelVersion
    from retrainer.schedule.installed import Schedule

MIN_FREE_BYTES = 100 * 1024**2  # a run writes a version of up to 32 MB, and logs
_SHARED = timedelta(days=30)  # since a run of another project, the database counts as shared

ProblemKind = Literal[
    "no_posts",
    "stale_posts",
    "failed_run",
    "nothing_in_production",
    "degraded",
    "damaged_scores",
    "missed_run",
    "unusable_algorithm",
    "unwritable_folder",
    "full_disk",
    "idle_schedule",
    "shared_database",
]


@dataclass(frozen=True)
class Problem:
    """Something that a person has to fix.

    Attributes:
        kind: the kind of problem.
        subject: the run, version, algorithm, model type, path or schedule concerned; `posts` for the posts.
        message: the problem in one sentence.
        hint: what to do.
        stream: the stream concerned; None for the whole project.
    """

    kind: ProblemKind
    subject: str
    message: str
    hint: str
    stream: str | None = None


@dataclass(frozen=True)
class DiskSpace:
    """The space on the file system of the models folder, in bytes.

    Attributes:
        folder: the models folder, or the nearest folder above it that exists.
    """

    folder: Path
    free: int
    total: int


def check_surroundings(
    project: Project, schedules: Sequence[Schedule], now: datetime, production: Iterable[ModelVersion]
) -> Iterator[Problem]:
    """Run all checks.

    Args:
        schedules: those of the project on this machine.
        production: the production versions to check.
    """
    yield from check_production_algorithms(project, production)
    yield from check_models_folder(project)
    yield from check_schedules(project, schedules)
    yield from check_database(project, now)


def check_production_algorithms(project: Project, production: Iterable[ModelVersion]) -> Iterator[Problem]:
    """Check that the algorithms of production versions can be loaded, and accept their recorded options."""
    checked: dict[tuple[str, ...], RetrainerError | None] = {}  # many versions have the same algorithm and options
    for version in production:
        patterns = project.settings.list_patterns(version.stream)
        case = (version.algorithm, version.model_type, json.dumps(version.hyperparameters, sort_keys=True), *patterns)
        if case not in checked:
            checked[case] = None
            try:
                algorithm = load_algorithm(version.algorithm, version.model_type_name)
                version_options(project.for_stream(version.stream), version, algorithm)
            except RetrainerError as error:
                checked[case] = error
        problem = checked[case]
        if problem is not None:
            message = f"the production version '{version.version_id}' cannot forecast: {problem.message}"
            hint = f"Install or fix the plugin, or promote a version of another algorithm. {problem.hint}".strip()
            yield Problem("unusable_algorithm", version.version_id, message, hint, version.stream)


def check_models_folder(project: Project) -> Iterator[Problem]:
    """Check that files can be added to the models folder, and that its disk has space for them."""
    models = project.models_dir
    for folder in (models, *(models / model_type for model_type in MODEL_TYPE_NAMES)):
        # What cannot even be read is another finding.
        if os.access(folder, os.R_OK | os.X_OK) and not os.access(folder, os.W_OK):
            message = f"'{folder}' cannot be written"
            yield Problem("unwritable_folder", str(folder), message, "Training fails until its permissions are fixed")
    space = measure_space(models)
    if space is not None and space.free < MIN_FREE_BYTES:
        free = f"{space.free / 1024**2:.0f} MiB"
        message = f"the disk of '{space.folder}' has only {free} left"
        yield Problem("full_disk", str(space.folder), message, "Free some space, for example with `retrainer prune`")


def check_live(registry: Registry, *, several: bool) -> Iterator[Problem]:
    """Check that live scores can be read, and that none proves production worse than naive or its predecessor.

    Args:
        several: whether the streams of the registry are some of several.
    """
    summaries, damaged = summarize_live(registry)
    for key, error in damaged.items():
        of = of_stream(key.stream, several=several)
        message = f"cannot read the live scores of the {key.model_type} model{of}: {error.message}"
        yield Problem("damaged_scores", key.model_type, message, error.hint, key.stream)
    for key, found in summaries.items():
        worse = found.find_worse(several=several)
        if worse is None:
            continue
        than = "the naive forecast" if worse.against == "naive" else f"the previous version, '{worse.other_fit}',"
        of, argument = of_stream(key.stream, several=several), stream_argument(key.stream, several=several)
        version_id = found.version.version_id
        message = (
            f"the {key.model_type} version '{version_id}'{of} is worse than {than} on {worse.num_posts:,} live posts"
        )
        name = f"{key.model_type}{argument}"
        hint = (
            f"Run `retrainer rollback {name}` or `retrainer train {name}`; `retrainer live {name}` shows the evidence"
        )
        yield Problem("degraded", version_id, message, hint, key.stream)


def measure_space(models_dir: Path) -> DiskSpace | None:
    """Return the space on the disk of the models folder; None if it cannot be read."""
    folder = next((path for path in (models_dir, *models_dir.parents) if path.is_dir()), models_dir)
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return DiskSpace(folder, usage.free, usage.total)


def check_schedules(project: Project, schedules: Sequence[Schedule]) -> Iterator[Problem]:
    """Check that something runs the schedules, and that they train all streams."""
    several = bool(schedules) and len(project.list_streams()) > 1
    for schedule in schedules:
        if schedule.problem is not None:
            message = f"the schedule in {schedule.where} never runs: {schedule.problem}"
            yield Problem("idle_schedule", schedule.where, message, schedule.remedy)
        if several and names_no_stream(schedule.command):
            message = f"the schedule in {schedule.where} trains nothing: with several streams, it needs --all-streams"
            yield Problem("idle_schedule", schedule.where, message, schedule.replacement)


def check_database(project: Project, now: datetime) -> Iterator[Problem]:
    """Check that no other project trains with the same database, unless a store lets many machines share it."""
    if project.settings.uses_store:
        return
    for run in project.registry.list_runs_of_other_projects(now - _SHARED):
        folder = str(run.project_folder)
        message = (
            f"the project '{folder}' on '{run.host}' trains with the same database {project.registry.database.location}"
            f", last on {run.started_at:%Y-%m-%d %H:%M} UTC"
        )
        yield Problem(
            "shared_database",
            folder,
            message,
            "Give each project a database of its own (database.url), or let them share one store (models_dir)",
        )

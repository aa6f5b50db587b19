"""What the shell completes: model types, streams, versions, runs, algorithms, studies and policies."""

from __future__ import annotations

import io
import os
from contextlib import closing, redirect_stderr, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer  # noqa: TC002  Typer evaluates the annotations

from retrainer.model_types import MODEL_TYPE_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrainer.project import Project
    from retrainer.registry.registry import Registry

T = TypeVar("T")
Words = list[tuple[str, str]]  # each with its explanation
MAX_IDS = 200  # the newest of them


def complete_types(incomplete: str) -> list[str]:
    """Complete a model type."""
    return [name for name in MODEL_TYPE_NAMES if name.startswith(incomplete)]


def complete_versions(ctx: typer.Context, incomplete: str) -> Words:
    """Complete a version: an ID, or a name such as timing@production."""
    return _starting_with(incomplete, _read(ctx, _versions))


def complete_versions_and_runs(ctx: typer.Context, incomplete: str) -> Words:
    """Complete a version or the ID of a run."""
    return _starting_with(incomplete, _read(ctx, lambda *opened: [*_versions(*opened), *_runs(*opened)]))


def complete_streams(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a stream."""
    return _printable(incomplete, _read(ctx, _streams))


def complete_algorithms(incomplete: str) -> list[str]:
    """Complete the name of an installed algorithm."""
    from retrainer.entry_points import installed_algorithms  # noqa: PLC0415  needed by the shell only

    return [name for name in installed_algorithms() if name.startswith(incomplete)]


def complete_studies(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a study."""
    return _printable(incomplete, _read(ctx, _studies))


def complete_policies(incomplete: str) -> list[str]:
    """Complete a key of a policy, such as `daily: schedule_days=`."""
    from retrainer.replay.policies import policy_keys  # noqa: PLC0415  slow to import

    name, colon, keys = incomplete.partition(":")
    if not colon:
        return [f"{name or 'mine'}:"]
    given, comma, key = keys.rpartition(",")
    blank = key[: len(key) - len(key.lstrip())]
    start = f"{name}:{given}{comma}{blank}"
    known = dict.fromkeys(one for model_type in MODEL_TYPE_NAMES for one in policy_keys(model_type))
    return [f"{start}{one}=" for one in known if one.startswith(key.lstrip())]


def _versions(_: Project, registry: Registry) -> Words:
    roles = [(f"{name}@{role}", role) for name in MODEL_TYPE_NAMES for role in ("production", "previous", "latest")]
    return roles + [
        (version.version_id, f"{version.status}, trained {version.trained_at:%Y-%m-%d}")
        for version in registry.list_versions(None, MAX_IDS)
    ]


def _runs(_: Project, registry: Registry) -> Words:
    return [(run.run_id, f"{run.model_type}, {run.status}") for run in registry.list_runs(None, MAX_IDS)]


def _starting_with(incomplete: str, words: Words) -> Words:
    return [(word, explanation) for word, explanation in words if word.startswith(incomplete)]


def _printable(incomplete: str, names: list[str]) -> list[str]:
    """Return names that the user gave to something; none with characters that could control the terminal."""
    return [name for name in names if name.startswith(incomplete) and name.isprintable()][:MAX_IDS]


def _streams(project: Project, registry: Registry) -> list[str]:
    from retrainer.posts.opening import open_posts  # noqa: PLC0415  slow to import

    with closing(open_posts(project.settings.posts, registry.database, project.folder)) as posts:
        return sorted({*registry.list_streams(), *posts.table.list_streams()})


def _studies(project: Project, _: Registry) -> list[str]:
    from retrainer.tuning.study import list_studies  # noqa: PLC0415  slow to import

    return [study.name for stream in project.list_streams() for study in list_studies(project.for_stream(stream))]


def _read(ctx: typer.Context, words: Callable[[Project, Registry], list[T]]) -> list[T]:
    """Return words from the project as it is; none if that fails, since nothing must disturb the prompt."""
    with redirect_stderr(io.StringIO()), suppress(Exception):
        # Slow to import.
        import retrainer  # noqa: PLC0415
        from retrainer.registry.database import Database  # noqa: PLC0415
        from retrainer.registry.registry import Registry  # noqa: PLC0415

        project = retrainer.Project.find(Path.cwd(), os.environ, ctx.find_root().params.get("config"))
        with closing(
            Database.open_read_only(project.settings.database.url, project.folder, project.models_dir)
        ) as database:
            return words(project, Registry(database, None))
    return []

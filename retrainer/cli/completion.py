"""What the shell completes: model types, versions, runs, algorithms and policies."""

from __future__ import annotations

import os
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer  # noqa: TC002  Typer evaluates the annotations

from retrainer.model_types import MODEL_TYPE_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrainer.project import Project

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
    return _starting_with(incomplete, _read(ctx, lambda project: [*_versions(project), *_runs(project)]))


def complete_algorithms(incomplete: str) -> list[str]:
    """Complete the name of an installed algorithm."""
    from retrainer.entry_points import installed_algorithms  # noqa: PLC0415  needed by the shell only

    return [name for name in installed_algorithms() if name.startswith(incomplete)]


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


def _versions(project: Project) -> Words:
    roles = [(f"{name}@{role}", role) for name in MODEL_TYPE_NAMES for role in ("production", "previous", "latest")]
    return roles + [
        (version.version_id, f"{version.status}, trained {version.trained_at:%Y-%m-%d}")
        for version in project.registry.list_versions(None, MAX_IDS)
    ]


def _runs(project: Project) -> Words:
    return [(run.run_id, f"{run.model_type}, {run.status}") for run in project.registry.list_runs(None, MAX_IDS)]


def _starting_with(incomplete: str, words: Words) -> Words:
    return [(word, explanation) for word, explanation in words if word.startswith(incomplete)]


def _read(ctx: typer.Context, words: Callable[[Project], Words]) -> Words:
    """Return words from the project; none without one, since nothing must disturb the prompt."""
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere), suppress(Exception):
        import retrainer  # noqa: PLC0415  slow to import

        project = retrainer.Project.find(Path.cwd(), os.environ, ctx.find_root().params.get("config"))
        try:
            return words(project)
        finally:
            project.close()
    return []

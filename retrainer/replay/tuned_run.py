"""The run of a policy that tunes: at its first step and each k-th one after it, `tune --apply` in place of `train`."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from retrainer.errors import AlgorithmError, InsufficientData
from retrainer.replay.sandbox import delete_studies

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.pipeline.results import RunResult
    from retrainer.replay.policies import Policy, PolicyTuning
    from retrainer.replay.sandbox import SandboxProject
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)


def with_options(
    project: SandboxProject, model_type: ModelTypeName, algorithm: str, options: Mapping[str, Any]
) -> SandboxProject:
    """Return a sandbox on the same connections, in whose settings an algorithm has these options."""
    section = project.settings.model(model_type)
    tree = {**section.model_dump(exclude_unset=True), "algorithm": section.algorithm, algorithm: dict(options)}
    settings = project.settings.model_copy(update={f"{model_type}_model": type(section).model_validate(tree)})
    changed = replace(project, settings=settings)
    vars(changed)["registry"] = project.registry  # opened once, and closed once
    return changed


def tune_as_of(
    project: SandboxProject,
    runtime: Runtime,
    policy: Policy,
    tuning: PolicyTuning,
    model_type: ModelTypeName,
    at: datetime,
) -> RunResult | None:
    """Tune on the posts known at a time, and train the winner; None if there is no winner, so that nothing is trained.

    The trials are cached like all training, so that no study of an earlier step, or of an interrupted one, is needed.

    Raises:
        InsufficientData, AlgorithmError: the run of the winner failed.
    """
    # Late: Optuna takes long to import, and few replays tune.
    from retrainer.tuning.request import TuningRequest  # noqa: PLC0415
    from retrainer.tuning.run import tune  # noqa: PLC0415

    delete_studies(project.folder)
    request = TuningRequest(model_type, (policy.algorithm,), trials=tuning.trials, auto_promote=True)
    try:
        result = tune(project, runtime, request, at)
    except (InsufficientData, AlgorithmError) as error:
        if getattr(error, "run_id", None) is not None:
            raise
        log.debug("%s %s: not tuned: %s", f"{at:%Y-%m-%d %H:%M}", policy.name, error)
        return None
    if result.interrupted:
        raise KeyboardInterrupt
    return result.run

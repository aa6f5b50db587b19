"""Choose the model that training starts from: production, unless that would reveal held-out posts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.errors import DatabaseError, RetrainerError
from retrainer.pipeline.evaluations import trained_through
from retrainer.pipeline.loading import load_version, version_options

if TYPE_CHECKING:
    from pydantic import BaseModel

    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.algorithms.model import TrainedModel
    from retrainer.pipeline.split import Split
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WarmStart:
    """A version to start training from, and its model."""

    version_id: str
    model: TrainedModel


def find_warm_start(
    project: Project,
    runtime: Runtime,
    algorithm: LoadedAlgorithm,
    options: BaseModel,
    production: ModelVersion | None,
    split: Split,
) -> WarmStart | None:
    """Return the production version if training can start from its evaluated fit; None to start afresh.

    It must have the same algorithm and options, and none of its training posts may be held out now. So no earlier
    version that it started from was trained on a held-out post, either.
    """
    if production is None or production.algorithm != algorithm.name or not algorithm.can_warm_start:
        return None
    try:
        if version_options(project, production, algorithm) != options or _knows_held_out_posts(
            project, production, split
        ):
            return None
        model = load_version(project, runtime, production)
    except DatabaseError:
        raise  # the database failed, not the version
    except RetrainerError as error:
        log.warning("Cannot start from '%s': %s", production.version_id, error)
        return None
    log.info("Starting from '%s'", production.version_id)
    return WarmStart(production.version_id, model)


def _knows_held_out_posts(project: Project, version: ModelVersion, split: Split) -> bool:
    """Whether a version may have been trained on a post that is held out now, perhaps since it moved in time."""
    last = split.training.iloc[-1]
    if trained_through(version) > (last["created_at"].to_pydatetime(), str(last["post_id"])):
        return True
    return bool(project.posts.find_moved(version.training_began_at, trained_through(version)))

"""Step 3: train a new version and register it."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.algorithms.model import TrainedModel
from retrainer.errors import ArtifactError
from retrainer.files import private_folder, report_write_errors
from retrainer.registry.artifacts import MODEL
from retrainer.registry.staging import Staging
from retrainer.registry.tables import ModelVersion

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import pandas as pd
    from pydantic import BaseModel

    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.model_types import ModelTypeName
    from retrainer.pipeline.split import Split
    from retrainer.project import Project

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A new model, saved to a staging folder and loaded again: what is evaluated is what would be promoted.

    Attributes:
        model: the loaded model.
        staging: where its files are until the version is registered.
        files: the content of its files, by path.
        duration_seconds: how long training took.
    """

    model: TrainedModel
    staging: Staging
    files: dict[str, bytes]
    duration_seconds: float


@contextmanager
def train_candidate(
    project: Project,
    algorithm: LoadedAlgorithm,
    options: BaseModel,
    model_type: ModelTypeName,
    split: Split,
    *,
    previous: TrainedModel | None = None,
    dry_run: bool = False,
) -> Iterator[Candidate]:
    """Train on the training part and save to a staging folder, which is deleted at the end unless registered.

    Args:
        previous: the model to start from; None to start afresh.
        dry_run: the model will not be registered, so nothing is written to the models folder.

    Raises:
        InsufficientData: the posts contain nothing to learn from.
        AlgorithmError: a hook failed.
        ArtifactError: the models folder cannot be written.
    """
    log.info("Training new %s model on %d samples...", model_type, split.training_count)
    with _temporary_staging() if dry_run else project.artifacts.staging(model_type) as staging:
        candidate = fit(project, staging, algorithm, options, model_type, split.training, previous)
        log.info("Model training complete!")
        yield candidate


def fit(
    project: Project,
    staging: Staging,
    algorithm: LoadedAlgorithm,
    options: BaseModel,
    model_type: ModelTypeName,
    posts: pd.DataFrame,
    previous: TrainedModel | None,
) -> Candidate:
    """Train on posts, save to a staging folder, and load what was saved.

    Raises:
        AlgorithmError: a hook failed.
        ArtifactError: the models folder cannot be written.
    """
    folder = staging.folder / MODEL
    started = time.monotonic()
    trained = algorithm.train(posts, options, model_type, None if previous is None else previous.model)
    duration = time.monotonic() - started
    with report_write_errors(folder, ArtifactError):
        folder.mkdir()
        files = {name: (folder / name).read_bytes() for name in algorithm.save(trained, folder)}
    loaded = algorithm.load(files)
    model = TrainedModel(algorithm, options, loaded, model_type, project.semantic_model(model_type))
    return Candidate(model, staging, files, duration)


@contextmanager
def _temporary_staging() -> Iterator[Staging]:
    with private_folder({}) as folder:
        yield Staging(folder)


def describe(project: Project, candidate: Candidate, split: Split, version_id: str, now: datetime) -> ModelVersion:
    """Return the row of a new version, not recorded yet and without the hash of its manifest."""
    model = candidate.model
    last = split.training.iloc[-1]
    return ModelVersion(
        version_id=version_id,
        stream=project.stream,
        model_type=model.model_type,
        algorithm=model.algorithm.name,
        trained_at=now,
        status="trained",
        is_production=False,
        num_training_samples=split.training_count,
        training_duration_seconds=candidate.duration_seconds,
        hyperparameters=model.options.model_dump(mode="json"),
        file_path=project.version_path(model.model_type, version_id),
        trained_through=last["created_at"].to_pydatetime(),
        trained_through_post_id=str(last["post_id"]),
        pinned=False,
    )


def register(
    project: Project, candidate: Candidate, split: Split, run_id: str, now: datetime, *, started_from: str | None
) -> ModelVersion:
    """Record the model as a new version with status `trained`, and move its files into place.

    Args:
        started_from: the version whose model the training started from, if any.

    Raises:
        ArtifactError: the models folder cannot be written.
    """
    model = candidate.model
    version_id = project.registry.new_version_id(model.algorithm.name, model.model_type, now)
    version = describe(project, candidate, split, version_id, now)
    version.started_from = started_from
    files = project.artifacts.stage_version(candidate.staging, version, candidate.files)
    with candidate.staging.keep_if_recorded():
        project.registry.register_version(version, files, run_id)
    project.artifacts.publish(candidate.staging)
    log.info("Trained model saved: %s", version.file_path)
    log.info("Model version registered: %s", version_id)
    return version

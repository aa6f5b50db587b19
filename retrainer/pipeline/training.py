"""Step 3: train a new version and register it."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.pipeline.loading import TrainedModel
from retrainer.registry.artifacts import report_write_errors
from retrainer.registry.tables import ModelVersion

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from pydantic import BaseModel

    from retrainer.algorithms.manager import LoadedAlgorithm
    from retrainer.model_types import ModelTypeName
    from retrainer.pipeline.split import Split
    from retrainer.project import Project

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A new model, saved to a staging folder and read back: what is evaluated is what would go live.

    Attributes:
        ready: the model as read back.
        folder: the staging folder.
        written: the names of its files.
        duration_seconds: how long training took.
    """

    ready: TrainedModel
    folder: Path
    written: list[str]
    duration_seconds: float


@contextmanager
def train_candidate(
    project: Project, algorithm: LoadedAlgorithm, options: BaseModel, model_type: ModelTypeName, split: Split
) -> Iterator[Candidate]:
    """Train on the training part and save to a staging folder, which is gone at the end unless it was registered.

    Raises:
        InsufficientData: the posts carry nothing to learn from.
        AlgorithmError: a hook failed.
        ArtifactError: the models folder cannot be written.
    """
    log.info("Training new %s model on %d samples...", model_type, split.training_count)
    with project.artifacts.staging() as folder:
        started = time.monotonic()
        model = algorithm.train(split.training, options, model_type)
        duration = time.monotonic() - started
        with report_write_errors(folder):
            written = algorithm.save(model, folder)
        log.info("Model training complete!")
        semantic_model = project.semantic_model(model_type)
        ready = TrainedModel(algorithm, options, algorithm.load(folder), model_type, semantic_model)
        yield Candidate(ready, folder, written, duration)


def describe(project: Project, trained: Candidate, split: Split, version_id: str, now: datetime) -> ModelVersion:
    """Return the row of a new version, not recorded yet and without the hash of its files."""
    ready = trained.ready
    last = split.training.iloc[-1]
    return ModelVersion(
        version_id=version_id,
        model_type=ready.model_type,
        algorithm=ready.algorithm.name,
        trained_at=now,
        status="trained",
        is_production=False,
        num_training_samples=split.training_count,
        training_duration_seconds=trained.duration_seconds,
        hyperparameters=ready.options.model_dump(mode="json"),
        file_path=f"{project.settings.models_dir}/{ready.model_type}/{version_id}",
        trained_through=last["created_at"].to_pydatetime(),
        trained_through_post_id=str(last["post_id"]),
        pinned=False,
    )


def register(project: Project, trained: Candidate, split: Split, run_id: str, now: datetime) -> ModelVersion:
    """Move the model to its place and record it as a new version of status `trained`.

    Raises:
        ArtifactError: the models folder cannot be written; nothing is recorded then.
    """
    ready = trained.ready
    version_id = project.registry.new_version_id(ready.algorithm.name, ready.model_type, now)
    version = describe(project, trained, split, version_id, now)
    stored = project.artifacts.store(trained.folder, ready.model_type, version_id, trained.written)
    version.manifest_sha256 = stored.manifest_sha256
    log.info("Trained model saved: %s", version.file_path)
    try:
        project.registry.register_version(version, stored.files, run_id)
    except BaseException:
        project.artifacts.discard(ready.model_type, version_id)
        raise
    log.info("Model version registered: %s", version_id)
    return version

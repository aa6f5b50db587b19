"""The live fit: a version fitted again, by the same algorithm with the same options, on all posts."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrainer.errors import ArtifactError, InsufficientData
from retrainer.model_types import get_model_type
from retrainer.model_types.base import Origins, utc_times
from retrainer.pipeline.training import fit
from retrainer.registry.refits import Refit, new_refit_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import pandas as pd

    from retrainer.algorithms.model import TrainedModel
    from retrainer.project import Project
    from retrainer.registry.refits import NewRefit
    from retrainer.registry.staging import Staging
    from retrainer.registry.tables import ModelVersion

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StagedRefit:
    """A live fit that was checked, and whose files are staged.

    Attributes:
        new_refit: what the registry records with the promotion.
        staging: where the files are until then.
    """

    new_refit: NewRefit
    staging: Staging

    def publish(self, project: Project) -> None:
        """Move the files into place, after they were recorded. What is left is moved by the next run."""
        try:
            project.artifacts.publish(self.staging)
        except ArtifactError as error:  # the database has a copy, unless they are too large
            log.warning("The files of the live fit are not in place yet: %s", error)


@contextmanager
def fit_again(
    project: Project,
    version: ModelVersion,
    evaluated: TrainedModel,
    posts: pd.DataFrame,
    previous: TrainedModel | None,
    now: datetime,
) -> Iterator[StagedRefit]:
    """Fit a version again on all posts, check that the fit loads and forecasts, and stage its files.

    They are deleted at the end, unless they were published or may have been recorded.

    Args:
        evaluated: its evaluated fit.
        previous: the model that this one was started from, if any.

    Raises:
        InsufficientData: the posts contain nothing to learn from.
        AlgorithmError: a hook failed.
        ArtifactError: the models folder cannot be written.
    """
    log.info("Fitting '%s' again on all %d posts...", version.version_id, len(posts))
    model_type = version.model_type_name
    if len(posts) < 2:  # noqa: PLR2004  a gap needs two posts
        hint = "Import posts first, or promote it as it is with --no-refit"
        raise InsufficientData(f"cannot fit '{version.version_id}' again: only {len(posts)} posts", hint=hint)
    get_model_type(model_type).require_trainable(posts)
    with project.artifacts.staging(model_type) as staging:
        candidate = fit(project, staging, evaluated.algorithm, evaluated.options, model_type, posts, previous)
        if not evaluated.algorithm.description.paid:
            require_working_forecast(candidate.model, posts)
        last = posts.iloc[-1]
        refit = Refit(
            refit_id=new_refit_id(now),
            num_samples=len(posts),
            through=last["created_at"].to_pydatetime(),
            through_post_id=str(last["post_id"]),
            manifest_sha256="",
        )
        staged = StagedRefit(project.artifacts.stage_refit(staging, version, candidate.files, refit), staging)
        with staging.keep_if_recorded():
            yield staged


def require_working_forecast(model: TrainedModel, posts: pd.DataFrame) -> None:
    """Make one forecast from the last post, if there is one.

    Raises:
        AlgorithmError: it fails.
    """
    if posts.empty:
        return
    last = len(posts) - 1
    times = utc_times(posts)[[last]]
    model.predict(posts, Origins(times, np.array([last]), target_time=times))

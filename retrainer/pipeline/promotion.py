"""Step 6: promote or not. Also promotion and rollback by hand."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import numpy as np

from retrainer.algorithms.events import Event
from retrainer.errors import ArtifactError, ConfigError
from retrainer.model_types.base import Origins, utc_times
from retrainer.pipeline.loading import load_version
from retrainer.pipeline.split import load_posts
from retrainer.registry.promotions import Change, Decision

if TYPE_CHECKING:
    from datetime import datetime

    from retrainer.algorithms.model import TrainedModel
    from retrainer.evaluation.comparison import Comparison
    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)


def decide(model_type: ModelTypeName, comparison: Comparison | None, *, auto_promote: bool) -> Decision:
    """Decide whether to promote a candidate whose evaluation succeeded.

    Args:
        comparison: the candidate compared with production; None if there is no production version yet.
        auto_promote: whether candidates may be promoted automatically.
    """
    suffix = "" if auto_promote else ", but automatic promotion is off"
    if comparison is None:
        reason = f"First {model_type} model: there is no production version to compare with"
        return Decision(auto_promote, reason + suffix, expected_production=None)
    wanted = comparison.recommendation == "promote"
    return Decision(
        promote=wanted and auto_promote,
        reason=comparison.reason + (suffix if wanted else ""),
        expected_production=comparison.version_a,
        production_score=comparison.metrics_a["overall_score"] if comparison.metrics_a else None,
        improvement_percentage=comparison.improvement_percentage,
        evidence=comparison.document(),
    )


def promote_version(project: Project, runtime: Runtime, version_id: str, reason: str, now: datetime) -> Change | None:
    """Promote a version by hand, after verifying its files and loading its model.

    Returns:
        The change; None if the version was in production already.

    Raises:
        UnknownName: there is no such version.
        ArtifactError, AlgorithmError: it cannot be loaded.
        PromotionRefused: its evaluation failed, or production has changed meanwhile.
    """
    project.artifacts.require_own_folder()
    version = project.registry.get_version(version_id)
    production = project.registry.get_production(version.model_type_name)
    expected = production.version_id if production else None
    load_version(project, runtime, version)
    change = project.registry.promote(version_id, expected, reason, now)
    if change is not None:
        publish_change(project, runtime, "promotion", change)
    return change


def roll_back(
    project: Project,
    runtime: Runtime,
    model_type: ModelTypeName,
    reason: str,
    now: datetime,
    *,
    to: str | None = None,
    hold: bool = True,
) -> Change:
    """Undo the latest promotion that was not undone yet. The version to return to must load and forecast first.

    Args:
        to: undo promotions until this version is in production again.
        hold: stop automatic promotion of the model type until it is released.

    Raises:
        UnknownName: there is no version `to`.
        NothingToRollBack: there is no promotion to undo, or `to` was not in production before.
        ArtifactError, AlgorithmError: the version to return to cannot be loaded or cannot forecast.
        ProductionChanged: another process has changed production meanwhile.
    """
    project.artifacts.require_own_folder()
    if to is not None:
        project.registry.get_version(to)
    promotions = project.registry.find_promotions_to_undo(model_type, to)
    target = project.registry.get_version(promotions[-1].from_version_id or "")
    _require_working_forecast(project, load_version(project, runtime, target), now)
    change = project.registry.roll_back(promotions, reason, now, hold=hold)
    publish_change(project, runtime, "rollback", change)
    return change


def publish_change(project: Project, runtime: Runtime, kind: Literal["promotion", "rollback"], change: Change) -> None:
    """Update the production link and publish the event, after a change of production was committed."""
    try:
        project.production_links.update()
    except (ArtifactError, ConfigError) as error:
        # The database decides what is in production; the next command that changes something repairs the link.
        log.warning("Production changed, but its link could not be updated: %s", error)
    runtime.events.publish(
        Event(kind, change.model_type, change.to_version, change.reason, from_version_id=change.from_version)
    )


def _require_working_forecast(project: Project, model: TrainedModel, now: datetime) -> None:
    """Make one forecast, unless forecasts cost money or there are no posts."""
    if model.algorithm.description.paid:
        return
    posts = load_posts(project, model.model_type, now)
    if posts.empty:
        return
    last = len(posts) - 1
    times = utc_times(posts)[[last]]
    model.predict(posts, Origins(times, np.array([last]), target_time=times))

"""Step 6: promote or not; and, by hand, promote and roll back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from retrainer.algorithms.events import publish
from retrainer.errors import ArtifactError
from retrainer.model_types.base import Origins, utc_times
from retrainer.pipeline.loading import load_version
from retrainer.pipeline.split import load_posts
from retrainer.registry.promotions import Change, Decision

if TYPE_CHECKING:
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.pipeline.comparing import Comparison
    from retrainer.pipeline.loading import TrainedModel
    from retrainer.project import Project

log = logging.getLogger(__name__)


def decide(model_type: ModelTypeName, comparison: Comparison | None, *, auto_promote: bool) -> Decision:
    """Decide about a candidate whose evaluation succeeded.

    Args:
        comparison: the candidate held against production; None where there is no production version yet.
        auto_promote: whether a candidate may go live without a person.
    """
    if comparison is None:
        reason = f"First {model_type} model: there is no production version to compare with"
        return Decision(auto_promote, _unless_off(reason, auto_promote), expected_production=None)
    wanted = comparison.recommendation == "promote"
    production_score = comparison.metrics_a["overall_score"] if comparison.metrics_a else None
    return Decision(
        promote=wanted and auto_promote,
        reason=_unless_off(comparison.reason, auto_promote) if wanted else comparison.reason,
        expected_production=comparison.version_a,
        production_score=production_score,
        improvement_percentage=comparison.improvement_percentage,
        evidence=comparison.figures(),
    )


def _unless_off(reason: str, auto_promote: bool) -> str:
    return reason if auto_promote else f"{reason}, but automatic promotion is off"


def promote_version(project: Project, version_id: str, reason: str, now: datetime) -> Change | None:
    """Put a version live, after its files were checked and its model was loaded.

    Returns:
        The change; None where the version was live already.

    Raises:
        UnknownName: there is no such version.
        ArtifactError, AlgorithmError: it cannot be loaded.
        PromotionRefused: its evaluation failed, or production changed meanwhile.
    """
    version = project.registry.get_version(version_id)
    production = project.registry.get_production(version.model_type_name)
    expected = production.version_id if production else None
    load_version(project, version)
    change = project.registry.promote(version_id, expected, reason, now)
    if change is not None:
        publish_change(project, "promotion", change)
    return change


def roll_back(
    project: Project,
    model_type: ModelTypeName,
    reason: str,
    now: datetime,
    *,
    to: str | None = None,
    hold: bool = True,
) -> Change:
    """Undo the latest promotion not undone yet; the version to return to must load and forecast first.

    Args:
        to: undo as many promotions as it takes until this version is live again.
        hold: stop automatic promotion of the type until it is released.

    Raises:
        UnknownName: there is no version `to`.
        NothingToRollBack: no promotion is left to undo, or `to` was not live before.
        ArtifactError, AlgorithmError: the version to return to cannot be loaded, or cannot forecast.
        ProductionChanged: another process changed production meanwhile.
    """
    if to is not None:
        project.registry.get_version(to)
    promotions = project.registry.find_promotions_to_undo(model_type, to)
    target = project.registry.get_version(promotions[-1].from_version_id or "")
    _require_working_forecast(project, load_version(project, target), now)
    change = project.registry.roll_back(promotions, reason, now, hold=hold)
    publish_change(project, "rollback", change)
    return change


def publish_change(project: Project, kind: str, change: Change) -> None:
    """Set the production link and tell the observers, after a change of production was committed."""
    try:
        project.artifacts.link_production()
    except ArtifactError as error:
        # What is live is decided by the database; the link is set again by the next command that changes something.
        log.warning("Production changed, but its link could not be set: %s", error)
    publish(
        {
            "kind": kind,
            "model_type": change.model_type,
            "version_id": change.to_version,
            "from_version_id": change.from_version,
            "reason": change.reason,
        }
    )


def _require_working_forecast(project: Project, ready: TrainedModel, now: datetime) -> None:
    """Make one forecast, unless forecasts cost money or there is no post to make one from."""
    if ready.algorithm.description.paid:
        return
    posts = load_posts(project, ready.model_type, now)
    if posts.empty:
        return
    last = len(posts) - 1
    times = utc_times(posts)[[last]]
    ready.predict(posts, Origins(times, np.array([last]), target_time=times))

"""Step 6: promote or not. Also promotion and rollback by hand."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from retrainer.algorithms.events import Event
from retrainer.errors import (
    AlgorithmError,
    ArtifactError,
    InsufficientData,
    NothingToRollBack,
    RetrainerError,
    UnknownName,
)
from retrainer.pipeline.loading import load_live_fit, load_version
from retrainer.pipeline.refit import fit_again, require_working_forecast
from retrainer.pipeline.split import load_posts
from retrainer.registry.promotions import Change, Decision, require_promotable

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from retrainer.algorithms.model import TrainedModel
    from retrainer.evaluation.comparison import Comparison
    from retrainer.model_types import ModelTypeName
    from retrainer.pipeline.run_context import RunContext
    from retrainer.project import Project
    from retrainer.registry.runs import FinishedRun
    from retrainer.registry.tables import ModelVersion
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


def complete_run(
    context: RunContext,
    decision: Decision,
    version: ModelVersion,
    model: TrainedModel,
    posts: pd.DataFrame,
    previous: TrainedModel | None,
) -> tuple[FinishedRun, Decision]:
    """Carry out the decision of a run; with `refit`, only after the version was fitted again on all posts.

    Args:
        model: the evaluated fit of the version.
        posts: all posts known to the run.
        previous: the model that training started from, if any.

    Returns:
        The outcome, and the decision: if the version cannot be fitted again, it is not to promote it.
    """
    project, now = context.project, context.stopwatch.now
    run_id = context.run_id or ""  # None only for a dry run, which decides nothing
    with ExitStack() as stack:
        staged = None
        if decision.promote and context.settings.refits(context.model_type):
            try:
                staged = stack.enter_context(fit_again(project, version, model, posts, previous, now()))
            except (AlgorithmError, ArtifactError, InsufficientData) as error:
                problem = str(error)
                log.exception("Cannot fit '%s' again: %s", version.version_id, problem)  # no traceback by default
                reason = f"{decision.reason}, but it cannot be fitted again on all posts: {error.message}"
                decision = replace(decision, promote=False, reason=reason, refit_failed=True)
        new_refit = staged.new_refit if staged else None
        finished = context.registry.complete_run(run_id, decision, now(), new_refit, context.spending)
        if staged is not None and finished.change is not None:
            staged.publish(project)
    return finished, decision


def promote_version(
    project: Project, runtime: Runtime, version_id: str, reason: str, now: datetime, *, refit: bool | None = None
) -> Change | None:
    """Promote a version by hand, after verifying its files and loading its model.

    Args:
        refit: whether to fit it again on all posts up to now before it goes live, or else to let it go live as it is:
            with its last live fit, if it has one. None for the setting `retraining.refit`.

    Returns:
        The change; None if the version was in production already.

    Raises:
        UnknownName: there is no such version.
        ArtifactError, AlgorithmError: it cannot be loaded, or cannot be fitted again.
        InsufficientData: there are too few posts to fit it again.
        PromotionRefused: its evaluation failed, or production has changed meanwhile.
    """
    project.artifacts.require_own_folder()
    version = project.registry.get_version(version_id)
    model_type = version.model_type_name
    if version.is_production:
        return None
    require_promotable(version)
    production = project.registry.get_production(model_type)
    expected = production.version_id if production else None
    with ExitStack() as stack:
        staged = None
        if project.settings.retraining.refits(model_type) if refit is None else refit:
            evaluated = load_version(project, runtime, version)
            previous = load_start(project, runtime, version)
            posts = load_posts(project, model_type, now)
            staged = stack.enter_context(fit_again(project, version, evaluated, posts, previous, now))
        else:
            load_live_fit(project, runtime, version)
        change = project.registry.promote(version_id, expected, reason, now, staged.new_refit if staged else None)
        if staged is not None and change is not None:
            staged.publish(project)
    if change is not None:
        publish_change(project, runtime, "promotion", change)
    return change


def load_start(project: Project, runtime: Runtime, version: ModelVersion) -> TrainedModel | None:
    """Load the model that the training of a version started from, if any.

    Raises:
        ArtifactError: it is not there any more.
    """
    if version.started_from is None:
        return None
    try:
        return load_version(project, runtime, project.registry.get_version(version.started_from))
    except (UnknownName, ArtifactError) as error:
        raise ArtifactError(
            f"cannot fit '{version.version_id}' again as it was trained, starting from '{version.started_from}': "
            f"{error.message}",
            hint="Promote it as it is with --no-refit",
        ) from error


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
    """Undo the latest promotion that was not undone yet. The fit that was live before must load and forecast first.

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
    if to is not None and (stream := project.registry.get_version(to).stream) != project.stream:
        raise NothingToRollBack(f"cannot roll back to '{to}': it belongs to the stream '{stream}'")
    promotions = project.registry.find_promotions_to_undo(model_type, to)
    require_working_fit(project, runtime, project.registry.get_version_before(promotions[-1]), now)
    change = project.registry.roll_back(promotions, reason, now, hold=hold)
    publish_change(project, runtime, "rollback", change)
    return change


def require_working_fit(project: Project, runtime: Runtime, version: ModelVersion, now: datetime) -> None:
    """Check that the live fit of a version loads and, if its forecasts cost nothing, forecasts.

    Raises:
        RetrainerError: it does not.
    """
    model = load_live_fit(project, runtime, version)
    if not model.algorithm.description.paid:
        require_working_forecast(model, load_posts(project, version.model_type_name, now))


def publish_change(project: Project, runtime: Runtime, kind: Literal["promotion", "rollback"], change: Change) -> None:
    """Update the production link and publish the event, after a change of production was committed."""
    try:
        project.production_links.update()
    except RetrainerError as error:  # such as a database that has just gone: the change is committed
        # The database decides what is in production; the next command that changes something repairs the link.
        log.warning("Production changed, but its link could not be updated: %s", error)
    runtime.events.publish(
        Event(
            kind,
            change.model_type,
            change.to_version,
            change.reason,
            from_version_id=change.from_version,
            stream=change.stream,
        )
    )

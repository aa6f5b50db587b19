"""One run: the seven steps from the latest posts to a better version in production."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from retrainer.algorithms.budget import Budget
from retrainer.algorithms.events import Event
from retrainer.errors import MissingCredentials, RetrainerError, wrap_unexpected
from retrainer.evaluation.comparison import MIN_COMPARED_POSTS
from retrainer.logs import run_log_context
from retrainer.model_types import get_model_type
from retrainer.model_types.embeddings import load_semantic_model
from retrainer.pipeline.comparing import compare_with_production
from retrainer.pipeline.evaluations import record, require_held_out_window
from retrainer.pipeline.loading import is_paid, load_version, version_options
from retrainer.pipeline.promotion import complete_run, decide, publish_change
from retrainer.pipeline.results import Failure, RunResult
from retrainer.pipeline.retention import archive_old_versions
from retrainer.pipeline.run_context import RunContext, close_as_failed, start_run, track_run
from retrainer.pipeline.split import load_and_split
from retrainer.pipeline.training import describe, register, train_candidate
from retrainer.pipeline.tuned_options import load_algorithm_of_run
from retrainer.pipeline.warm_start import find_warm_start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from pydantic import BaseModel

    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.evaluation.comparison import Comparison
    from retrainer.evaluation.evaluate import Evaluation
    from retrainer.model_types import ModelTypeName
    from retrainer.pipeline.split import Split
    from retrainer.pipeline.training import Candidate
    from retrainer.pipeline.tuned_options import TunedOptions
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion, TrainingRun
    from retrainer.runtime import Runtime, Stopwatch

log = logging.getLogger(__name__)

RULE = "=" * 60


def retrain(
    project: Project,
    runtime: Runtime,
    model_type: ModelTypeName,
    now: datetime,
    *,
    algorithm: str | None = None,
    auto_promote: bool | None = None,
    as_of: bool = False,
    wait_seconds: float = 0,
    opened: TrainingRun | None = None,
    production: ModelVersion | None = None,
    tuned: TunedOptions | None = None,
) -> RunResult:
    """Retrain one model type: all seven steps, recorded from start to decision.

    Args:
        now: the time that the run counts from; no later post is used.
        algorithm: overrides the configured algorithm.
        auto_promote: overrides `retraining.auto_promote`.
        as_of: whether `now` is a past time chosen by the user; recorded with the run.
        wait_seconds: how long to wait for another run of this model type to end.
        opened: a run that was opened already; None to start a new one.
        production: the version in production, if it was read just now.
        tuned: the algorithm and options to train with, in place of the configured ones and of `algorithm`.

    Raises:
        RunInProgress: another run of this model type is in progress.
        ConfigError: the models folder belongs to another database.
        RetrainerError: the run failed; this is recorded, and production is unchanged.
    """
    project.artifacts.require_own_folder()
    chosen, options = load_algorithm_of_run(project.settings, runtime, model_type, algorithm, tuned)
    stopwatch = runtime.stopwatch(now)
    _log_banner(f"{model_type.upper()} MODEL RETRAINING")
    if as_of and _auto_promote(project, auto_promote):
        log.warning("This run is as of %s UTC, but a promotion takes effect now", f"{now:%Y-%m-%d %H:%M}")
    run = opened or start_run(project, model_type, chosen, stopwatch, as_of=as_of, wait_seconds=wait_seconds)
    with track_run(project, runtime, run, stopwatch) as context:
        production = production or project.registry.get_production(model_type)
        _require_ready(context, chosen, options, production)
        # 1 and 2: load the latest posts and split them by time
        split = _load_and_split(context, now)
        project.registry.record_split(run.run_id, split.training_count, split.test_count)
        # 3: train a new version
        start = find_warm_start(project, runtime, chosen, options, production, split)
        previous = None if start is None else start.model
        with train_candidate(project, chosen, options, model_type, split, previous=previous) as candidate:
            started_from = None if start is None else start.version_id
            version = register(project, candidate, split, run.run_id, stopwatch.now(), started_from=started_from)
        # 4: forecast the test posts and score the forecasts
        evaluation = _evaluate_and_record(context, candidate, split, version)
        # 5: compare with production, which may have changed during a long training, on the same posts
        production = project.registry.get_production(model_type)
        comparison = _compare(context, production, candidate, split, version, evaluation)
        if production is not None and comparison is not None:
            _record_comparison(context, production, version, evaluation, comparison)
        # 6: promote or not
        log.info("Checking if new model should be promoted...")
        decision = decide(model_type, comparison, auto_promote=_auto_promote(project, auto_promote))
        if tuned is not None:
            decision = tuned.explain(decision)
        finished, decision = complete_run(context, decision, version, candidate.model, split.posts, previous)
    # The decision is committed; nothing below can change it.
    with run_log_context(run.run_id):
        if finished.change is not None:
            publish_change(project, runtime, "promotion", finished.change)
        _log_decision(finished.run)
        # 7: archive old versions
        _archive(project, model_type, stopwatch)
        _publish_completion(runtime, finished.run)
    return RunResult(
        model_type=model_type,
        algorithm=chosen.name,
        run=finished.run,
        evaluation=evaluation,
        comparison=comparison,
        decision=decision,
        race_lost=finished.race_lost,
        stream=project.stream,
    )


def retrain_opened_run(
    project: Project, runtime: Runtime, run_id: str, now: datetime, *, auto_promote: bool | None = None
) -> RunResult:
    """Retrain in a run that the parent process opened for this one, with the recorded algorithm.

    Raises:
        UnknownName: there is no such run.
        RunInProgress: it was closed meanwhile or belongs to another process.
        RetrainerError: the run failed; this is recorded.
    """
    run = project.registry.take_over_run(run_id)
    try:
        return retrain(
            project,
            runtime,
            run.model_type_name,
            now,
            algorithm=run.algorithm,
            auto_promote=auto_promote,
            opened=run,
        )
    except BaseException as error:
        close_as_failed(project.registry, run, error, now)  # if it failed before it was tracked
        raise


def dry_run(
    project: Project,
    runtime: Runtime,
    model_type: ModelTypeName,
    now: datetime,
    *,
    algorithm: str | None = None,
    auto_promote: bool | None = None,
    tuned: TunedOptions | None = None,
) -> RunResult:
    """Train, evaluate and compare like `retrain`, and return what would be decided, without recording anything.

    Paid forecasts are not made; evaluation, comparison and decision are then None.
    """
    chosen, options = load_algorithm_of_run(project.settings, runtime, model_type, algorithm, tuned)
    _log_banner(f"{model_type.upper()} MODEL RETRAINING (DRY RUN: NOTHING IS RECORDED)")
    context = RunContext(project, runtime, model_type, runtime.stopwatch(now), Budget())
    production = project.registry.get_production(model_type)
    _require_ready(context, chosen, options, production)
    split = _load_and_split(context, now)
    start = find_warm_start(project, runtime, chosen, options, production, split)
    previous = None if start is None else start.model
    with train_candidate(project, chosen, options, model_type, split, previous=previous, dry_run=True) as candidate:
        production = project.registry.get_production(model_type)  # it may have changed during a long training
        version = describe(project, candidate, split, "(not recorded)", now)
        if costs_money(runtime, chosen, production):
            _log_cost_estimate(context, candidate, split, version, production)
            return RunResult(model_type=model_type, algorithm=chosen.name, stream=project.stream)
        evaluation = _evaluate(context, candidate, split, version)
        comparison = _compare(context, production, candidate, split, version, evaluation)
    decision = decide(model_type, comparison, auto_promote=_auto_promote(project, auto_promote))
    if tuned is not None:
        decision = tuned.explain(decision)
    log.info("It would %sbe promoted. Reason: %s", "" if decision.promote else "not ", decision.reason)
    return RunResult(
        model_type=model_type,
        algorithm=chosen.name,
        evaluation=evaluation,
        comparison=comparison,
        decision=decision,
        stream=project.stream,
    )


def retrain_each(
    project: Project, model_types: Sequence[ModelTypeName], retrain_one: Callable[[ModelTypeName], RunResult]
) -> list[RunResult | Failure]:
    """Retrain several model types one after another; a failure of one does not stop the others.

    Args:
        retrain_one: retrains one model type: `retrain` or `dry_run` with its arguments.
    """
    outcomes: list[RunResult | Failure] = []
    settings = project.settings.retraining
    for model_type in model_types:
        if not settings.is_enabled(model_type):
            key = settings.disabling_key(model_type)
            log.info("Retraining of the %s model is disabled (%s is false)", model_type, key)
            continue
        try:
            outcomes.append(retrain_one(model_type))
        except Exception as error:
            failure = error if isinstance(error, RetrainerError) else wrap_unexpected(error)
            run_id = getattr(error, "run_id", None)
            with run_log_context(run_id):
                # The traceback is shown with --traceback only.
                log.exception("Model training failed: %s [%s, %s]", failure, model_type, project.folder)
            failed = project.registry.get_run(run_id) if run_id else None
            outcomes.append(Failure(model_type, failure, failed, project.stream))
    return outcomes


def _require_ready(
    context: RunContext, chosen: LoadedAlgorithm, options: BaseModel, production: ModelVersion | None
) -> None:
    """Check, before any work starts, that candidate and production could forecast and be scored."""
    chosen.check_ready(options)
    semantic_model = context.project.semantic_model(context.model_type)
    if semantic_model is not None:
        load_semantic_model(semantic_model)
    if production is None:
        return
    try:
        algorithm = context.runtime.algorithms(production.algorithm, context.model_type)
        algorithm.check_ready(version_options(context.project, production, algorithm))
    except MissingCredentials:
        raise
    except RetrainerError as error:  # reported by the comparison; the candidate is trained all the same
        log.debug("Production is not ready: %s", error)


def costs_money(runtime: Runtime, chosen: LoadedAlgorithm, production: ModelVersion | None) -> bool:
    """Whether a run makes paid forecasts, by the algorithm chosen or the one in production."""
    try:
        return chosen.description.paid or (production is not None and is_paid(runtime, production))
    except RetrainerError:  # reported by the comparison
        return False


def _auto_promote(project: Project, override: bool | None) -> bool:
    return project.settings.retraining.auto_promote if override is None else override


def _load_and_split(context: RunContext, now: datetime) -> Split:
    """Steps 1 and 2."""
    log.info("Loading and splitting data...")
    return load_and_split(context.project, context.model_type, now)


def _evaluate(context: RunContext, candidate: Candidate, split: Split, version: ModelVersion) -> Evaluation:
    """Step 4."""
    log.info("Evaluating model on test set...")
    model_type = context.model_type
    max_predictions = context.settings.max_predictions(model_type)
    if max_predictions < MIN_COMPARED_POSTS:
        log.warning(
            "evaluation_max_predictions is %d: with fewer than %d forecasts production is never replaced",
            max_predictions,
            MIN_COMPARED_POSTS,
        )
    window = require_held_out_window(
        context.project, split.posts, version, max_predictions, context.settings.origin(model_type)
    )
    evaluation = context.evaluate(candidate.model, split.posts, window)
    log.info("%s", get_model_type(model_type).summary_line(evaluation.metrics))
    naive_score = evaluation.naive_metrics["overall_score"]
    log.info("Naive forecast: %.4f | Skill: %+.3f", naive_score, evaluation.metrics["skill"])
    return evaluation


def _evaluate_and_record(context: RunContext, candidate: Candidate, split: Split, version: ModelVersion) -> Evaluation:
    try:
        evaluation = _evaluate(context, candidate, split, version)
    except BaseException:
        context.registry.mark_evaluated(version.version_id, succeeded=False)
        raise
    record(context.project, version, evaluation, context.stopwatch.now(), context.run_id)
    return evaluation


def _compare(
    context: RunContext,
    production: ModelVersion | None,
    candidate: Candidate,
    split: Split,
    version: ModelVersion,
    evaluation: Evaluation,
) -> Comparison | None:
    """Step 5. Return None if there is no production version yet."""
    if production is None:
        return None
    comparison = compare_with_production(context, split.posts, production, version, candidate.model, evaluation)
    if comparison.production_broken:
        log.warning("%s", comparison.reason)
    if comparison.metrics_a and comparison.metrics_b:
        old, new = comparison.metrics_a["overall_score"], comparison.metrics_b["overall_score"]
        log.info("On the same %d posts: production %.4f, new model %.4f", comparison.num_predictions, old, new)
    return comparison


def _record_comparison(
    context: RunContext,
    production: ModelVersion,
    version: ModelVersion,
    evaluation: Evaluation,
    comparison: Comparison,
) -> None:
    """Record production's evaluation, and the candidate's if it was repeated on a later window."""
    for row, side in ((production, comparison.evaluation_a), (version, comparison.evaluation_b)):
        if side is not None and side is not evaluation:
            now = context.stopwatch.now()
            record(context.project, row, side, now, context.run_id, of_candidate=row is version)


def _log_cost_estimate(
    context: RunContext, candidate: Candidate, split: Split, version: ModelVersion, production: ModelVersion | None
) -> None:
    """Log what the evaluation that a dry run skips would cost."""
    model_type = context.model_type
    max_predictions = min(context.settings.max_predictions(model_type), split.test_count)
    log.info("Not evaluated: up to %d paid forecasts of each version would be needed", max_predictions)
    window = require_held_out_window(context.project, split.posts, version, max_predictions)
    origins = window.origins_for(model_type, split.posts)
    models = {"The new version": candidate.model}
    if production is not None:
        try:
            models["Production"] = load_version(context.project, context.runtime, production)
        except RetrainerError as error:
            log.debug("Cannot load production: %s", error)
    for name, model in models.items():
        cost = model.algorithm.estimate(model.model, split.posts, origins, model.options, model_type)
        if cost is not None:
            log.info("%s would cost at most $%.4f (%d calls)", name, cost.cost_usd, cost.calls)


def _log_decision(run: TrainingRun) -> None:
    if run.promoted_to_production:
        log.info("✓ Model promoted to production! Reason: %s", run.promotion_reason)
        return
    log.info("✗ Model not promoted. Reason: %s", run.promotion_reason)
    log.info("Manual review recommended")


def _archive(project: Project, model_type: ModelTypeName, stopwatch: Stopwatch) -> None:
    """Step 7. The run is complete: whatever fails here is left to the next run."""
    try:
        archive_old_versions(project, model_type, stopwatch.now())
    except RetrainerError as error:
        log.warning("Cannot archive old versions: %s", error)


def _publish_completion(runtime: Runtime, run: TrainingRun) -> None:
    runtime.events.publish(
        Event("run", run.model_type_name, run.model_version_id, run.promotion_reason, run=run, stream=run.stream)
    )
    _log_banner(f"{run.model_type.upper()} MODEL RETRAINING COMPLETE")
    log.info("Duration: %.1f seconds", run.duration_seconds or 0)


def _log_banner(title: str) -> None:
    for line in (RULE, title, RULE):
        log.info("%s", line)

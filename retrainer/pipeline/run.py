"""One run: the seven steps from the latest posts to a better version in production."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.algorithms.events import publish
from retrainer.algorithms.manager import load_algorithm
from retrainer.errors import MissingCredentials, RetrainerError, wrap_unexpected
from retrainer.logs import run_log_context
from retrainer.model_types import get_model_type
from retrainer.pipeline.comparing import MIN_COMPARED_POSTS, Comparison, compare_with_production
from retrainer.pipeline.evaluations import (
    Evaluation,
    evaluate,
    record,
    require_held_out_window,
    require_semantic_model,
    window_origins,
)
from retrainer.pipeline.loading import load_configured_algorithm, load_version, options_of
from retrainer.pipeline.promotion import decide, publish_change
from retrainer.pipeline.retention import archive_old_versions
from retrainer.pipeline.run_context import Stopwatch, close_as_failed, record_spending, start_run, track_run
from retrainer.pipeline.split import load_posts, split_by_time
from retrainer.pipeline.training import describe, register, train_candidate
from retrainer.render.documents.runs import run_document

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from pydantic import BaseModel

    from retrainer.algorithms.manager import LoadedAlgorithm
    from retrainer.model_types import ModelTypeName
    from retrainer.pipeline.split import Split
    from retrainer.pipeline.training import Candidate
    from retrainer.project import Project
    from retrainer.registry.promotions import Decision
    from retrainer.registry.tables import ModelVersion, TrainingRun

log = logging.getLogger(__name__)

RULE = "=" * 60


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        run: the run as recorded; None for a dry run.
        evaluation: the candidate's evaluation; None where a dry run would have had to pay for it.
        comparison: the candidate against production; None where there was none.
        decision: what was decided, or would be.
        race_lost: whether production changed between the comparison and the promotion.
    """

    model_type: ModelTypeName
    algorithm: str
    run: TrainingRun | None = None
    evaluation: Evaluation | None = None
    comparison: Comparison | None = None
    decision: Decision | None = None
    race_lost: bool = False

    @property
    def needs_attention(self) -> bool:
        """Whether the run came to its end, but not in a way that can be left alone."""
        return self.race_lost or (self.comparison is not None and self.comparison.production_broken)

    @property
    def promoted(self) -> bool:
        """Whether the new version went live."""
        return self.run is not None and self.run.promoted_to_production


@dataclass(frozen=True)
class Failure:
    """A run that did not come to its end.

    Attributes:
        error: why.
        run: the run as recorded; None where it failed before it began.
    """

    model_type: ModelTypeName
    error: RetrainerError
    run: TrainingRun | None = None


def retrain_each(
    project: Project, model_types: Sequence[ModelTypeName], one: Callable[[ModelTypeName], RunResult]
) -> list[RunResult | Failure]:
    """Retrain several model types one after another; a failure of one does not stop the others.

    Args:
        one: retrains one type: `retrain` or `rehearse` with its arguments.
    """
    outcomes: list[RunResult | Failure] = []
    for model_type in model_types:
        if not project.settings.retraining.is_enabled(model_type):
            key = project.settings.retraining.disabling_key(model_type)
            log.info("Retraining of the %s model is disabled (%s is false)", model_type, key)
            continue
        try:
            outcomes.append(one(model_type))
        except Exception as error:
            failure = error if isinstance(error, RetrainerError) else wrap_unexpected(error)
            run_id = getattr(error, "run_id", None)
            with run_log_context(run_id):
                # The traceback shows with --traceback only.
                log.exception("Model training failed: %s [%s, %s]", failure, model_type, project.folder)
            outcomes.append(Failure(model_type, failure, project.registry.get_run(run_id) if run_id else None))
    return outcomes


def exit_code(outcomes: Sequence[RunResult | Failure]) -> int:
    """Return 0 where every run came to its end, else the first of 1, 2, 3, 4 that occurred.

    A lost race is a 1, and so is a production version that cannot forecast: somebody must look.
    """
    codes = {outcome.error.exit_code for outcome in outcomes if isinstance(outcome, Failure)}
    if any(isinstance(outcome, RunResult) and outcome.needs_attention for outcome in outcomes):
        codes.add(RetrainerError.exit_code)
    return min(codes, default=0)


def retrain(
    project: Project,
    model_type: ModelTypeName,
    now: datetime,
    *,
    algorithm: str | None = None,
    auto_promote: bool | None = None,
    as_of: bool = False,
    wait_seconds: float = 0,
    opened: TrainingRun | None = None,
) -> RunResult:
    """Retrain one model type: all seven steps, recorded from the first moment to the decision.

    Args:
        now: the moment that the run counts from; no later post is looked at.
        algorithm: another algorithm than the settings name.
        auto_promote: overrides `retraining.auto_promote`.
        as_of: whether `now` is a past moment chosen by the user; recorded with the run.
        wait_seconds: how long to wait for another run of this type to end.
        opened: a run that is open already, to be carried out; otherwise a new one is begun.

    Raises:
        RunInProgress: another run of this type is going on.
        RetrainerError: the run failed; what it was is recorded, and production is what it was.
    """
    chosen, options = load_configured_algorithm(project.settings, model_type, algorithm)
    watch = Stopwatch(now, stands_still=project.time_stands_still)
    _banner(f"{model_type.upper()} MODEL RETRAINING")
    if as_of:
        log.warning("This run counts as of %s UTC. If it promotes, that goes live now", f"{now:%Y-%m-%d %H:%M}")
    run = opened or start_run(project, model_type, chosen, watch, as_of=as_of, wait_seconds=wait_seconds)
    with track_run(project, run, watch):
        _require_ready(project, chosen, options, model_type)
        # 1 and 2: load the latest posts, split them by time
        split = _load_and_split(project, model_type, now)
        project.registry.record_split(run.run_id, split.training_count, split.test_count)
        # 3: train a new version
        with train_candidate(project, chosen, options, model_type, split) as trained:
            version = register(project, trained, split, run.run_id, watch.now())
        # 4: forecast the test posts, score the forecasts
        evaluation = _evaluate_and_record(project, trained, split, version, run.run_id, watch)
        # 5: compare with production on the same posts
        comparison = _compare(project, trained, split, version, evaluation)
        if comparison is not None:
            _record_comparison(project, version, evaluation, comparison, run.run_id, watch)
        # 6: promote or not
        log.info("Checking if new model should be promoted...")
        decision = decide(model_type, comparison, auto_promote=_auto_promote(project, auto_promote))
        record_spending(project.registry, run.run_id)
        finished = project.registry.complete_run(run.run_id, decision, watch.now())
    # From here on the decision stands, whatever happens.
    with run_log_context(run.run_id):
        if finished.change is not None:
            publish_change(project, "promotion", finished.change)
        _log_decision(finished.run)
        # 7: keep the last N
        _archive(project, model_type, watch)
        _publish_completion(finished.run)
    return RunResult(
        model_type=model_type,
        algorithm=chosen.name,
        run=finished.run,
        evaluation=evaluation,
        comparison=comparison,
        decision=decision,
        race_lost=finished.race_lost,
    )


def _publish_completion(run: TrainingRun) -> None:
    event = {"kind": "run", "model_type": run.model_type, "version_id": run.model_version_id}
    publish({**event, "reason": run.promotion_reason, "run": run_document(run)})
    _banner(f"{run.model_type.upper()} MODEL RETRAINING COMPLETE")
    log.info("Duration: %.1f seconds", run.duration_seconds or 0)


def retrain_opened_run(project: Project, run_id: str, now: datetime, *, auto_promote: bool | None = None) -> RunResult:
    """Retrain in a run that the parent process opened for this one, with the algorithm recorded in it.

    Raises:
        UnknownName: there is no such run.
        RunInProgress: it was closed meanwhile, or belongs to another process.
        RetrainerError: the run failed; what it was is recorded.
    """
    run = project.registry.take_over_run(run_id)
    try:
        return retrain(
            project, run.model_type_name, now, algorithm=run.algorithm, auto_promote=auto_promote, opened=run
        )
    except BaseException as error:
        close_as_failed(project.registry, run, error, now)  # where it failed before there was anything to record
        raise


def dry_run_retrain(
    project: Project,
    model_type: ModelTypeName,
    now: datetime,
    *,
    algorithm: str | None = None,
    auto_promote: bool | None = None,
) -> RunResult:
    """Do what `retrain` does and record nothing: train, evaluate, compare, and say what would be decided.

    Forecasts that cost money are not made; evaluation, comparison and decision are then None.
    """
    chosen, options = load_configured_algorithm(project.settings, model_type, algorithm)
    _banner(f"{model_type.upper()} MODEL RETRAINING (DRY RUN: NOTHING IS RECORDED)")
    _require_ready(project, chosen, options, model_type)
    split = _load_and_split(project, model_type, now)
    with train_candidate(project, chosen, options, model_type, split) as trained:
        if _costs_money(project, chosen, model_type):
            _log_cost_estimate(project, trained, split, now)
            return RunResult(model_type=model_type, algorithm=chosen.name)
        version = describe(project, trained, split, "(not recorded)", now)
        evaluation = _evaluate(project, trained, split, version)
        comparison = _compare(project, trained, split, version, evaluation)
    decision = decide(model_type, comparison, auto_promote=_auto_promote(project, auto_promote))
    log.info("It would %sbe promoted. Reason: %s", "" if decision.promote else "not ", decision.reason)
    return RunResult(
        model_type=model_type,
        algorithm=chosen.name,
        evaluation=evaluation,
        comparison=comparison,
        decision=decision,
    )


def _log_cost_estimate(project: Project, trained: Candidate, split: Split, now: datetime) -> None:
    """Say what the evaluation of a dry run would cost, which is not made."""
    model_type = trained.ready.model_type
    most = min(project.settings.retraining.max_predictions(model_type), split.test_count)
    log.info("Not evaluated: up to %d forecasts of each version would have to be paid for", most)
    version = describe(project, trained, split, "(not recorded)", now)
    window = require_held_out_window(split.posts, version, most)
    origins = window_origins(model_type, split.posts, window)
    sides = {"The new version": trained.ready}
    production = project.registry.get_production(model_type)
    if production is not None:
        try:
            sides["Production"] = load_version(project, production)
        except RetrainerError as error:
            log.debug("Production cannot be loaded: %s", error)
    for name, ready in sides.items():
        cost = ready.algorithm.estimate(ready.model, split.posts, origins, ready.options, model_type)
        if cost is not None:
            log.info("%s would cost $%.4f at most, by %d calls", name, cost.cost_usd, cost.calls)


def _require_ready(project: Project, chosen: LoadedAlgorithm, options: BaseModel, model_type: ModelTypeName) -> None:
    """Find out before any work whether the candidate could forecast and be measured, and production could forecast."""
    chosen.check_ready(options)
    require_semantic_model(project, model_type)
    production = project.registry.get_production(model_type)
    algorithm = _algorithm_of(production)
    if production is None or algorithm is None:
        return
    try:
        algorithm.check_ready(options_of(project, production, algorithm))
    except MissingCredentials:
        raise
    except RetrainerError as error:  # told when the two are compared; the new version is trained all the same
        log.debug("Production is not ready: %s", error)


def _algorithm_of(version: ModelVersion | None) -> LoadedAlgorithm | None:
    """Return a version's algorithm; None where it is broken, or no longer installed."""
    try:
        return None if version is None else load_algorithm(version.algorithm, version.model_type_name)
    except RetrainerError as error:
        log.debug("Production cannot be loaded: %s", error)
        return None


def _costs_money(project: Project, chosen: LoadedAlgorithm, model_type: ModelTypeName) -> bool:
    of_production = _algorithm_of(project.registry.get_production(model_type))
    return chosen.description.paid or (of_production is not None and of_production.description.paid)


def _auto_promote(project: Project, override: bool | None) -> bool:
    return project.settings.retraining.auto_promote if override is None else override


def _load_and_split(project: Project, model_type: ModelTypeName, now: datetime) -> Split:
    """Steps 1 and 2."""
    log.info("Loading and splitting data...")
    settings = project.settings.retraining
    posts = load_posts(project, model_type, now)
    split = split_by_time(posts, settings.test_split, settings.min_training_samples, project.posts.location)
    get_model_type(model_type).require_trainable(split.training)
    return split


def _evaluate(project: Project, trained: Candidate, split: Split, version: ModelVersion) -> Evaluation:
    """Step 4."""
    log.info("Evaluating model on test set...")
    model_type = trained.ready.model_type
    most = project.settings.retraining.max_predictions(model_type)
    if most < MIN_COMPARED_POSTS:
        log.warning(
            "evaluation_max_predictions is %d: fewer than %d forecasts never give a reason to replace production",
            most,
            MIN_COMPARED_POSTS,
        )
    origin = project.settings.retraining.origin(model_type)
    evaluation = evaluate(trained.ready, split.posts, require_held_out_window(split.posts, version, most, origin))
    kind = get_model_type(model_type)
    log.info("%s", kind.summary_line(evaluation.metrics))
    naive = evaluation.naive_metrics["overall_score"]
    log.info("Naive forecast: %.4f | Skill: %+.3f", naive, evaluation.metrics["skill"])
    return evaluation


def _evaluate_and_record(
    project: Project, trained: Candidate, split: Split, version: ModelVersion, run_id: str, watch: Stopwatch
) -> Evaluation:
    try:
        evaluation = _evaluate(project, trained, split, version)
    except BaseException:
        project.registry.mark_evaluation_failed(version.version_id)
        raise
    record(project, version, evaluation, watch.now(), run_id)
    return evaluation


def _compare(
    project: Project, trained: Candidate, split: Split, version: ModelVersion, evaluation: Evaluation
) -> Comparison | None:
    """Step 5; None where there is no production version yet."""
    production = project.registry.get_production(evaluation.model_type)
    if production is None:
        return None
    comparison = compare_with_production(project, split.posts, production, version, trained.ready, evaluation)
    if comparison.production_broken:
        log.warning("%s", comparison.reason)
    if comparison.metrics_a and comparison.metrics_b:
        old, new = comparison.metrics_a["overall_score"], comparison.metrics_b["overall_score"]
        log.info("On the same %d posts: production %.4f, new model %.4f", comparison.num_predictions, old, new)
    return comparison


def _record_comparison(
    project: Project,
    version: ModelVersion,
    evaluation: Evaluation,
    comparison: Comparison,
    run_id: str,
    watch: Stopwatch,
) -> None:
    """Record what the comparison rests on: production's evaluation, and the candidate's where it was made afresh."""
    if comparison.of_a is not None:
        production = project.registry.get_version(comparison.version_a)
        record(project, production, comparison.of_a, watch.now(), run_id)
    if comparison.of_b is not None and comparison.of_b is not evaluation:
        record(project, version, comparison.of_b, watch.now(), run_id)


def _log_decision(run: TrainingRun) -> None:
    if run.promoted_to_production:
        log.info("✓ Model promoted to production! Reason: %s", run.promotion_reason)
        return
    log.info("✗ Model not promoted. Reason: %s", run.promotion_reason)
    log.info("Manual review recommended")


def _archive(project: Project, model_type: ModelTypeName, watch: Stopwatch) -> None:
    """Step 7. The run is over by now: what goes wrong here is done by the next one."""
    try:
        archive_old_versions(project, model_type, watch.now())
    except RetrainerError as error:
        log.warning("Old versions were not archived: %s", error)


def _banner(title: str) -> None:
    for line in (RULE, title, RULE):
        log.info("%s", line)

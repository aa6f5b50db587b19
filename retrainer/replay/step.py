"""One step of one policy: the real run as of its date, and how well production then forecasts what follows."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from retrainer.errors import AlgorithmError, InsufficientData
from retrainer.evaluation.comparison import MIN_COMPARED_POSTS, compare
from retrainer.evaluation.windows import Window, held_out_window
from retrainer.logs import mute_run_logs
from retrainer.model_types import get_model_type
from retrainer.pipeline.evaluations import evaluate_model
from retrainer.pipeline.loading import is_paid, load_configured_algorithm, load_live_fit, load_version
from retrainer.pipeline.promotion import promote_version
from retrainer.pipeline.run import dry_run, retrain
from retrainer.pipeline.split import Split, load_posts, split_by_time
from retrainer.pipeline.training import train_candidate
from retrainer.replay.tuned_run import tune_as_of, with_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.algorithms.model import TrainedModel
    from retrainer.evaluation.comparison import Comparison
    from retrainer.evaluation.evaluate import Evaluation
    from retrainer.model_types import ModelTypeName
    from retrainer.pipeline.results import RunResult
    from retrainer.pipeline.training import Candidate
    from retrainer.registry.tables import ModelVersion, TrainingRun
    from retrainer.replay.cached_algorithm import AlgorithmCache
    from retrainer.replay.plan import Step
    from retrainer.replay.policies import Policy
    from retrainer.replay.sandbox import SandboxProject
    from retrainer.runtime import Runtime

PROMOTED_BY_POLICY = "Promoted, since this policy promotes every version"
REVIEW_CONFIDENCE = 0.95  # at least, for a review to call a decision wrong

Review = Literal["wrong", "stands", "not enough posts", "cannot forecast", "costs money"]
REVIEWED: tuple[Review, ...] = ("wrong", "stands")


@dataclass(frozen=True)
class StepResult:
    """The result of a step.

    Attributes:
        at: the time of the step, UTC.
        until: the time up to which the production version was scored, UTC.
        digest: the SHA-256 of all posts that the result depends on, including those used for the review.
        version_id: the version that was trained; None if there is none.
        promoted: whether it was promoted.
        replaced: the previous production version; None if there was none or production did not change.
        reason: why it was promoted or not, or why nothing was trained.
        failed: whether the run failed.
        improvement_percentage: of the run's comparison.
        live: the production version after the step.
        rows: (n) the rows of the posts that production forecast and that could be scored.
        figures: (n, k) the contributions of these posts to the score.
        naive_figures: (n, k) the contributions of the naive forecasts.
        score: the live score on these posts; None if there are none.
        naive_score: the score of the naive forecasts.
        later_look: whether later posts show that the decision was wrong, or why they do not say; None if there was
            nothing to decide between.
        seconds: the processor time of training and evaluating, as if nothing had been cached.
        tokens: of the run's paid forecasts.
        cost_usd: of the run's paid forecasts.
        live_cost_usd: of the paid live forecasts.
        complete: whether production was scored and the decision was reviewed.
        tuned_options: the options that the policy trains with from now on, if it has tuned them; else None.
    """

    at: datetime
    until: datetime
    digest: str
    version_id: str | None = None
    promoted: bool = False
    replaced: str | None = None
    reason: str = ""
    failed: bool = False
    improvement_percentage: float | None = None
    live: str | None = None
    rows: list[int] = field(default_factory=list)
    figures: list[list[float]] = field(default_factory=list)
    naive_figures: list[list[float]] = field(default_factory=list)
    score: float | None = None
    naive_score: float | None = None
    later_look: Review | None = None
    seconds: float = 0.0
    tokens: int = 0
    cost_usd: float = 0.0
    live_cost_usd: float = 0.0
    complete: bool = False
    tuned_options: dict[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return {**asdict(self), "at": self.at.isoformat(), "until": self.until.isoformat()}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> StepResult:
        """Reverse `document`."""
        at, until = (datetime.fromisoformat(document[key]) for key in ("at", "until"))
        return cls(**{**document, "at": at, "until": until})


def decide(
    project: SandboxProject,
    runtime: Runtime,
    policy: Policy,
    model_type: ModelTypeName,
    step: Step,
    cache: AlgorithmCache,
    *,
    tunes: bool = False,
    tuned_options: dict[str, Any] | None = None,
) -> StepResult:
    """Retrain as of the date of a step, if the policy does, and return the decision and its cost.

    Args:
        tunes: whether the policy tunes at this step.
        tuned_options: the options that it has tuned before, if any.

    Raises:
        CostLimitReached: the forecasts could exceed the limit.
        RetrainerError: the replay cannot go on: credentials are missing, or the registry cannot be written.
    """
    cache.seconds = 0.0
    digest = project.history.digest(project.history.count(step.review_until))
    result = StepResult(step.at, step.until, digest, tuned_options=tuned_options)
    if tuned_options is not None:
        project = with_options(project, model_type, policy.algorithm, tuned_options)
    with mute_run_logs():
        before = project.registry.get_production(model_type)
        if before is None or policy.retrains:
            result = replace(result, **_retrain(project, runtime, policy, model_type, step, before, tunes=tunes))
        production = project.registry.get_production(model_type)
    return replace(result, live=production.version_id if production else None, seconds=cache.seconds)


def review_step(
    project: SandboxProject, runtime: Runtime, model_type: ModelTypeName, step: Step, result: StepResult
) -> StepResult:
    """Score production on the posts up to the next step, and review the decision in hindsight.

    Raises:
        CostLimitReached: the forecasts could exceed the limit.
        RetrainerError: the replay cannot go on.
    """
    with mute_run_logs():
        production = project.registry.get_production(model_type)
        if production is None:
            return replace(result, complete=True)
        result, live = _score_live(project, runtime, model_type, step, result, production)
        review = _review(project, runtime, step, result, production, live)
        return replace(result, later_look=review, complete=True)


def _retrain(
    project: SandboxProject,
    runtime: Runtime,
    policy: Policy,
    model_type: ModelTypeName,
    step: Step,
    before: ModelVersion | None,
    *,
    tunes: bool,
) -> dict[str, Any]:
    """Retrain like `train --as-of`, or tune, and return what the step's result says. A failed run changes nothing."""
    tuned = None
    try:
        if tunes and policy.tuning is not None:
            tuned = tune_as_of(project, runtime, policy, policy.tuning, model_type, step.at)
        result = tuned or retrain(
            project, runtime, model_type, step.at, algorithm=policy.algorithm, auto_promote=True, as_of=True
        )
    except (InsufficientData, AlgorithmError) as error:
        run_id = getattr(error, "run_id", None)
        failed = None if run_id is None else project.registry.get_run(run_id)
        cost = {"tokens": (failed and failed.tokens) or 0, "cost_usd": (failed and failed.cost_usd) or 0.0}
        return {"reason": str(error), "failed": True, **cost}
    run = cast("TrainingRun", result.run)  # None only for a dry run
    reason = str(run.promotion_reason)
    forced = policy.promotes_all and not result.promoted
    if forced:
        try:
            promote_version(project, runtime, str(run.model_version_id), PROMOTED_BY_POLICY, step.at)
            reason = f"{PROMOTED_BY_POLICY}. {reason}"
        except (InsufficientData, AlgorithmError) as error:
            forced = False
            reason = f"{reason}. This policy promotes every version, but: {error}"
    promoted = forced or result.promoted
    applied = {}
    if tuned is not None and promoted:  # as by `tune --apply`
        version = project.registry.get_version(str(run.model_version_id))
        applied = {"tuned_options": version.hyperparameters}
    return {
        "version_id": run.model_version_id,
        "promoted": promoted,
        "replaced": before.version_id if promoted and before else None,
        "reason": reason,
        "improvement_percentage": run.improvement_percentage,
        **applied,
        **_run_cost(result),
    }


def _score_live(
    project: SandboxProject,
    runtime: Runtime,
    model_type: ModelTypeName,
    step: Step,
    result: StepResult,
    production: ModelVersion,
) -> tuple[StepResult, Evaluation | None]:
    """Add production's scores on the posts up to the next step; also return its evaluation."""
    posts = load_posts(project, model_type, step.until)
    window = live_window(project, model_type, posts, step, paid=is_paid(runtime, production))
    if window is None:
        return result, None
    try:
        evaluation = _evaluate_fit(runtime, load_live_fit(project, runtime, production), posts, window)
    except AlgorithmError as error:
        return replace(result, reason=f"{result.reason}. Live, {error}" if result.reason else str(error)), None
    definition = get_model_type(model_type)
    scored = evaluation.scored
    figures = evaluation.contributions_on(scored)
    naive = definition.score_components(*definition.select(evaluation.naive_forecasts, evaluation.targets, scored))
    scores = replace(
        result,
        rows=[int(row) for row in window.rows[scored]],
        figures=figures.tolist(),
        naive_figures=naive.tolist(),
        score=_overall_score(model_type, figures),
        naive_score=_overall_score(model_type, naive),
        live_cost_usd=definition.count_outcomes(evaluation.forecasts).get("cost_usd", 0.0),
    )
    return scores, evaluation


def live_window(
    project: SandboxProject, model_type: ModelTypeName, posts: pd.DataFrame, step: Step, *, paid: bool
) -> Window | None:
    """Return the posts after a step, each forecast from the preceding post; None if there are none.

    Paid forecasts are limited to `evaluation_max_predictions`, evenly spread.

    Args:
        posts: all posts up to the end of the window.
    """
    known = project.history.count(step.at)
    max_predictions = project.settings.retraining.max_predictions(model_type) if paid else len(posts)
    last = posts.iloc[known - 1]
    return held_out_window(posts, (last["created_at"], str(last["post_id"])), max_predictions, "post")


@contextmanager
def train_as_of(
    project: SandboxProject, runtime: Runtime, algorithm: str, model_type: ModelTypeName, at: datetime
) -> Iterator[tuple[Candidate, Split]]:
    """Train like a run as of a time, without recording anything; yield the candidate and the split.

    Raises:
        InsufficientData: there are too few posts to split, or they contain nothing to learn from.
        AlgorithmError: a hook failed.
    """
    chosen, options = load_configured_algorithm(project.settings, runtime, model_type, algorithm)
    known = load_posts(project, model_type, at)
    split = split_by_time(known, project.settings.retraining.test_split, 1, project.posts.location)
    with train_candidate(project, chosen, options, model_type, split) as candidate:
        yield candidate, split


def prefetch_step(
    project: SandboxProject, runtime: Runtime, policy: Policy, model_type: ModelTypeName, step: Step
) -> None:
    """Compute what a step will need whatever is in production by then: the new version and its forecasts.

    Nothing is recorded, but everything is cached. What fails here fails again in the step itself, which reports it.
    """
    try:
        dry_run(project, runtime, model_type, step.at, algorithm=policy.algorithm)
        with train_as_of(project, runtime, policy.algorithm, model_type, step.at) as (candidate, split):
            needed = [(step.until, candidate.model), (step.review_until, candidate.model)]
            if project.settings.retraining.refits(model_type):
                everything = Split(split.posts, len(split.posts))
                algorithm, options = candidate.model.algorithm, candidate.model.options
                with train_candidate(project, algorithm, options, model_type, everything, dry_run=True) as live:
                    needed[0] = (step.until, live.model)
            for until, model in needed:  # what is the same is cached
                posts = load_posts(project, model_type, until)
                window = live_window(project, model_type, posts, step, paid=False)
                if window is not None:
                    _evaluate_fit(runtime, model, posts, window)
    except (InsufficientData, AlgorithmError):
        return


def _evaluate_fit(runtime: Runtime, model: TrainedModel, posts: pd.DataFrame, window: Window) -> Evaluation:
    with runtime.open_budget() as budget:
        return evaluate_model(runtime, model, posts, window, budget)


def _review(
    project: SandboxProject,
    runtime: Runtime,
    step: Step,
    result: StepResult,
    production: ModelVersion,
    live: Evaluation | None,
) -> Review | None:
    """Let the version that lost forecast the posts that followed, and ask whether they would promote it.

    The policy's own rule decides, with at least 95% confidence: on few posts, half of all good decisions look wrong.
    As in every comparison, both sides forecast by their evaluated fits.

    Args:
        live: the evaluation of production's live fit on the posts up to the next step; None if there is none.
    """
    loser_id = result.replaced if result.promoted else result.version_id
    if loser_id is None:
        return None
    loser = project.registry.get_version(loser_id)
    if is_paid(runtime, loser) or is_paid(runtime, production):
        return "costs money"
    if project.history.count(step.review_until) - project.history.count(step.at) < MIN_COMPARED_POSTS:
        return "not enough posts"
    try:
        comparison = _compare_in_hindsight(project, runtime, step, loser, production, live)
    except AlgorithmError:
        return "cannot forecast"
    if comparison is None or comparison.evidence is None:  # too few of the forecasts can be scored
        return "not enough posts"
    return "wrong" if comparison.recommendation == "promote" else "stands"


def _compare_in_hindsight(
    project: SandboxProject,
    runtime: Runtime,
    step: Step,
    loser: ModelVersion,
    production: ModelVersion,
    live: Evaluation | None,
) -> Comparison | None:
    posts = load_posts(project, production.model_type_name, step.review_until)
    if live is None or step.review_until > step.until or production.refit is not None:
        window = live_window(project, production.model_type_name, posts, step, paid=False)
        if window is None:
            return None
        live = _evaluate_fit(runtime, load_version(project, runtime, production), posts, window)
    other = _evaluate_fit(runtime, load_version(project, runtime, loser), posts, live.window)
    settings = project.settings.retraining
    confidence = max(settings.min_confidence or 0.0, REVIEW_CONFIDENCE)
    strict = settings.model_copy(update={"min_confidence": confidence})
    return compare((production.version_id, loser.version_id), (live, other), posts, strict)


def _run_cost(result: RunResult) -> dict[str, Any]:
    """Return tokens and US dollars of a run's forecasts, as if this run had paid for all of them."""
    evaluations = {id(result.evaluation): result.evaluation}
    if result.comparison is not None:
        sides = (result.comparison.evaluation_a, result.comparison.evaluation_b)
        evaluations.update((id(side), side) for side in sides)
    count = get_model_type(result.model_type).count_outcomes
    tallies = [count(evaluation.forecasts) for evaluation in evaluations.values() if evaluation is not None]
    return {
        "tokens": int(sum(tally.get("tokens", 0) for tally in tallies)),
        "cost_usd": float(sum(tally.get("cost_usd", 0.0) for tally in tallies)),
    }


def _overall_score(model_type: ModelTypeName, figures: NDArray[np.float64]) -> float | None:
    return float(get_model_type(model_type).overall_score(np.asarray(figures).mean(axis=0))) if len(figures) else None

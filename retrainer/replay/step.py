"""One step of one policy: the real run as of its date, and how well what is live then forecasts what follows."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from retrainer.algorithms.budget import opened_workspace
from retrainer.errors import AlgorithmError, InsufficientData
from retrainer.model_types import get_model_type
from retrainer.pipeline.comparing import MIN_COMPARED_POSTS, compare
from retrainer.pipeline.evaluations import Evaluation, Window, evaluate, held_out_window
from retrainer.pipeline.loading import is_paid, load_configured_algorithm, load_version
from retrainer.pipeline.promotion import promote_version
from retrainer.pipeline.run import RunResult, dry_run_retrain, retrain
from retrainer.pipeline.split import load_posts, split_by_time
from retrainer.pipeline.training import train_candidate

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.model_types import ModelTypeName
    from retrainer.pipeline.comparing import Comparison
    from retrainer.pipeline.split import Split
    from retrainer.pipeline.training import Candidate
    from retrainer.registry.tables import ModelVersion
    from retrainer.replay.cached_algorithm import Memory
    from retrainer.replay.plan import Step
    from retrainer.replay.policies import Policy
    from retrainer.replay.sandbox import SandboxProject

PROMOTED_BY_POLICY = "Promoted, since this policy promotes every version"
LOOK_CONFIDENCE = 0.95  # at least; of a later look that calls a decision wrong

Hindsight = Literal["wrong", "stands", "not enough posts", "cannot forecast", "costs money"]
REVIEWED: tuple[Hindsight, ...] = ("wrong", "stands")

# A run's own lines, thousands of times over, would say nothing; what becomes of it is told a line a step.
_TALKATIVE = ("retrainer.pipeline", "retrainer.algorithms", "retrainer.registry")


@dataclass(frozen=True)
class StepResult:
    """What became of a step.

    Attributes:
        at: the moment of the step, UTC.
        until: up to when the live version was looked at.
        digest: the SHA-256 of all posts that the record depends on, those that judge the decision included.
        version_id: what was trained; None where nothing was.
        promoted: whether it went live.
        replaced: what was live before; None where nothing was, or nothing changed.
        reason: why it went live or not, or why nothing was trained.
        failed: whether the run failed.
        improvement_percentage: of the run's comparison.
        live: the version that is live after the step.
        rows: (n) the posts that it forecast and that could be scored, by their place among all posts.
        figures: (n, k) what each adds to the score.
        naive_figures: (n, k) the same of the naive forecast.
        score: the live score on these posts; None without any.
        naive_score: that of the naive forecast.
        later_look: whether later posts say clearly that the decision was wrong, or why they were not asked or say
            nothing; None where there was nothing to decide between.
        seconds: of processor time that training and evaluating took, or would have, had nothing been shared.
        tokens, cost_usd: of the run's paid forecasts.
        live_cost_usd: of the paid forecasts made live.
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
    later_look: Hindsight | None = None
    seconds: float = 0.0
    tokens: int = 0
    cost_usd: float = 0.0
    live_cost_usd: float = 0.0

    def document(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return {**asdict(self), "at": self.at.isoformat(), "until": self.until.isoformat()}

    @classmethod
    def of(cls, document: dict[str, Any]) -> StepResult:
        """Return the record of which this is the document."""
        at, until = (datetime.fromisoformat(document[key]) for key in ("at", "until"))
        return cls(**{**document, "at": at, "until": until})


class _Run(NamedTuple):
    """What a run came to, and what was live before it; of one that failed, why and what it took."""

    before: ModelVersion | None
    result: RunResult | None
    error: str = ""
    tokens: int = 0
    cost_usd: float = 0.0


def decide(
    project: SandboxProject, policy: Policy, model_type: ModelTypeName, step: Step, memory: Memory
) -> StepResult:
    """Retrain as of the step's date if the policy does; return the record of what was decided, and of its cost.

    Raises:
        CostLimitReached: the forecasts would cost more than may be spent.
        RetrainerError: nothing can go on: credentials are missing, or the registry cannot be written.
    """
    memory.seconds = 0.0
    with quietly():
        run = _run(project, policy, model_type, step)
        seconds = memory.seconds
        live = project.registry.get_production(model_type)
        record = _decision(project, step, run, live)
        return replace(record, seconds=seconds, **_run_cost(model_type, run))


def review_step(project: SandboxProject, model_type: ModelTypeName, step: Step, record: StepResult) -> StepResult:
    """Let what is live after a decision forecast the posts up to the next step, and see whether they bear it out.

    Raises:
        CostLimitReached: the forecasts would cost more than may be spent.
        RetrainerError: nothing can go on.
    """
    with quietly():
        live = project.registry.get_production(model_type)
        if live is None:
            return record
        record, of_live = _with_live_scores(project, model_type, step, record, live)
        return replace(record, later_look=_later_look(project, step, record, live, of_live))


@contextmanager
def quietly() -> Iterator[None]:
    """Keep the lines of single runs back."""
    levels = {name: logging.getLogger(name).level for name in _TALKATIVE}
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _run(project: SandboxProject, policy: Policy, model_type: ModelTypeName, step: Step) -> _Run:
    """Retrain, as `train --as-of` does; a run that fails leaves what is live."""
    before = project.registry.get_production(model_type)
    if before is not None and not policy.retrains:
        return _Run(before, None)
    try:
        result = retrain(project, model_type, step.at, algorithm=policy.algorithm, auto_promote=True, as_of=True)
    except (InsufficientData, AlgorithmError) as error:
        run_id = getattr(error, "run_id", None)
        row = None if run_id is None else project.registry.get_run(run_id)
        return _Run(before, None, str(error), (row and row.tokens) or 0, (row and row.cost_usd) or 0.0)
    if policy.promotes_all and not result.promoted and result.run is not None:
        promote_version(project, str(result.run.model_version_id), PROMOTED_BY_POLICY, step.at)
    return _Run(before, result)


def _decision(project: SandboxProject, step: Step, run: _Run, live: ModelVersion | None) -> StepResult:
    """Return the record of what was decided."""
    record = StepResult(
        step.at,
        step.until,
        project.past.digest(project.past.count(step.review_until)),
        live=live.version_id if live else None,
        reason=run.error,
        failed=bool(run.error),
    )
    if run.result is None or run.result.run is None:
        return record
    row = run.result.run
    promoted = live is not None and live.version_id == row.model_version_id
    forced = promoted and not row.promoted_to_production
    return replace(
        record,
        version_id=row.model_version_id,
        promoted=promoted,
        replaced=run.before.version_id if promoted and run.before else None,
        reason=f"{PROMOTED_BY_POLICY}. {row.promotion_reason}" if forced else str(row.promotion_reason),
        improvement_percentage=row.improvement_percentage,
    )


def _with_live_scores(
    project: SandboxProject, model_type: ModelTypeName, step: Step, record: StepResult, live: ModelVersion
) -> tuple[StepResult, Evaluation | None]:
    """Add how well the live version forecast the posts up to the next step, and return its evaluation too."""
    posts = load_posts(project, model_type, step.until)
    window = live_window(project, model_type, posts, step, paid=is_paid(live))
    if window is None:
        return record, None
    try:
        of_live = _live_evaluation(project, live, posts, window)
    except AlgorithmError as error:
        return replace(record, reason=f"{record.reason}. Live, {error}" if record.reason else str(error)), None
    kind = get_model_type(model_type)
    scored = of_live.scored
    naive = kind.score_components(*kind.select(of_live.naive_forecasts, of_live.targets, scored))
    figures = of_live.contributions_on(scored)
    scores = replace(
        record,
        rows=[int(row) for row in window.rows[scored]],
        figures=figures.tolist(),
        naive_figures=naive.tolist(),
        score=_overall(model_type, figures),
        naive_score=_overall(model_type, naive),
        live_cost_usd=kind.count_outcomes(of_live.forecasts).get("cost_usd", 0.0),
    )
    return scores, of_live


def live_window(
    project: SandboxProject, model_type: ModelTypeName, posts: pd.DataFrame, step: Step, *, paid: bool
) -> Window | None:
    """Return the posts after a step and up to the next, each to be foretold from the post before it; None without any.

    Where forecasts are paid for, `evaluation_max_predictions` of them at most, evenly spread.
    """
    known = project.past.count(step.at)
    most = project.settings.retraining.max_predictions(model_type) if paid else len(posts)
    last = posts.iloc[known - 1]
    return held_out_window(posts, (last["created_at"], str(last["post_id"])), most, "post")


@contextmanager
def train_as_of(
    project: SandboxProject, algorithm: str, model_type: ModelTypeName, at: datetime
) -> Iterator[tuple[Candidate, Split]]:
    """Train as a run at a moment does, and give the model and the split posts; nothing is recorded.

    Raises:
        InsufficientData: there are too few posts to split, or they carry nothing to learn from.
        AlgorithmError: a hook failed.
    """
    chosen, options = load_configured_algorithm(project.settings, model_type, algorithm)
    known = load_posts(project, model_type, at)
    split = split_by_time(known, project.settings.retraining.test_split, 1, project.posts.location)
    with train_candidate(project, chosen, options, model_type, split) as trained:
        yield trained, split


def prefetch_step(project: SandboxProject, policy: Policy, model_type: ModelTypeName, step: Step) -> None:
    """Make what a step will need whatever is live by then: the new version, and its forecasts before and after.

    Nothing is recorded; what was made is remembered. What cannot be made fails again in its turn, and is told then.
    """
    with quietly():
        try:
            dry_run_retrain(project, model_type, step.at, algorithm=policy.algorithm)
            with train_as_of(project, policy.algorithm, model_type, step.at) as (trained, _):
                for until in sorted({step.until, step.review_until}):
                    posts = load_posts(project, model_type, until)
                    window = live_window(project, model_type, posts, step, paid=False)
                    if window is not None:
                        evaluate(trained.ready, posts, window)
        except (InsufficientData, AlgorithmError):
            return


def _live_evaluation(project: SandboxProject, version: ModelVersion, posts: pd.DataFrame, window: Window) -> Evaluation:
    with opened_workspace(project.answers_dir):
        return evaluate(load_version(project, version), posts, window)


def _later_look(
    project: SandboxProject, step: Step, record: StepResult, live: ModelVersion, of_live: Evaluation | None
) -> Hindsight | None:
    """Let the version that lost forecast the posts that followed, and ask whether they would promote it.

    It is asked by the policy's own rule, and with a confidence of 95% at least: on few posts, half of all good
    decisions look wrong.

    Args:
        of_live: the live version's forecasts of the posts up to the next step; None where there are none.
    """
    loser = record.replaced if record.promoted else record.version_id
    if loser is None:
        return None
    version = project.registry.get_version(loser)
    if is_paid(version) or is_paid(live):
        return "costs money"
    if project.past.count(step.review_until) - project.past.count(step.at) < MIN_COMPARED_POSTS:
        return "not enough posts"
    try:
        comparison = _compared_later(project, step, version, live, of_live)
    except AlgorithmError:
        return "cannot forecast"
    if comparison is None or comparison.evidence is None:  # too few of the forecasts can be scored
        return "not enough posts"
    return "wrong" if comparison.recommendation == "promote" else "stands"


def _compared_later(
    project: SandboxProject, step: Step, loser: ModelVersion, live: ModelVersion, of_live: Evaluation | None
) -> Comparison | None:
    posts = load_posts(project, live.model_type_name, step.review_until)
    if of_live is None or step.review_until > step.until:
        window = live_window(project, live.model_type_name, posts, step, paid=False)
        if window is None:
            return None
        of_live = _live_evaluation(project, live, posts, window)
    of_loser = _live_evaluation(project, loser, posts, of_live.window)
    settings = project.settings.retraining
    surely = settings.model_copy(update={"min_confidence": max(settings.min_confidence or 0.0, LOOK_CONFIDENCE)})
    return compare(live, loser, (of_live, of_loser), posts, surely)


def _run_cost(model_type: ModelTypeName, run: _Run) -> dict[str, Any]:
    """Return tokens and dollars of a run's forecasts, as if each had been paid for by this run."""
    result = run.result
    if result is None or result.evaluation is None:
        return {"tokens": run.tokens, "cost_usd": run.cost_usd}
    made = [result.evaluation]
    if result.comparison is not None:
        sides = (result.comparison.of_a, result.comparison.of_b)  # b's may be another, made afresh on a later window
        made += [side for side in sides if side is not None and side is not result.evaluation]
    tallies = [get_model_type(model_type).count_outcomes(evaluation.forecasts) for evaluation in made]
    return {
        "tokens": int(sum(tally.get("tokens", 0) for tally in tallies)),
        "cost_usd": float(sum(tally.get("cost_usd", 0.0) for tally in tallies)),
    }


def _overall(model_type: ModelTypeName, figures: NDArray[np.float64]) -> float | None:
    return float(get_model_type(model_type).overall_score(np.asarray(figures).mean(axis=0))) if len(figures) else None

"""A/B tests: production and a challenger both forecast every live post, until one of them is shown to be better.

The decisions hold however often one looks; see `retrainer.evaluation.sequential`.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from retrainer.algorithms.events import Event
from retrainer.errors import ABTestError, DamagedValue, DatabaseError, NothingInProduction, RetrainerError, UsageError
from retrainer.evaluation.sequential import ConfidenceSequence, Interval
from retrainer.live.scores import Totals, stakes_of
from retrainer.live.update import update_live
from retrainer.model_types import get_model_type
from retrainer.pipeline.loading import is_paid, load_live_fit, load_version
from retrainer.pipeline.promotion import load_start, publish_change
from retrainer.pipeline.refit import fit_again, require_working_forecast
from retrainer.pipeline.split import load_posts
from retrainer.posts.validation import number
from retrainer.registry.ab_tests import require_testable
from retrainer.registry.budgets import TEST_SIDES, SharedBudget

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from retrainer.algorithms.model import TrainedModel
    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.budgets import TestSide
    from retrainer.registry.ledger import TestOutcome
    from retrainer.registry.live_tables import ABTest
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)

MAX_POSTS = 2_000
LEVEL = 0.05
USED_UP = 0.9  # of the limit of the cost
MAX_SHOWN = 10_000  # the largest e-value that is written out
SMALLEST_GAIN = 0.02  # a test is futile if the challenger's error can be at most so much smaller


@dataclass(frozen=True)
class ABTestState:
    """What an A/B test has found so far.

    Attributes:
        test: the test; it may have ended.
        num_posts: the number of live posts that both sides were scored on.
        score: the overall score of production on them; None without posts.
        challenger_score: the same of the challenger.
        interval: by how much the challenger's error is smaller, as a share of production's.
        evidence_for_challenger: the e-value that the challenger is better; `threshold` decides.
        evidence_for_production: the e-value that production is better.
        threshold: 2 / level.
        cost_usd: what the paid forecasts of each side have cost, by side; None if no side is paid.
        sentence: what is known, and until when the test goes on.
        problem: why posts are not scored, or why the decision is not carried out; None if all is well.
    """

    test: ABTest
    num_posts: int
    score: float | None
    challenger_score: float | None
    interval: Interval
    evidence_for_challenger: float
    evidence_for_production: float
    threshold: float
    cost_usd: dict[TestSide, float] | None
    sentence: str
    problem: str | None = None

    def evidence(self) -> dict[str, Any]:
        """Return the figures for the ledger."""
        names = ("num_posts", "score", "challenger_score", "evidence_for_challenger", "evidence_for_production")
        figures = {name: getattr(self, name) for name in (*names, "threshold", "cost_usd")}
        return {**figures, "interval": self.interval._asdict()}


def start_test(
    project: Project,
    runtime: Runtime,
    model_type: ModelTypeName,
    challenger_id: str,
    reason: str,
    now: datetime,
    *,
    share: float = 0.0,
    max_posts: int = MAX_POSTS,
    level: float = LEVEL,
    max_cost: float | None = None,
) -> ABTestState:
    """Start a test of a challenger against production on new posts, after both were loaded.

    With `retraining.refit`, the challenger is fitted again on all posts first, and goes live with this fit if it wins.

    Args:
        challenger_id: the id of the challenger.
        share: the percentage of subjects that the challenger answers, 0 to 100.
        max_posts: after how many posts the test ends, if neither is shown to be better.
        level: the probability of a wrong decision, of both kinds together.
        max_cost: what the paid forecasts of each side may cost, in US dollars.

    Raises:
        UnknownName: there is no such version.
        UsageError: an argument is out of range, a side is paid without a `max_cost`, or the challenger is of another
            model type or stream.
        NothingInProduction: there is no production version.
        ABTestError: a test of this type is running, or the challenger is in production.
        PromotionRefused: its evaluation failed, its files were pruned, or production has changed meanwhile.
        ArtifactError, AlgorithmError, MissingCredentials: a side cannot be loaded or cannot forecast.
        InsufficientData: there are too few posts to fit it again.
    """
    _check_range("share", share, 0, 100)
    _check_range("max_posts", max_posts, 1, 100_000)
    _check_range("level", level, 0.0001, 0.5)
    _check_range("max_cost", 0 if max_cost is None else max_cost, 0, 1e9)
    project.artifacts.require_own_folder()
    challenger = project.registry.get_version(challenger_id)
    if challenger.model_key != project.registry.key(model_type):
        of = f"{challenger.model_type} version of the stream '{challenger.stream}'"
        raise UsageError(
            f"cannot test '{challenger_id}': it is a {of}", hint=f"Choose a {model_type} version of '{project.stream}'"
        )
    production = project.registry.get_production(model_type)
    if production is None:
        raise NothingInProduction(
            f"no {model_type} version is in production to test against", hint="Promote one with `retrainer promote`"
        )
    require_testable(challenger, project.registry.get_running_test(model_type))
    paid = is_paid(runtime, production) or is_paid(runtime, challenger)
    if paid and model_type == "timing":
        raise UsageError("an A/B test of timing makes no paid forecasts", hint="Test an algorithm that is free")
    if paid and max_cost is None:
        raise UsageError(
            f"an A/B test of {model_type} makes paid forecasts", hint="Limit their cost: --max-cost USD for each side"
        )
    posts = load_posts(project, model_type, now)
    _require_ready(load_live_fit(project, runtime, production))
    with ExitStack() as stack:
        staged = None
        if project.settings.retraining.refits(model_type):
            evaluated = load_version(project, runtime, challenger)
            _require_ready(evaluated)
            previous = load_start(project, runtime, challenger)
            staged = stack.enter_context(fit_again(project, challenger, evaluated, posts, previous, now))
        else:
            model = load_live_fit(project, runtime, challenger)
            _require_ready(model)
            if not model.algorithm.description.paid:
                require_working_forecast(model, posts)
        test = project.registry.start_test(
            challenger_id,
            production.version_id,
            reason,
            now,
            share=share,
            max_posts=max_posts,
            level=level,
            max_cost=max_cost if paid else None,
            new_refit=staged.new_refit if staged else None,
        )
        if staged is not None:
            staged.publish(project)
    log.info("Started the A/B test '%s': '%s' against '%s'", test.test_id, challenger_id, production.version_id)
    update_live(project, runtime, model_type, now)
    return measure_test(project, test, now)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also for nan
        raise UsageError(f"{name}: '{value:g}' is not between {low:g} and {high:,g}")


def _require_ready(model: TrainedModel) -> None:
    if model.algorithm.description.paid:
        model.algorithm.check_ready(model.options)


def get_latest_test(project: Project, model_type: ModelTypeName) -> ABTest | None:
    """Return the running test of a type or, if none is running, the last one."""
    running = project.registry.get_running_test(model_type)
    return running or next(iter(project.registry.list_tests(model_type, limit=1)), None)


def check_test(project: Project, runtime: Runtime, model_type: ModelTypeName, now: datetime) -> ABTestState | None:
    """Score the new posts, decide the running test if they settle it, and return the latest test; None without one."""
    problem = None
    test = project.registry.get_running_test(model_type)
    if test is not None:
        comparisons = update_live(project, runtime, model_type, now)
        if not any(comparison.against == "challenger" for comparison in comparisons):
            problem = _find_unusable(project, runtime, test)
        decide_test(project, runtime, model_type, now)
    latest = get_latest_test(project, model_type)
    if latest is None:
        return None
    state = measure_test(project, latest, now)
    return replace(state, problem=problem or state.problem) if latest.status == "running" else state


def decide_test(project: Project, runtime: Runtime, model_type: ModelTypeName, now: datetime) -> ABTestState | None:
    """Decide the running test if the scores up to a time settle it, and carry the decision out in one transaction.

    Returns:
        What the test has found, as of before the decision; None if no test was running at that time.

    Raises:
        DatabaseError: the database cannot be read or written: nothing was decided.
    """
    test = project.registry.get_running_test(model_type)
    if test is None or test.started_at > now:
        return None
    live = project.registry.get_production(model_type)
    if live is None or live.version_id != test.version_id:
        found = live.version_id if live else "none"
        state = measure_test(project, test, now)
        _end(project, runtime, state, "stopped", f"Production changed to '{found}' meanwhile", now, automatic=True)
        return state
    state = measure_test(project, test, now)
    outcome, reason = choose_outcome(state)
    try:
        if outcome == "promoted":
            _promote(project, runtime, state, reason, now, automatic=True)
        elif outcome is not None:
            _end(project, runtime, state, outcome, reason, now, automatic=True)
    except ABTestError as error:
        log.info("%s", error)  # another process has carried it out
    except DatabaseError:
        raise
    except RetrainerError as error:
        log.warning("The A/B test '%s' is decided, but the challenger is not promoted: %s", test.test_id, error)
    return state


def stop_test(
    project: Project,
    runtime: Runtime,
    model_type: ModelTypeName,
    outcome: Literal["promoted", "kept", "stopped"],
    reason: str,
    now: datetime,
) -> ABTestState:
    """End the running test by hand: promote the challenger, keep production, or decide nothing.

    Raises:
        ABTestError: none is running.
        ArtifactError, AlgorithmError: the challenger is to be promoted, but cannot be loaded or cannot forecast.
        PromotionRefused: it cannot be promoted.
    """
    test = project.registry.get_running_test(model_type)
    if test is None:
        hint = f"Start one with `retrainer ab start {model_type} CHALLENGER`"
        raise ABTestError(f"no A/B test of {model_type} is running", hint=hint)
    state = measure_test(project, test, now)
    if outcome == "promoted":
        _promote(project, runtime, state, reason, now, automatic=False)
    else:
        _end(project, runtime, state, outcome, reason, now, automatic=False)
    latest = get_latest_test(project, model_type)
    return measure_test(project, latest or test, now)


def measure_test(project: Project, test: ABTest, now: datetime) -> ABTestState:
    """Return what a test has found by the scores that are recorded for posts up to a time.

    Raises:
        DamagedValue: the database holds a level that is no probability.
    """
    if not 0 < test.level < 1:
        hint = "Correct the row, or restore a backup"
        raise DamagedValue(
            f"the database holds the level '{test.level:g}' of the A/B test '{test.test_id}', which is not between 0 "
            "and 1",
            hint=hint,
        )
    totals, sequence = Totals(), ConfidenceSequence()
    threshold = 2 / test.level
    if test.comparison_id is not None:
        until = now if test.ended_at is None else min(now, test.ended_at)
        for scores in project.registry.stream_live_scores(test.comparison_id, until=until):
            totals.add(scores)
            sequence.update(stakes_of(scores))
    interval = sequence.interval(threshold)
    problem = None
    if test.status == "running":
        problem = _find_problem(project, test)
    costs = {side: used for side, (_, used) in _read_costs(project, test).items()}
    return ABTestState(
        test=test,
        num_posts=totals.num_scored,
        score=_overall_score(test, totals.sums, totals.num_scored),
        challenger_score=_overall_score(test, totals.other_sums, totals.num_scored),
        interval=interval,
        evidence_for_challenger=totals.evidence.worse,  # side a, the live fit, is worse
        evidence_for_production=totals.evidence.better,
        threshold=threshold,
        cost_usd=costs or None,
        sentence=_describe(test, totals.num_scored, interval),
        problem=problem,
    )


def _overall_score(test: ABTest, sums: Sequence[float], count: int) -> float | None:
    if count == 0:
        return None
    model_type = get_model_type(test.model_type_name)
    return float(model_type.overall_score(np.array(sums[: len(model_type.component_names)]) / count))


def _read_costs(project: Project, test: ABTest) -> dict[TestSide, tuple[float, float]]:
    """Return what each side may cost and has cost, in US dollars; nothing if no side is paid."""
    if test.max_cost is None:
        return {}
    database = project.registry.database
    return {side: SharedBudget.of_test(database, test.test_id, side).limit_and_use() for side in TEST_SIDES}


def _find_problem(project: Project, test: ABTest) -> str | None:
    """Return why new posts are not scored, or why a decision for the challenger is not carried out."""
    hold = project.registry.get_hold(test.model_type_name)
    if hold is not None:
        since = f"{hold.since:%Y-%m-%d %H:%M} UTC"
        return f"{test.model_type} is on hold since {since}: the challenger is not promoted before `retrainer release`"
    for side, (limit, used) in _read_costs(project, test).items():
        if used >= USED_UP * limit:
            return (
                f"the {side} side has used ${used:.4f} of ${limit:g} (--max-cost): few or no more posts are scored. "
                f"End the test with `retrainer ab stop {test.model_type}`"
            )
    return None


def _find_unusable(project: Project, runtime: Runtime, test: ABTest) -> str | None:
    """Return why a side of a test cannot be loaded; None if both can."""
    try:
        for version_id in (test.version_id, test.challenger_id):
            load_live_fit(project, runtime, project.registry.get_version(version_id))
    except RetrainerError as error:
        return f"new posts are not scored: {error}"
    return None


def choose_outcome(state: ABTestState) -> tuple[TestOutcome | None, str]:
    """Return the outcome of a test, and why; None as the outcome if the test goes on."""
    test, posts = state.test, number(state.num_posts, "live post")
    low, high, _ = state.interval
    found = describe_interval(state.interval)
    if state.evidence_for_challenger >= state.threshold:
        reason = (
            f"The challenger won the A/B test on {posts} ({_describe_evidence(state, state.evidence_for_challenger)})"
        )
        return "promoted", f"{reason}: its error is {found}" if low is not None and low > 0 else reason
    if state.evidence_for_production >= state.threshold:
        reason = f"Production won the A/B test on {posts} ({_describe_evidence(state, state.evidence_for_production)})"
        return "kept", f"{reason}: the challenger's error is {found}" if high is not None and high < 0 else reason
    if high is not None and high <= SMALLEST_GAIN:
        return "futile", f"The challenger is not worth promoting: on {posts} its error is {found}"
    if state.num_posts >= test.max_posts:
        return "futile", f"The A/B test is undecided after {posts}: the challenger's error is {found}"
    return None, ""


def _describe_evidence(state: ABTestState, e_value: float) -> str:
    """Return what decided, which may be clear before the interval is."""
    return f"E = {e_value:,.1f}, {state.threshold:g} decides" if e_value < MAX_SHOWN else f"E > {MAX_SHOWN:,}"


def _promote(
    project: Project, runtime: Runtime, state: ABTestState, reason: str, now: datetime, *, automatic: bool
) -> None:
    test = state.test
    challenger = project.registry.get_version(test.challenger_id)
    model = load_live_fit(project, runtime, challenger)
    if not model.algorithm.description.paid:
        require_working_forecast(model, load_posts(project, test.model_type_name, now))
    change = project.registry.promote_challenger(
        test.test_id, reason, now, automatic=automatic, evidence=state.evidence()
    )
    if change is None:
        return
    if automatic:
        log.info("%s", reason)
    publish_change(project, runtime, "promotion", change)
    _publish(runtime, test, reason if automatic else f"The challenger was promoted. {reason}")


def _end(
    project: Project,
    runtime: Runtime,
    state: ABTestState,
    outcome: TestOutcome,
    reason: str,
    now: datetime,
    *,
    automatic: bool,
) -> None:
    project.registry.end_test(state.test.test_id, outcome, reason, now, automatic=automatic, evidence=state.evidence())
    if automatic:
        log.info("%s", reason)
    _publish(runtime, state.test, reason if automatic else f"Production was kept. {reason}")


def _publish(runtime: Runtime, test: ABTest, reason: str) -> None:
    runtime.events.publish(Event("ab_test", test.model_type_name, test.challenger_id, reason, stream=test.stream))


def _describe(test: ABTest, num_posts: int, interval: Interval) -> str:
    """Return what is known so far, in one sentence."""
    if num_posts == 0:
        return "No live post was scored." if test.status == "ended" else "No live post has been scored yet."
    found = describe_interval(interval)
    if test.status == "ended":
        return f"The challenger's error was {found}."
    if interval.low is None and interval.high is None:
        return "It is too early to say which is better."
    return f"So far the challenger's error is {found}; this holds however often you look."


def describe_interval(interval: Interval) -> str:
    """Return an interval in words, such as `4% to 17% smaller (estimate 10%)`."""
    low, high, estimate = interval
    shown = None if estimate is None else f"{abs(estimate):.0%} {'larger' if estimate < 0 else 'smaller'}"
    if low is None and high is None:
        return f"about {shown}, which may be chance" if shown else "the same"
    best, worst = (None if limit is None else f"{abs(limit):.0%}" for limit in (high, low))
    if low is not None and low > 0:
        text = f"{worst} to {best} smaller" if best else f"at least {worst} smaller"
    elif high is not None and high < 0:
        text = f"{best} to {worst} larger" if worst else f"at least {best} larger"
    elif low is None:
        text = f"at most {best} smaller"
    elif high is None:
        text = f"at most {worst} larger"
    else:
        text = f"between {worst} larger and {best} smaller"
    if shown is None:
        return text
    has_side = (low is not None and low > 0) or (high is not None and high < 0)
    return f"{text} (estimate {shown.split()[0] if has_side else shown})"

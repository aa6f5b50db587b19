"""Rollback by evidence: return to the previous version when live posts prove production worse than it.

Of one model the e-value of being worse must reach 100. Of many models looked at together, a false-rollback rate is
kept by the e-BH procedure; see `retrainer.live.fleet`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from retrainer.algorithms.events import Event
from retrainer.errors import (
    AlgorithmError,
    ArtifactError,
    ConfigError,
    MissingCredentials,
    NothingToRollBack,
    ProductionChanged,
    PromotionRefused,
    UsageError,
)
from retrainer.evaluation.sequential import (
    ROLLBACK_THRESHOLD,
    VERDICT_THRESHOLD,
    ConfidenceSequence,
    EProcess,
)
from retrainer.live.error_interval import ErrorInterval
from retrainer.live.scores import load_evidence, read_scores
from retrainer.live.update import update_comparison, update_live
from retrainer.pipeline.promotion import publish_change, require_working_fit
from retrainer.posts.validation import number, quote
from retrainer.streams import DEFAULT_STREAM
from retrainer.times import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from retrainer.config import StreamLiveSettings
    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.live_tables import LiveComparison
    from retrainer.registry.promotions import Change
    from retrainer.registry.tables import ModelVersion
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)

Outcome = Literal["kept", "rollback", "degraded"]


@dataclass(frozen=True)
class Review:
    """What the live posts say about a production version, and what was done.

    Attributes:
        outcome: `kept`; `rollback`: the previous version is in production again; `degraded`: production is proved
            worse, but it was not rolled back.
        reason: why, one sentence with the figures; None if there is no evidence against production.
        evidence: the figures behind the reason, as in the ledger.
        change: the rollback; None if there was none, or it was only asked for what would happen.
        is_new: whether it is the first review that found production degraded for this reason.
    """

    stream: str
    model_type: ModelTypeName
    outcome: Outcome
    reason: str | None = None
    evidence: dict[str, Any] | None = None
    change: Change | None = None
    is_new: bool = False


class Rule(NamedTuple):
    """By what an e-value was judged.

    Attributes:
        limit: the e-value that is enough.
        evidence: more of it, for the ledger.
    """

    limit: float = ROLLBACK_THRESHOLD
    evidence: dict[str, Any] = {}  # noqa: RUF012  never changed


class _Problem(NamedTuple):
    """Why production is not rolled back: a word for the ledger, and the end of a sentence."""

    kind: Literal["nothing_before", "previous_unusable", "previous_worse_than_naive"]
    text: str


def review_production(
    project: Project,
    runtime: Runtime,
    model_type: ModelTypeName,
    now: datetime,
    *,
    dry_run: bool = False,
    comparisons: Sequence[LiveComparison] | None = None,
) -> Review:
    """Roll back if live posts prove production worse than the previous version, or than naive where that is the floor.

    Nothing happens unless `live.rollback` is set.

    Args:
        dry_run: only return what would happen.
        comparisons: what `update_live` returned just now; None to call it.

    Raises:
        RetrainerError: the database or the posts cannot be read.
    """
    settings = project.settings.live
    if not settings.rollback:
        return Review(project.stream, model_type, "kept")
    if comparisons is None:
        comparisons = update_live(project, runtime, model_type, now, calls=not dry_run)
    watched = [one for one in comparisons if is_watched(one, settings)]
    worse = {one.against: one for one in watched if load_evidence(one).worse >= ROLLBACK_THRESHOLD}
    if not worse:
        return Review(project.stream, model_type, "kept")
    return act(project, runtime, worse.get("previous") or worse["naive"], Rule(), now, dry_run=dry_run)


def _describe_model(project: Project, model_type: ModelTypeName) -> str:
    """Return the name of a model: `timing`, or `timing of 'news'`."""
    return model_type if project.stream == DEFAULT_STREAM else f"{model_type} of {quote(project.stream)}"


def is_watched(comparison: LiveComparison, settings: StreamLiveSettings) -> bool:
    """Whether a comparison may lead to a rollback."""
    return settings.rollback and (
        comparison.against == "previous" or (comparison.against == "naive" and settings.floor == "naive")
    )


def act(
    project: Project, runtime: Runtime, comparison: LiveComparison, rule: Rule, now: datetime, *, dry_run: bool = False
) -> Review:
    """Roll back because of a comparison, or record and notify once why that is not possible.

    Nothing happens if production, or the previous version, is another one meanwhile: the next review decides.

    Args:
        comparison: in which production is proved worse.
        rule: by what.
        dry_run: only return what would happen.
    """
    model_type = comparison.model_type_name
    kept = Review(project.stream, model_type, "kept")
    evidence = _collect_evidence(project, comparison, rule, now)
    if not _is_up_to_date(project, comparison) or evidence["e_value"] < rule.limit:  # posts have changed meanwhile
        return kept
    reason = _explain(evidence)
    registry = project.registry
    problem: _Problem | None
    try:
        promotions = registry.find_promotions_to_undo(model_type)
    except NothingToRollBack:
        promotions, problem = [], _Problem("nothing_before", "there is no version to go back to")
    else:
        previous = registry.get_version_before(promotions[0])
        if not _is_about(comparison, promotions[0].to_version_id, previous):
            return kept
        problem = _find_problem(project, runtime, previous, now)
    if problem is not None:
        return _report_degraded(project, runtime, comparison, problem, reason, evidence, now, dry_run=dry_run)
    if dry_run:
        return Review(project.stream, model_type, "rollback", reason, evidence)
    try:
        project.artifacts.require_own_folder()
        change = registry.roll_back(promotions, reason, now, hold=True, evidence=evidence)
    except ProductionChanged as error:
        log.info("No rollback: %s", error)
        return kept
    log.warning("Rolled back %s to '%s'. %s", _describe_model(project, model_type), change.to_version, reason)
    publish_change(project, runtime, "rollback", change)
    return Review(project.stream, model_type, "rollback", reason, evidence, change)


def _is_up_to_date(project: Project, comparison: LiveComparison) -> bool:
    """Whether it is about production, no post has changed since it was scored, and no rollback used the evidence up."""
    registry = project.registry
    production = registry.get_production(comparison.model_type_name)
    if production is None or production.version_id != comparison.version_id:
        return False
    rollback = registry.get_last_rollback_from(comparison.version_id)
    is_new = rollback is None or comparison.starts_after >= rollback
    return comparison.rescore_from is None and is_new


def _is_about(comparison: LiveComparison, production: str | None, previous: ModelVersion) -> bool:
    if comparison.version_id != production:
        return False
    return comparison.against == "naive" or comparison.other_fit == previous.fit


def _find_problem(project: Project, runtime: Runtime, previous: ModelVersion, now: datetime) -> _Problem | None:
    """Return why the previous version cannot be restored; None if it can."""
    try:
        require_working_fit(project, runtime, previous, now)
    except (AlgorithmError, ArtifactError, ConfigError, MissingCredentials, PromotionRefused, UsageError) as error:
        return _Problem("previous_unusable", f"'{previous.version_id}' cannot be restored: {error.message}")
    comparison = update_comparison(project, runtime, previous, now)
    e_value = load_evidence(comparison).worse if comparison is not None else 0.0
    if e_value < VERDICT_THRESHOLD:
        return None
    text = f"'{previous.version_id}' is worse than the naive forecast itself (E = {_number(e_value)})"
    return _Problem("previous_worse_than_naive", text)


def _report_degraded(
    project: Project,
    runtime: Runtime,
    comparison: LiveComparison,
    problem: _Problem,
    reason: str,
    evidence: dict[str, Any],
    now: datetime,
    *,
    dry_run: bool,
) -> Review:
    model_type, version_id = comparison.model_type_name, comparison.version_id
    reason = f"{reason}, but {problem.text}"
    evidence = {**evidence, "problem": problem.kind}
    is_new = not dry_run and project.registry.record_degraded(model_type, version_id, reason, evidence, now)
    if is_new:
        name, hint = (
            _describe_model(project, model_type),
            f"Run `retrainer train {model_type}`, or promote another version",
        )
        log.warning("Production of %s is degraded. %s. %s", name, reason, hint)
        runtime.events.publish(Event("degraded", model_type, version_id, reason, stream=project.stream))
    return Review(project.stream, model_type, "degraded", reason, evidence, is_new=is_new)


def _collect_evidence(project: Project, comparison: LiveComparison, rule: Rule, now: datetime) -> dict[str, Any]:
    """Return the figures of a comparison, which are not computed again later, whatever happens to the posts."""
    process, sequence, through = EProcess(), ConfidenceSequence(), None
    for scores in read_scores(project.registry, comparison.comparison_id, until=now):
        process.update(scores.stakes)
        sequence.update(scores.stakes)
        through = format_time(scores.created_at[-1].item().replace(tzinfo=UTC))
    error = ErrorInterval.of_a(sequence.interval())
    return {
        "against": comparison.against,
        "e_value": process.worse,
        "limit": rule.limit,
        "num_posts": process.count,
        "starts_after": format_time(comparison.starts_after),
        "through": through,
        "error_smaller_by": {"low": error.low, "high": error.high, "estimate": error.estimate},
        "version_id": comparison.version_id,
        "fit": comparison.fit,
        "other_version_id": comparison.other_version_id,
        "other_fit": comparison.other_fit,
        **rule.evidence,
    }


def _explain(evidence: dict[str, Any]) -> str:
    posts = number(evidence["num_posts"], "live post")
    error = ErrorInterval(**evidence["error_smaller_by"]).describe("worse")
    other = "the naive forecast"
    if evidence["other_version_id"] is not None:
        other = f"the previous version, '{evidence['other_version_id']}'"
    figures = f"E = {_number(evidence['e_value'])}, limit {_number(evidence['limit'])}"
    if "num_comparisons" in evidence:
        figures += f" with {number(evidence['num_comparisons'], 'comparison')}"
    return f"On {posts} the error of '{evidence['version_id']}' is {error} that of {other} ({figures})"


def _number(e_value: float) -> str:
    return f"{e_value:,.0f}" if e_value < 10_000 else "over 10,000"  # noqa: PLR2004  a readable number

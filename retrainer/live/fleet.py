"""Rollback by evidence over many streams: their comparisons are decided on together, at a false-rollback rate.

Looked at one by one, a hundred good models would be rolled back wrongly now and then. The e-BH procedure bounds the
share of wrong rollbacks instead, among the comparisons of a calendar year; what was rolled back stays among them with
the e-value that it was rolled back for. The comparison of a version that a promotion replaced leaves them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from retrainer.errors import DamagedValue, RetrainerError
from retrainer.evaluation.sequential import ROLLBACK_THRESHOLD, EProcess, select_by_e_bh
from retrainer.live.rollback import Review, Rule, act, is_watched
from retrainer.live.scores import load_evidence, read_scores
from retrainer.live.summary import read_comparisons
from retrainer.model_types import MODEL_TYPE_NAMES

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.live_tables import LiveComparison
    from retrainer.runtime import Runtime
    from retrainer.streams import ModelKey

log = logging.getLogger(__name__)

_MOST_WATCHED = 2  # comparisons of a model: with the naive forecast, and with the previous version


def review_fleet(
    project: Project,
    runtime: Runtime,
    streams: Collection[str],
    model_types: Sequence[ModelTypeName],
    now: datetime,
) -> list[Review]:
    """Roll back production versions of many streams by their current e-values, which were just brought up to date.

    A rollback that goes wrong is logged as a warning and prevents no other one.

    Args:
        streams: those that may be rolled back; the comparisons of all others count, too.
        model_types: the same for types.

    Returns:
        The rollbacks, and what is newly found degraded.

    Raises:
        DatabaseError: the database cannot be read.
    """
    selected, rule, damaged = _select(project, streams, model_types, now)
    for key, problem in damaged.items():
        log.warning("No rollback of the %s model of '%s': %s", key.model_type, key.stream, problem)
    reviews = []
    for one in selected:
        try:
            review = act(project.for_stream(one.stream), runtime, one, rule, now)
        except RetrainerError as error:
            log.warning("No rollback of %s of '%s': %s", one.model_type, one.stream, error)
            continue
        if review.change is not None or review.is_new:
            reviews.append(review)
    return reviews


def preview_fleet(project: Project, runtime: Runtime, model_type: ModelTypeName, now: datetime) -> Review:
    """Return what `review_fleet` of all streams would do with the model of one, which was just brought up to date."""
    selected, rule, damaged = _select(project, project.list_streams(), MODEL_TYPE_NAMES, now)
    key = project.registry.key(model_type)
    if key in damaged:
        raise damaged[key]
    for one in selected:
        if one.model_key == key:
            return act(project, runtime, one, rule, now, dry_run=True)
    return Review(project.stream, model_type, "kept")


def _select(
    project: Project, streams: Collection[str], model_types: Sequence[ModelTypeName], now: datetime
) -> tuple[list[LiveComparison], Rule, dict[ModelKey, DamagedValue]]:
    """Return the comparisons that prove production worse, of some streams and types, the rule, and what is damaged.

    None is proved by less than is asked of a single model: of few comparisons, the rate alone would ask for little.
    """
    watched, damaged = _read_watched(project)
    decided = _list_decided(project, now)
    # Damaged ones count, so that the others need no less evidence.
    total = len(watched) + _MOST_WATCHED * len(damaged) + len(decided)
    candidates = {one.comparison_id: one for one in watched if one.stream in streams and one.model_type in model_types}
    e_values: dict[int | str, float] = {}
    for comparison_id, one in candidates.items():
        try:
            e_values[comparison_id] = _measure(project, one, now)
        except DamagedValue as error:
            damaged[one.model_key] = error
    enough = {key: value for key, value in (e_values | decided).items() if value >= ROLLBACK_THRESHOLD}
    rate = project.settings.for_all.live.false_rollback_rate
    proved = select_by_e_bh(enough, total, rate)
    limit = max(ROLLBACK_THRESHOLD, total / (rate * len(proved))) if proved else ROLLBACK_THRESHOLD
    rule = Rule(limit, {"num_comparisons": total, "false_rollback_rate": rate})
    return [one for comparison_id, one in candidates.items() if comparison_id in proved], rule, damaged


def _read_watched(project: Project) -> tuple[list[LiveComparison], dict[ModelKey, DamagedValue]]:
    """Return the comparisons that may lead to a rollback, of all streams, and the errors of damaged ones."""
    comparisons, damaged = read_comparisons(project.registry.across(None))
    settings = project.settings.for_streams({one.stream for one in comparisons})
    return [one for one in comparisons if is_watched(one, settings[one.stream].live)], damaged


def _measure(project: Project, comparison: LiveComparison, now: datetime) -> float:
    """Return the e-value that production is worse, by the posts up to now, a time that may be past."""
    if comparison.through is None or comparison.through <= now:
        return load_evidence(comparison).worse
    process = EProcess()
    for scores in read_scores(project.registry, comparison.comparison_id, until=now):
        process.update(scores.stakes)
    return process.worse


def _list_decided(project: Project, now: datetime) -> dict[int | str, float]:
    """Return the e-values of the rollbacks by evidence of this calendar year up to now, in all streams."""
    entries = project.registry.across(None).list_ledger_entries(actions=("rollback",))
    return {
        f"rollback {entry.entry_id}": float(entry.evidence["e_value"])
        for entry in entries
        if entry.automatic and entry.at.year == now.year and entry.at <= now and "e_value" in entry.evidence
    }

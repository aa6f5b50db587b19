"""Bring live scores up to date, and decide running A/B tests: what a look at them does before it shows them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from retrainer.errors import RetrainerError
from retrainer.live.ab_tests import choose_outcome, decide_test, measure_test
from retrainer.live.fleet import preview_fleet
from retrainer.live.rollback import Review, review_production
from retrainer.live.summary import LiveSummary, summarize_live
from retrainer.live.update import update_live
from retrainer.streams import of_stream

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.ledger import TestOutcome
    from retrainer.runtime import Runtime
    from retrainer.streams import ModelKey

log = logging.getLogger(__name__)

MAX_MODELS = 100  # that are brought up to date by a look at many streams; each takes some 0.1 s


def refresh_live(
    project: Project,
    runtime: Runtime,
    model_type: ModelTypeName,
    now: datetime,
    *,
    decide: bool = True,
    calls: bool = True,
) -> None:
    """Score the new live posts of a model.

    Args:
        decide: whether to decide a running A/B test.
        calls: whether to make the missing forecasts of the paid sides of an A/B test.
    """
    update_live(project, runtime, model_type, now, calls=calls, warn=True)
    if decide:
        decide_test(project, runtime, model_type, now)


def refresh_streams(
    project: Project,
    runtime: Runtime,
    streams: Iterable[str] | None,
    model_type: ModelTypeName | None,
    now: datetime,
) -> tuple[dict[ModelKey, LiveSummary], set[ModelKey]]:
    """Return a summary of each production version of some streams; up to 100 are brought up to date first.

    A model that fails is logged and shown by the scores recorded so far; one whose scores are damaged is left out.

    Args:
        streams: their names; None for all.
        model_type: only this one; None for both.

    Returns:
        The summaries, and the models that failed.
    """
    registry = project.registry.across(streams)
    found = [one.model_key for one in registry.list_production() if model_type in {None, one.model_type}]
    failed = set()
    for key in found if len(found) <= MAX_MODELS else ():
        try:
            refresh_live(project.for_stream(key.stream), runtime, key.model_type, now)
        except RetrainerError as error:
            name = of_stream(key.stream, several=True)
            log.error("Cannot score the live posts of the %s model%s: %s", key.model_type, name, error)  # noqa: TRY400  an expected error
            failed.add(key)
    summaries, damaged = summarize_live(registry, model_type)
    for key, problem in damaged.items():
        if key not in failed:
            name = of_stream(key.stream, several=True)
            log.error("Cannot show the live scores of the %s model%s: %s", key.model_type, name, problem)
            failed.add(key)
    return summaries, failed


@dataclass(frozen=True)
class NextTrain:
    """What the next `train` would do by the evidence so far.

    Attributes:
        review: whether it would roll back.
        ab_test: how it would end the running A/B test; None if it would not, or none is running.
        ab_test_reason: why; empty likewise.
    """

    review: Review
    ab_test: TestOutcome | None = None
    ab_test_reason: str = ""


def preview_train(project: Project, runtime: Runtime, model_type: ModelTypeName, now: datetime) -> NextTrain:
    """Return what the next `train` (of all streams, if there are several) would do by the evidence, and do nothing."""
    test = project.registry.get_running_test(model_type)
    outcome, reason = (None, "") if test is None else choose_outcome(measure_test(project, test, now))
    if len(project.list_streams()) > 1:
        review = preview_fleet(project, runtime, model_type, now)
    else:
        review = review_production(project, runtime, model_type, now, dry_run=True)
    if not project.settings.live.rollback:
        review = replace(review, reason="live.rollback is off")
    elif outcome == "promoted":
        review = Review(project.stream, model_type, "kept", "the A/B test is decided first")
    return NextTrain(review, outcome, reason)

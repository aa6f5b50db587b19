"""The JSON document of a replay.

All of it but the seconds is a function of the posts, the policies and the dates.
"""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from retrainer.model_types import get_model_type
from retrainer.render.documents import moment

if TYPE_CHECKING:
    from datetime import timedelta

    from retrainer.model_types import ModelTypeName
    from retrainer.render.documents import Document
    from retrainer.replay.results import Figure, LiveScores, PolicyReport, ReplayReport
    from retrainer.replay.step import StepResult


def replay_document(report: ReplayReport) -> Document:
    """Describe a replay: its policies by name, and every step of each.

    A live score follows from the steps: each of its parts is the mean of the steps' parts, weighted by their
    `num_predictions`, and the score is made of these as that of any evaluation: for timing 0.7 · within_6h_accuracy
    + 0.3 · (1 − min(mae_hours / 24, 1)), for content the mean of its parts. It is not the mean of the steps' scores,
    since the error is cut at 24 hours only as a whole. The same holds for the naive forecast.
    """
    return {
        "model_type": report.model_type,
        "from": moment(report.start),
        "to": moment(report.end),
        "complete": not report.ending.stopped,
        "stopped": report.ending.stopped or None,
        "spent_usd": report.ending.spent_usd,
        "policies": {one.policy.name: _policy(one, report.model_type) for one in report.policies},
        "best": report.best,
        "conclusion": report.conclusion,
    }


def _policy(one: PolicyReport, model_type: ModelTypeName) -> Document:
    evidence = one.against_configured
    return {
        "algorithm": one.policy.algorithm,
        "changes": one.policy.changes,
        "schedule_days": one.policy.settings.retraining.schedule_days,
        "first_step": moment(one.steps[0].at) if one.steps else None,
        "live": None if one.live is None else _live(one.live),
        "against_configured": None if evidence is None else evidence.document(),
        "trainings": one.trainings,
        "failed_runs": one.failures,
        "promotions": one.promotions,
        "decisions": one.decisions,
        "decisions_looked_at": one.looked_at,
        "promotions_reversed": one.reversed_promotions,
        "rejections_missed": one.missed,
        "days_live": _days(one.naive_comparison.live),
        "days_worse_than_naive": _days(one.naive_comparison.worse),
        "cost": {
            "seconds": round(one.seconds, 3),
            "tokens": one.tokens,
            "cost_usd": one.cost_usd,
            "live_cost_usd": one.live_cost_usd,
        },
        "steps": [_step(record, model_type) for record in one.steps],
    }


def _live(live: LiveScores) -> Document:
    return {
        "num_predictions": len(live),
        "overall_score": _figure(live.score),
        "parts": {key: _figure(figure) for key, figure in live.parts.items()},
        "baseline": {"overall_score": _figure(live.naive_score)},
        "skill": live.skill,
    }


def _figure(figure: Figure) -> Document:
    return {"value": figure.value, "interval": None if figure.interval is None else list(figure.interval)}


def _step(record: StepResult, model_type: ModelTypeName) -> Document:
    return {
        "at": moment(record.at),
        "until": moment(record.until),
        "version_id": record.version_id,
        "promoted": record.promoted,
        "failed": record.failed,
        "reason": record.reason or None,
        "improvement_percentage": record.improvement_percentage,
        "live_version_id": record.live,
        "num_predictions": len(record.rows),
        "live_score": record.score,
        "live_parts": _means(record.figures, model_type),
        "baseline_score": record.naive_score,
        "baseline_parts": _means(record.naive_figures, model_type),
        "later_look": record.later_look,
    }


def _means(figures: list[list[float]], model_type: ModelTypeName) -> Document | None:
    """Return the parts of a score by name; None without any post."""
    if not figures:
        return None
    return {
        key: fmean(column)
        for key, column in zip(get_model_type(model_type).component_names, zip(*figures, strict=True), strict=True)
    }


def _days(time: timedelta) -> float:
    return round(time.total_seconds() / 86_400, 4)

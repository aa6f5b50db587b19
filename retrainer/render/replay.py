"""A replay as tables for a terminal, and as a JSON document."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from retrainer import console
from retrainer.model_types import get_model_type
from retrainer.render.cells import skill_style
from retrainer.times import format_time

if TYPE_CHECKING:
    from datetime import timedelta

    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.base import Metric
    from retrainer.replay.results import Figure, PolicyReport, ReplayReport
    from retrainer.replay.step import StepResult

SECONDS_PER_DAY = 86_400


def show_replay(report: ReplayReport) -> None:
    """Print the policies side by side, their live scores first, and the conclusion."""
    if report.ending.stopped:
        console.text(f"{report.ending.stopped.rstrip('.')}. Results so far:")
    if any(policy.live is not None for policy in report.policies):
        _show_scores(report)
    _show_decisions(report)
    console.text(report.conclusion)


def _show_scores(report: ReplayReport) -> None:
    metrics = {metric.key: metric for metric in get_model_type(report.model_type).metrics}
    live = [(policy, policy.live) for policy in report.policies if policy.live is not None]
    rows = [
        (
            policy.policy.name,
            str(len(scores)),
            f"{scores.score.value:.4f}",
            format_interval(scores.score, metrics["overall_score"]),
            f"{scores.naive_score.value:.4f}",
            console.Styled(f"{scores.skill:+.3f}", skill_style(scores.skill)),
            format_difference(policy),
        )
        for policy, scores in live
    ]
    title = f"{report.model_type.capitalize()}, live from {report.start:%Y-%m-%d} to {report.end:%Y-%m-%d}"
    columns = ["Policy", "Posts", "Live score", "95% interval", "Naive", "Skill", "vs configured"]
    console.table(columns, rows, title=title, right=columns[1:])
    parts = [metrics[key] for key in get_model_type(report.model_type).component_names]
    rows_of_parts = [
        (
            policy.policy.name,
            *(
                cell
                for part in parts
                for cell in (part.format(scores.parts[part.key].value), format_interval(scores.parts[part.key], part))
            ),
        )
        for policy, scores in live
    ]
    headings = [heading for part in parts for heading in (part.label, f"{part.label}, 95%")]
    console.table(["Policy", *headings], rows_of_parts, right=headings)


def _show_decisions(report: ReplayReport) -> None:
    rows = [
        (
            policy.policy.name,
            str(policy.trainings),
            console.Styled(str(policy.failures), "bad") if policy.failures else "0",
            str(policy.promotions),
            f"{policy.looked_at} of {policy.decisions}" if policy.decisions else "-",
            str(policy.reversed_promotions),
            str(policy.missed),
            f"{policy.seconds:.1f} s",
            format_worse_than_naive(policy),
        )
        for policy in report.policies
    ]
    columns = ["Policy", "Trained", "Failed", "Promoted", "Judged", "Reversed", "Missed", "Time", "Below naive"]
    console.table(columns, rows, right=columns[1:], optional=["Time"])
    if any(policy.cost_usd or policy.live_cost_usd for policy in report.policies):
        costs = [
            (policy.policy.name, str(policy.tokens), f"${policy.cost_usd:.4f}", f"${policy.live_cost_usd:.4f}")
            for policy in report.policies
        ]
        console.table(["Policy", "Tokens", "Cost", "Live cost"], costs, right=["Tokens", "Cost", "Live cost"])


def format_interval(figure: Figure, metric: Metric) -> str:
    """Return the interval of a figure in the metric's unit, which the figure beside it shows."""
    if figure.interval is None:
        return "-"
    form, scale = {"share": (".1f", 100), "hours": (".2f", 1)}.get(metric.unit, (".4f", 1))
    low, high = (f"{end * scale:{form}}" for end in figure.interval)
    return f"{low} to {high}"


def format_difference(policy: PolicyReport) -> str:
    evidence = policy.against_configured
    if evidence is None or evidence.interval_percentage is None:
        return "-"
    low, high = evidence.interval_percentage
    return f"{low:+.1f} to {high:+.1f}%"


def format_worse_than_naive(policy: PolicyReport) -> str:
    live, worse = policy.naive_comparison
    return f"{worse / live:.0%} of {live.total_seconds() / SECONDS_PER_DAY:.0f} d" if live else "-"


def replay_document(report: ReplayReport) -> dict[str, Any]:
    """Return a replay as a JSON document: the policies by name, and every step of each.

    All of it except the seconds is determined by the posts, the policies and the dates.

    The parts of a live score are the means of the steps' parts, weighted by `num_predictions`. The score is computed
    from these parts as in any evaluation: for timing 0.7 · within_6h_accuracy + 0.3 · (1 − min(mae_hours / 24, 1)),
    for content the mean of the parts. It differs from the mean of the steps' scores, since the error is capped at 24
    hours only as a whole. The same holds for the naive forecast.
    """
    return {
        "model_type": report.model_type,
        "from": format_time(report.start),
        "to": format_time(report.end),
        "complete": not report.ending.stopped,
        "stopped": report.ending.stopped or None,
        "spent_usd": report.ending.spent_usd,
        "policies": {policy.policy.name: _policy_document(policy, report.model_type) for policy in report.policies},
        "best": report.best,
        "conclusion": report.conclusion,
    }


def _policy_document(policy: PolicyReport, model_type: ModelTypeName) -> dict[str, Any]:
    evidence = policy.against_configured
    return {
        "algorithm": policy.policy.algorithm,
        "changes": policy.policy.changes,
        "schedule_days": policy.policy.settings.retraining.schedule_days,
        "first_step": format_time(policy.steps[0].at) if policy.steps else None,
        "live": _live_document(policy),
        "against_configured": evidence and evidence.document(),
        "trainings": policy.trainings,
        "failed_runs": policy.failures,
        "promotions": policy.promotions,
        "decisions": policy.decisions,
        "decisions_looked_at": policy.looked_at,
        "promotions_reversed": policy.reversed_promotions,
        "rejections_missed": policy.missed,
        "days_live": _days(policy.naive_comparison.live),
        "days_worse_than_naive": _days(policy.naive_comparison.worse),
        "cost": {
            "seconds": round(policy.seconds, 3),
            "tokens": policy.tokens,
            "cost_usd": policy.cost_usd,
            "live_cost_usd": policy.live_cost_usd,
        },
        "steps": [_step_document(step, model_type) for step in policy.steps],
    }


def _live_document(policy: PolicyReport) -> dict[str, Any] | None:
    live = policy.live
    if live is None:
        return None
    return {
        "num_predictions": len(live),
        "overall_score": live.score._asdict(),
        "parts": {key: figure._asdict() for key, figure in live.parts.items()},
        "baseline": {"overall_score": live.naive_score._asdict()},
        "skill": live.skill,
    }


def _step_document(step: StepResult, model_type: ModelTypeName) -> dict[str, Any]:
    return {
        "at": format_time(step.at),
        "until": format_time(step.until),
        "version_id": step.version_id,
        "promoted": step.promoted,
        "failed": step.failed,
        "reason": step.reason or None,
        "improvement_percentage": step.improvement_percentage,
        "live_version_id": step.live,
        "num_predictions": len(step.rows),
        "live_score": step.score,
        "live_parts": _mean_parts(step.figures, model_type),
        "baseline_score": step.naive_score,
        "baseline_parts": _mean_parts(step.naive_figures, model_type),
        "later_look": step.later_look,
    }


def _mean_parts(figures: list[list[float]], model_type: ModelTypeName) -> dict[str, float] | None:
    """Return the parts of a score by name; None without any post."""
    if not figures:
        return None
    names = get_model_type(model_type).component_names
    return {name: fmean(column) for name, column in zip(names, zip(*figures, strict=True), strict=True)}


def _days(time: timedelta) -> float:
    return round(time.total_seconds() / SECONDS_PER_DAY, 4)

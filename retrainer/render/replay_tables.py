"""What a replay looks like to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer import console
from retrainer.model_types import get_model_type

if TYPE_CHECKING:
    from datetime import timedelta

    from retrainer.model_types.base import Metric
    from retrainer.replay.results import Figure, PolicyReport, ReplayReport


def show_replay(report: ReplayReport) -> None:
    """Show the policies side by side, the live scores first, and one sentence about them."""
    if report.ending.stopped:
        console.text(f"{report.ending.stopped.rstrip('.')}. What is known so far:")
    if any(one.live is not None for one in report.policies):
        _scores(report)
    _decisions(report)
    console.text(report.conclusion)


def _scores(report: ReplayReport) -> None:
    metrics = {metric.key: metric for metric in get_model_type(report.model_type).metrics}
    parts = [metrics[key] for key in get_model_type(report.model_type).component_names]
    rows = [
        (
            one.policy.name,
            str(len(one.live)),
            _written(one.live.score, metrics["overall_score"]),
            *(_written(one.live.parts[part.key], part) for part in parts),
            f"{one.live.naive_score.value:.4f}",
            f"{one.live.skill:+.3f}",
            _difference(one),
        )
        for one in report.policies
        if one.live is not None
    ]
    title = f"{report.model_type.capitalize()}, live from {report.start:%Y-%m-%d} to {report.end:%Y-%m-%d}"
    labels = [f"{part.label} (95%)" for part in parts]
    columns = ["Policy", "Posts", "Live score (95%)", *labels, "Naive", "Skill", "Against configured (95%)"]
    console.table(columns, rows, title=title, right=columns[1:])


def _decisions(report: ReplayReport) -> None:
    paid = any(one.cost_usd or one.live_cost_usd for one in report.policies)
    rows = [
        (
            one.policy.name,
            str(one.trainings) + (f" ({one.failures} failed)" if one.failures else ""),
            str(one.promotions),
            f"{one.looked_at} of {one.decisions}" if one.decisions else "-",
            str(one.reversed_promotions),
            str(one.missed),
            _share(one),
            f"{one.seconds:.1f} s",
            *((str(one.tokens), f"${one.cost_usd:.4f}", f"${one.live_cost_usd:.4f}") if paid else ()),
        )
        for one in report.policies
    ]
    columns = ["Policy", "Trainings", "Promotions", "Judged later", "Reversed", "Missed", "Worse than naive"]
    columns += ["Computing", *(("Tokens", "Cost", "Live cost") if paid else ())]
    console.table(columns, rows, right=columns[1:])


def _written(figure: Figure, metric: Metric) -> str:
    """Write a figure and its interval in the metric's unit."""
    form, scale, unit = {"share": (".1f", 100, "%"), "hours": (".2f", 1, "h")}.get(metric.unit, (".4f", 1, ""))
    value = f"{figure.value * scale:{form}}{unit}"
    if figure.interval is None:
        return value
    low, high = (f"{end * scale:{form}}" for end in figure.interval)
    return f"{value} ({low} to {high})"


def _difference(one: PolicyReport) -> str:
    evidence = one.against_configured
    if evidence is None or evidence.interval_percentage is None:
        return "-"
    low, high = evidence.interval_percentage
    return f"{low:+.1f} to {high:+.1f}%"


def _share(one: PolicyReport) -> str:
    live, worse = one.naive_comparison
    return f"{worse / live:.0%} of {_days(live)}" if live else "-"


def _days(time: timedelta) -> str:
    return f"{time.total_seconds() / 86_400:.0f} days"

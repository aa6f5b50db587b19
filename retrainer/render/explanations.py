"""Print what the forecasts of a version depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrainer import console
from retrainer.posts.validation import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.algorithms.hookspecs import Importance
    from retrainer.registry.tables import ModelExplanation

METRIC_LABELS = {"overall_score": "Score", "lift": "Lift", "crps_hours": "CRPS"}
_HEADINGS = {"left_out": "Without", "permuted": "Permuted"}


def show_importance(importance: Sequence[Importance]) -> None:
    """Print what an algorithm itself says about its features, if it does."""
    if importance:
        rows = [(row.label, f"{row.value:.4g}", row.unit, row.note) for row in importance]
        console.table(["Feature importance", "Value", "Unit", "Note"], rows, right=["Value"])


def show_explanation(explanation: ModelExplanation) -> None:
    """Print what each part is worth, with its interval."""
    heading = _HEADINGS[explanation.method]
    names = list(explanation.metrics)
    columns = [heading, *(column for name in names for column in (METRIC_LABELS[name], f"{METRIC_LABELS[name]} 95%"))]
    rows = [
        (
            console.Styled(part["label"], "good") if is_proven(part) else part["label"],
            *(cell for name in names for cell in _cells(name, (part["worth"] or {}).get(name))),
            str(part["num_predictions"]),
        )
        for part in explanation.parts
    ]
    console.table(
        [*columns, "Posts"], rows, title=describe(explanation), right=[*columns[1:], "Posts"], optional=["Posts"]
    )
    console.paragraph(describe_reading(explanation))
    if explanation.problem:
        console.paragraph(console.Styled(f"Incomplete: {explanation.problem}", "warning"))
    console.text()


def describe(explanation: ModelExplanation) -> str:
    """Return a sentence about when and on which posts it was measured, and the metrics of the full forecasts."""
    window = explanation.window
    metrics = ", ".join(
        f"{METRIC_LABELS[name] if name == 'crps_hours' else METRIC_LABELS[name].lower()} {format_value(name, value)}"
        for name, value in explanation.metrics.items()
    )
    cost = f" for ${explanation.cost_usd:.4f}" if explanation.cost_usd else ""
    posts = number(explanation.num_predictions, "post")
    return (
        f"Measured {explanation.explained_at:%Y-%m-%d %H:%M} UTC{cost} on {posts} "
        f"from {window['start'][:10]} to {window['end'][:10]}; full forecasts: {metrics}"
    )


def describe_reading(explanation: ModelExplanation) -> str:
    """Return how to read the figures."""
    if explanation.method == "left_out":
        what = "how much score and lift drop without the part"
    else:
        what = "how much the score drops and the CRPS rises with the input of another forecast"
    return f"The figures show {what}. Where the 95% interval includes 0, the result is inconclusive."


def is_proven(part: dict[str, Any]) -> bool:
    """Whether the forecasts are better with a part, by the 95% interval of any metric."""
    intervals = [one["interval"] for one in (part["worth"] or {}).values() if one]
    return any(interval is not None and interval[0] > 0 for interval in intervals)


def format_value(name: str, value: float, *, signed: bool = False) -> str:
    """Format a metric, or a difference of it with its sign."""
    sign = "+" if signed else ""
    return f"{value:{sign}.2f}h" if name == "crps_hours" else f"{value:{sign}.3f}"


def format_interval(name: str, interval: Sequence[float] | None) -> str:
    """Format the interval of a difference; a dash for None."""
    return "-" if interval is None else " to ".join(format_value(name, bound, signed=True) for bound in interval)


def _cells(name: str, worth: dict[str, Any] | None) -> tuple[str, str]:
    if worth is None:
        return "-", "-"
    return format_value(name, worth["value"], signed=True), format_interval(name, worth["interval"])

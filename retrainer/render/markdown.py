"""What a run came to, as Markdown: for the page that a CI service shows of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.model_types import get_model_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retrainer.errors import RetrainerError
    from retrainer.model_types.base import Metric
    from retrainer.pipeline.results import Failure, RunResult


def markdown(outcomes: Sequence[RunResult | Failure], not_due: Sequence[str] = ()) -> str:
    """Return one section a model type: the decision, the figures beside the naive forecast's, the evidence.

    Args:
        outcomes: of the runs.
        not_due: a line for each model type that was not due.
    """
    from retrainer.pipeline.results import Failure  # noqa: PLC0415  imported by now: it made the outcomes

    sections = [_failure(outcome) if isinstance(outcome, Failure) else _result(outcome) for outcome in outcomes]
    sections += [f"- {_escaped(line)}" for line in not_due]
    return "\n\n".join(sections) + "\n" if sections else ""


def markdown_of_failure(error: RetrainerError) -> str:
    """Return the section of a call that failed before any model type's turn."""
    return _failed("retraining", error) + "\n"


def _failure(outcome: Failure) -> str:
    return _failed(outcome.model_type, outcome.error)


def _failed(what: str, error: RetrainerError) -> str:
    return f"## ✗ {what}: failed\n\n{_escaped(str(error))}"


def _result(outcome: RunResult) -> str:
    reason = outcome.run.promotion_reason if outcome.run else outcome.decision and outcome.decision.reason
    sign, what = ("✓", "promoted") if outcome.promoted else ("–", "not promoted")
    if outcome.run is None:
        sign, what = "–", "dry run, nothing is recorded"
    version = f"`{outcome.run.model_version_id}`" if outcome.run else outcome.algorithm
    parts = [f"## {sign} {outcome.model_type}: {what}", f"{version}: {_escaped(reason or 'not evaluated')}"]
    if outcome.evaluation is not None:
        evaluation, comparison = outcome.evaluation, outcome.comparison
        sides: dict[str, Mapping[str, float] | None] = {"new": evaluation.metrics, "naive": evaluation.naive_metrics}
        if comparison is not None and comparison.metrics_b is not None:
            sides = {
                "new": comparison.metrics_b,
                "production": comparison.metrics_a,
                "naive": comparison.naive_metrics,
            }
        parts.append(_table(get_model_type(outcome.model_type).metrics, sides))
        if comparison is not None and comparison.evidence is not None:
            found = comparison.evidence
            detectable = found.smallest_detectable_percentage
            parts.append(
                f"Better with probability {found.probability_better:.2f} on {found.num_predictions} posts"
                + (f"; an improvement of {detectable:.1f}% would have shown in 8 of 10 cases." if detectable else ".")
            )
    return "\n\n".join(parts)


def _table(metrics: Sequence[Metric], sides: Mapping[str, Mapping[str, float] | None]) -> str:
    present = {name: values for name, values in sides.items() if values}
    lines = ["| | " + " | ".join(present) + " |", "|---|" + "---:|" * len(present)]
    for metric in metrics:
        if not any(metric.has_value(values.get(metric.key)) for values in present.values()):
            continue
        figures = [metric.format(values.get(metric.key)) for values in present.values()]
        lines.append(f"| {metric.label} | " + " | ".join(figures) + " |")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]<>#|" else letter for letter in text)

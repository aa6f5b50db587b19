"""The results of runs as Markdown, for the job page of a CI service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.escapes import visible
from retrainer.model_types import get_model_type
from retrainer.render.scores import describe_evidence, metric_rows, run_sides

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.errors import RetrainerError
    from retrainer.fleet.run import FleetResult
    from retrainer.pipeline.results import Failure, RunResult


def summarize(outcomes: Sequence[RunResult | Failure], not_due: Sequence[str] = ()) -> str:
    """Return a section for each model type: the decision, the scores and how certain they are.

    Args:
        outcomes: the results of the runs.
        not_due: a sentence for each model type that was not due.
    """
    from retrainer.pipeline.results import Failure  # noqa: PLC0415  imported by now: it made the outcomes

    sections = [
        _failure_section(outcome.model_type, outcome.error)
        if isinstance(outcome, Failure)
        else _result_section(outcome)
        for outcome in outcomes
    ]
    sections += [f"- {_escape(sentence)}" for sentence in not_due]
    return "\n\n".join(sections) + "\n" if sections else ""


def summarize_fleet(result: FleetResult) -> str:
    """Return a section for the runs of several streams: the numbers of outcomes, and the failures."""
    from retrainer.render.fleet import describe, outcome_rows  # noqa: PLC0415  imported by now

    lines = ["| | |", "|---|---:|", *(f"| {label} | {count} |" for label, count in outcome_rows(result))]
    failures = [
        f"- {_escape(f'{outcome.stream} {outcome.model_type}')}: {_escape(str(outcome.error))}"
        for outcome in result.failures
    ]
    mark = "✗" if result.exit_code else "✓"
    parts = [f"## {mark} {_escape(describe(result))}", "\n".join(lines), "\n".join(failures)]
    return "\n\n".join(filter(None, parts)) + "\n"


def summarize_failure(error: RetrainerError) -> str:
    """Return the section of a command that failed before it came to a model type."""
    return _failure_section("retraining", error) + "\n"


def _failure_section(subject: str, error: RetrainerError) -> str:
    return f"## ✗ {subject}: failed\n\n{_escape(str(error))}"


def _result_section(result: RunResult) -> str:
    if result.run is None:
        heading, model = "– {}: dry run, nothing is recorded", _escape(result.algorithm)
    else:
        heading = "✓ {}: promoted" if result.promoted else "– {}: not promoted"
        model = f"`{result.run.model_version_id}`"
    parts = [f"## {heading.format(result.model_type)}", f"{model}: {_escape(result.reason or 'not evaluated')}"]
    if result.evaluation is not None:
        parts.append(_scores_table(result))
    if result.comparison is not None and result.comparison.evidence is not None:
        parts.append(f"{describe_evidence('The new model', result.comparison.evidence)}.")
    return "\n\n".join(parts)


def _scores_table(result: RunResult) -> str:
    sides, _ = run_sides(result)
    headings, rows = metric_rows(get_model_type(result.model_type).metrics, sides)
    lines = ["| | " + " | ".join(headings) + " |", "|---|" + "---:|" * len(headings)]
    lines += [f"| {metric.label} | " + " | ".join(values) + " |" for metric, values in rows]
    return "\n".join(lines)


def _escape(text: str) -> str:
    """Escape characters with a meaning in Markdown, and write out control characters."""
    return "".join(f"\\{character}" if character in r"\`*_{}[]<>#|" else character for character in visible(text))

"""The Markdown summary of a call of `train`, which CI systems show as the page of a job."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.errors import RetrainerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from retrainer.pipeline.run import Failure, RunResult
    from retrainer.schedule.due import Due

log = logging.getLogger(__name__)

_MEANT_BY_MARKDOWN = str.maketrans({char: f"\\{char}" for char in "\\`*_[]<>|#~"})


@dataclass
class TrainReport:
    """What is told of one call of `train`, beside its result.

    Attributes:
        path: the file that summaries are appended to; None for none.
        due: what `--if-due` found; None where it was not asked.
    """

    path: Path | None
    due: Sequence[Due] | None = None

    @contextmanager
    def told_of_errors(self) -> Iterator[None]:
        """Append an error that ends the block, before any run or between runs."""
        try:
            yield
        except RetrainerError as error:
            self._append([f"### Retraining failed\n\n{_escaped(str(error))}\n"])
            raise

    def write(self, outcomes: Sequence[RunResult | Failure]) -> None:
        """Append what the runs came to."""
        if self.path is not None:
            not_due = [f"### {_escaped(str(one))}\n" for one in self.due or () if not one.is_due]
            self._append([*map(outcome_section, outcomes), *not_due])

    def _append(self, sections: Sequence[str]) -> None:
        """Append to the file; where that cannot be done, the result of the run stands all the same."""
        if self.path is None or not sections:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n".join(sections) + "\n")
        except OSError as error:
            log.warning("The summary '%s' cannot be written: %s", self.path, error.strerror)


def outcome_section(outcome: RunResult | Failure) -> str:
    """Return one run as Markdown: the decision, the scores with the naive forecast's, the evidence."""
    from retrainer.pipeline.run import Failure  # noqa: PLC0415  imported by now: it made the outcome

    name = f"{outcome.model_type.capitalize()} model"
    if isinstance(outcome, Failure):
        run = f"\n\nRun `{outcome.run.run_id}`" if outcome.run else ""
        return f"### {name}: ✗ failed\n\n{_escaped(str(outcome.error))}{run}\n"
    lines = [f"### {name}: {_verdict(outcome)}", ""]
    if outcome.decision is not None:
        reason = outcome.run.promotion_reason if outcome.run else outcome.decision.reason
        lines += [_escaped(reason or ""), ""]
    lines += _figures(outcome)
    if outcome.run is not None:
        seconds = outcome.run.duration_seconds or 0
        lines += [f"Version `{outcome.run.model_version_id}`, run `{outcome.run.run_id}`, {seconds:.1f} seconds", ""]
    return "\n".join(lines)


def _verdict(result: RunResult) -> str:
    if result.run is None:
        return "dry run, nothing is recorded"
    return "✓ promoted" if result.promoted else "✗ not promoted"


def _figures(result: RunResult) -> list[str]:
    """Return the table of scores and the sentences of evidence."""
    from retrainer import output, views  # noqa: PLC0415
    from retrainer.model_types import kind_of  # noqa: PLC0415

    if result.evaluation is None:
        return ["Not evaluated: the forecasts would have to be paid for.", ""]
    title, sides = views.figures_of(result, result.evaluation)
    present = {heading: values for heading, values in sides.items() if values}
    lines = [f"{_escaped(title)}", "", f"| Metric | {' | '.join(present)} |", f"|---|{'---:|' * len(present)}"]
    for metric in kind_of(result.model_type).metrics:
        values = [side.get(metric.key) for side in present.values()]
        if any(output.is_worth_showing(metric, value) for value in values):
            cells = " | ".join(output.figure(metric, value) for value in values)
            lines.append(f"| {_escaped(metric.label)} | {cells} |")
    comparison = result.comparison
    if comparison is not None and comparison.evidence is not None:
        lines += ["", f"{views.sureness('The new model', comparison.evidence)}."]
    if comparison is not None and comparison.differences:
        lines += ["", "| Where they differ most | posts | new | production |", "|---|---:|---:|---:|"]
        lines += [
            f"| {_escaped(one.situation)} | {one.num_predictions} | {one.score_b:.4f} | {one.score_a:.4f} |"
            for one in comparison.differences
        ]
    return [*lines, ""]


def _escaped(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return " ".join(text.split()).translate(_MEANT_BY_MARKDOWN)

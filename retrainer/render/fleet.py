"""What came of the runs of several streams, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from retrainer import console
from retrainer.posts.validation import number
from retrainer.times import format_duration

if TYPE_CHECKING:
    from retrainer.fleet.run import FleetResult

_LABELS = {"promoted": "promoted", "not_promoted": "not promoted", "failed": "failed", "skipped": "skipped"}
_STYLES: dict[str, Literal["good", "bad", "warning"]] = {"promoted": "good", "failed": "bad", "not started": "warning"}


def show_fleet(result: FleetResult) -> None:
    """Print the number of runs by outcome, and a line about the whole. Failures are in the log."""
    rows = [
        (console.Styled(label, style) if (style := _STYLES.get(label)) else label, str(count))
        for label, count in outcome_rows(result)
    ]
    if result.total:
        console.table(["Outcome", "Models"], rows, right=["Models"])
    console.text(f"{describe(result)}.")


def outcome_rows(result: FleetResult) -> list[tuple[str, int]]:
    """Return the outcomes that occurred, and how often."""
    counts = {label: result.counts[kind] for kind, label in _LABELS.items()}  # type: ignore[index]
    counts |= {"not started": len(result.not_started), "not due": result.not_due}
    return [(label, count) for label, count in counts.items() if count]


def describe(result: FleetResult) -> str:
    """Return a sentence about the whole, without its period."""
    if not result.total:
        if not result.not_due:
            return "Nothing to train"
        return f"Nothing is due: {number(result.not_due, 'model')} {'was' if result.not_due == 1 else 'were'} checked"
    counts = ", ".join(f"{count} {label}" for label, count in outcome_rows(result) if label != "not due")
    cost = f", ${result.cost_usd:.4f}" if result.cost_usd else ""
    time = format_duration(result.seconds)
    end = f". {result.stopped}" if result.stopped else ""
    return f"{len(result.outcomes)} of {number(result.total, 'run')} in {time}{cost}: {counts}{end}"

"""What came of the runs of several streams, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from retrainer import console

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
        return f"Nothing is due: {result.not_due} models were checked" if result.not_due else "Nothing to train"
    counts = ", ".join(f"{count} {label}" for label, count in outcome_rows(result) if label != "not due")
    minutes, seconds = divmod(round(result.seconds), 60)
    time = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    cost = f", ${result.cost_usd:.4f}" if result.cost_usd else ""
    end = f". {result.stopped}" if result.stopped else ""
    return f"{len(result.outcomes)} of {result.total} runs in {time}{cost}: {counts}{end}"

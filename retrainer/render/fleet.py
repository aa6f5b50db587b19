"""What came of the runs of several streams, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from retrainer import console
from retrainer.posts.validation import number, quote
from retrainer.times import format_duration

if TYPE_CHECKING:
    from retrainer.fleet.run import FleetResult
    from retrainer.live.rollback import Review

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
    for review in result.reviews:
        console.paragraph(console.Styled(f"{describe_review(review)}.", "warning"))
    for entry in result.ended_tests:
        of_stream = f"{entry.model_type} of {quote(entry.stream)}"
        console.paragraph(f"A/B test of {of_stream}, {entry.evidence.get('outcome')}. {str(entry.reason).rstrip('.')}.")
    console.text(f"{describe(result)}.")


def describe_review(review: Review) -> str:
    """Return what happened to a production version, and why, without the period."""
    done = "is degraded" if review.change is None else f"was rolled back to '{review.change.to_version}'"
    return f"{review.model_type} of {quote(review.stream)} {done}. {review.reason}"


def outcome_rows(result: FleetResult) -> list[tuple[str, int]]:
    """Return the outcomes that occurred, and how often."""
    counts = {label: result.counts[kind] for kind, label in _LABELS.items()}  # type: ignore[index]
    counts |= {"not started": len(result.not_started), "not due": result.not_due}
    return [(label, count) for label, count in counts.items() if count]


def describe(result: FleetResult) -> str:
    """Return a sentence about the whole, without its period."""
    reviews = _count_reviews(result)
    if not result.total:
        if not result.not_due:
            return f"Nothing to train{reviews}"
        verb = "was" if result.not_due == 1 else "were"
        return f"Nothing is due: {number(result.not_due, 'model')} {verb} checked{reviews}"
    counts = ", ".join(f"{count} {label}" for label, count in outcome_rows(result) if label != "not due")
    cost = f", ${result.cost_usd:.4f}" if result.cost_usd else ""
    time = format_duration(result.seconds)
    end = f". {result.stopped}" if result.stopped else ""
    return f"{len(result.outcomes)} of {number(result.total, 'run')} in {time}{cost}: {counts}{reviews}{end}"


def _count_reviews(result: FleetResult) -> str:
    rolled_back = sum(review.outcome == "rollback" for review in result.reviews)
    counts = {"rolled back": rolled_back, "degraded": len(result.reviews) - rolled_back}
    parts = [f"{count} {label}" for label, count in counts.items() if count]
    parts += [f"{number(len(result.ended_tests), 'A/B test')} ended"] if result.ended_tests else []
    return "".join(f", {part}" for part in parts)

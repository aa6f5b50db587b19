"""Entries of the ledger as sentences, and the options of a version as the settings file has them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from retrainer.registry.tables import LedgerEntry

# What happened to a version, by the action of the ledger entry.
_EVENTS = {
    "promotion": "was promoted to production",
    "rollback": "was put back into production",
    "rejection": "was not promoted",
    "archive": "was archived",
    "restore": "was restored",
    "prune": "was pruned: its files were deleted",
    "pin": "was pinned",
    "unpin": "was unpinned",
    "import": "was imported",
    "degraded": "was found worse on live posts, and kept",
    "ab_start": "became the challenger of an A/B test",
    "ab_end": "was the challenger of an A/B test that ended",
}


def describe_event(entry: LedgerEntry, version_id: str) -> str:
    """Return what happened to a version, such as `was promoted to production, replacing …`."""
    if version_id not in {entry.version_id, entry.to_version_id}:
        return f"was replaced by {entry.to_version_id} ({entry.action})"
    event = _EVENTS.get(entry.action, entry.action)
    if entry.action in {"promotion", "rollback"} and entry.from_version_id:
        return f"{event}, replacing {entry.from_version_id}"
    return event


def describe_reason(entry: LedgerEntry) -> str:
    """Return why it happened, as a sentence with the scores behind it."""
    return f"{entry.reason.rstrip('.')}{_format_scores(entry.evidence)}."


def _format_scores(evidence: Mapping[str, Any]) -> str:
    old, new, naive = (evidence.get(key) for key in ("metrics_a", "metrics_b", "baseline_metrics"))
    if not (old and new and naive):
        return ""
    scores = f"{new['overall_score']:.4f} against {old['overall_score']:.4f}, naive {naive['overall_score']:.4f}"
    return f": {scores}, on the same {evidence['num_predictions']} posts"


def flatten_options(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each option and its value as in the settings file; those of a mapping as `algorithms.prophet.growth`."""
    for name, value in options.items():
        if isinstance(value, dict) and value:
            yield from flatten_options(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
